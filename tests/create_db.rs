//! The program that the installer runs: what it puts into a database, and how it fails.

use pmxcfs::clock::Clock;
use pmxcfs::memdb::{MemDb, Row};
use pmxcfs::store::Store;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

fn create_pmxcfs_db(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_create_pmxcfs_db")).args(arguments).output().unwrap()
}

/// What it says on stderr when it fails.
fn failure(arguments: &[&Path]) -> String {
    let output = create_pmxcfs_db(arguments);
    assert_eq!(output.status.code(), Some(255));
    assert_eq!(output.stdout, b"");
    String::from_utf8(output.stderr).unwrap()
}

fn rows(path: &Path) -> Vec<Row> {
    Store::open(path, 0).unwrap().load(|rows| rows.collect()).unwrap()
}

/// A directory `files` with one of everything, and the path of a database beside it.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        let files = home.files();
        fs::create_dir(&files).unwrap();
        fs::write(files.join("corosync.conf"), "totem {}\n").unwrap();
        fs::write(files.join("empty"), "").unwrap();
        fs::write(files.join(OsStr::from_bytes(b"caf\xe9")), "latin").unwrap();
        fs::create_dir(files.join("directory")).unwrap();
        std::os::unix::fs::symlink("empty", files.join("link")).unwrap();
        home
    }

    fn files(&self) -> std::path::PathBuf {
        self.dir.path().join("files")
    }

    fn database(&self) -> std::path::PathBuf {
        self.dir.path().join("config.db")
    }
}

#[test]
fn regular_files_become_entries() {
    let home = Home::new();
    let before = Clock::start().unix();
    let output = create_pmxcfs_db(&[&home.files(), &home.database()]);
    assert_eq!((output.status.code(), &output.stdout[..], &output.stderr[..]), (Some(0), &b""[..], &b""[..]));
    assert_eq!(fs::read_dir(home.dir.path()).unwrap().count(), 2, "only the database is left");

    let rows = rows(&home.database());
    let mtime = rows[0].mtime;
    assert!(mtime >= before && mtime <= Clock::start().unix());
    let row = |inode, version, kind, name: &[u8], data: Option<&str>| Row {
        inode,
        parent: 0,
        version,
        writer: 0,
        mtime,
        kind,
        name: name.into(),
        data: data.map(|text| text.as_bytes().to_vec().into()),
    };
    let expected = [
        row(0, 7, 8, b"__version__", None),
        row(2, 3, 8, b"caf\xe9", Some("latin")),
        row(4, 5, 8, b"corosync.conf", Some("totem {}\n")),
        row(6, 7, 8, b"empty", None),
    ];
    assert_eq!(rows, expected);
    assert!(MemDb::load(rows, Default::default()).is_ok());
}

#[test]
fn files_are_added_to_a_database_that_is_there() {
    let home = Home::new();
    fs::copy("tests/golden/cluster.db", home.database()).unwrap();
    let before = rows(&home.database());
    // The database has one of that name.
    let text = failure(&[&home.files(), &home.database()]);
    assert!(text.contains("corosync.conf: exists already"), "{text}");
    assert_eq!(rows(&home.database()), before);

    fs::remove_file(home.files().join("corosync.conf")).unwrap();
    assert!(create_pmxcfs_db(&[&home.files(), &home.database()]).status.success());
    let after = rows(&home.database());
    assert_eq!(after.len(), before.len() + 2);
    assert_eq!((after[0].version, after[after.len() - 2].inode), (33, 30));
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let home = Home::new();
    let usage = "Usage: create_pmxcfs_db /a/dir /a/filename.db\n";
    assert_eq!(failure(&[]), usage);
    assert_eq!(failure(&[&home.files()]), usage);
    assert_eq!(failure(&[&home.files(), &home.database(), &home.database()]), usage);
}

#[test]
fn a_missing_directory_is_named() {
    let home = Home::new();
    let text = failure(&[&home.dir.path().join("nowhere"), &home.database()]);
    assert!(text.starts_with("unable to open dir: No such file or directory"), "{text}");
    assert!(!home.database().exists());
}

#[test]
fn a_file_that_is_too_large_is_named_and_nothing_is_written() {
    let home = Home::new();
    fs::write(home.files().join("large"), vec![0; (1 << 20) + 1]).unwrap();
    let text = failure(&[&home.files(), &home.database()]);
    assert!(text.contains("unable to write large: "), "{text}");
    assert_eq!(rows(&home.database()).len(), 1);
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let home = Home::new();
    fs::write(home.database(), "no database, but the only copy of something\n".repeat(100)).unwrap();
    let text = failure(&[&home.files(), &home.database()]);
    assert!(text.contains("is not an SQLite database"), "{text}");
    assert!(fs::read(home.database()).unwrap().starts_with(b"no database"));
}

/// In a directory of another user the program works on a copy, and follows no links there.
#[test]
fn directory_of_another_user_is_worked_in_with_a_warning() {
    let home = Home::new();
    let theirs = home.dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).expect("needs root");
    let file = theirs.join("config.db");
    let fifo = home.files().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let warning = format!("warning: other users can rename and remove entries of '{}'\n", theirs.display());
    let run = || {
        let output = create_pmxcfs_db(&[&home.files(), &file]);
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap()),
            (Some(0), warning.clone())
        );
    };
    run();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let copy = home.database();
    fs::copy(&file, &copy).unwrap();
    assert_eq!(rows(&copy).len(), 4);

    // An existing database keeps its owner.
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    fs::read_dir(home.files()).unwrap().for_each(|entry| drop(fs::remove_file(entry.unwrap().path())));
    fs::write(home.files().join("more"), "more").unwrap();
    run();
    assert_eq!(fs::metadata(&file).unwrap().uid(), 65534);
    fs::copy(&file, &copy).unwrap();
    assert_eq!(rows(&copy).len(), 5);
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);

    let canary = home.dir.path().join("canary");
    fs::write(&canary, "").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&canary, &file).unwrap();
    let text = failure(&[&home.files(), &file]);
    assert!(text.contains("is a symbolic link that another user can have made"), "{text}");
    assert_eq!(fs::read(&canary).unwrap(), b"");
}

/// Sparse files need no space on the disk, but memory once they are read.
#[test]
fn too_many_bytes_are_refused_before_all_are_read() {
    let home = Home::new();
    for number in 0..200 {
        fs::File::create(home.files().join(format!("z{number:03}"))).unwrap().set_len(1 << 20).unwrap();
    }
    let error = failure(&[&home.files(), &home.database()]);
    assert!(error.contains("z127': the database would be full (128 MiB)"), "{error}");
    assert!(!home.database().exists());
}
