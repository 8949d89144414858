//! What cannot be done is answered with one line that says what to do, and nothing is changed.

use crate::public;
use crate::support::{Home, Ran, SmallDisk, repair, run, verb, verb2};
use nix::fcntl::{Flock, FlockArg};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The verbs that take a database and nothing else.
const VERBS: &[&str] = &["check", "dump", "info", "repair", "compact"];

#[test]
fn wrong_files() {
    let home = Home::empty();
    std::fs::create_dir(home.at("directory")).unwrap();
    std::fs::write(home.at("text"), "only a text, but long enough to be taken for more\n".repeat(99))
        .unwrap();
    std::fs::write(home.at("short"), "SQLite").unwrap();
    std::fs::write(home.at("empty"), "").unwrap();
    let other = rusqlite::Connection::open(home.at("other")).unwrap();
    other.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    drop(other);
    let newer = Home::damaged("ALTER TABLE tree ADD COLUMN acl TEXT");
    std::fs::copy(newer.db(), home.at("newer")).unwrap();
    std::fs::copy("tests/golden/cluster.db", home.at("hot")).unwrap();
    std::fs::write(home.at("hot-journal"), "half of a transaction").unwrap();
    let view = Home::damaged("ALTER TABLE tree RENAME TO t; CREATE VIEW tree AS SELECT * FROM t");
    std::fs::copy(view.db(), home.at("view")).unwrap();
    let before = home.bytes();
    for verb_name in VERBS {
        for (file, words) in [
            ("missing", "No such file or directory; check the path"),
            ("missing/config.db", "No such file or directory; check the path"),
            ("directory", "it is a directory"),
            ("text", "not an SQLite database"),
            ("short", "not an SQLite database"),
            ("empty", "the file is empty"),
            ("other", "there is no table 'tree'"),
            (
                "newer",
                "(inode, parent, version, writer, mtime, type, name, data, acl), which this program does not",
            ),
            ("view", "'tree' is a view"),
            ("hot", "a transaction of another program was cut off"),
        ] {
            let ran = verb(verb_name, &home.at(file));
            assert!(ran.complaint().contains(words), "{verb_name} {file}: {ran:?}");
            assert!(ran.complaint().contains(file), "{verb_name} {file}: {ran:?}");
        }
    }
    assert_eq!(home.bytes(), before);
}

#[test]
fn wrong_command_lines() {
    let golden = Path::new("tests/golden/cluster.db");
    for (arguments, words) in [
        (&[][..], "subcommand"),
        (&["chekc"], "chekc"),
        (&["check"], "FILE"),
        (&["check", "a", "b"], "'b'"),
        (&["check", "--nosuch", "a"], "--nosuch"),
    ] {
        let ran = run(arguments);
        assert!(ran.complaint().contains(words), "{arguments:?}: {ran:?}");
        assert!(ran.complaint().ends_with("; see pmxcfs-db --help"), "{ran:?}");
    }
    let ran = run(&[OsStr::new("dump"), OsStr::new("--contents"), golden.as_os_str()]);
    assert!(ran.complaint().contains("name its PATH too"), "{ran:?}");
    let help = run(&["--help"]);
    assert!(help.code == 0 && help.err.is_empty() && help.out.contains("check"), "{help:?}");
}

/// The verbs that change what is there, so that they would find it in use.
fn changing(home: &Home) -> Vec<(&'static str, Ran)> {
    let file = home.db();
    let import = verb2("import", Path::new("tests/golden"), &file);
    let repair = repair(&file);
    vec![("repair", repair), ("compact", verb("compact", &file)), ("import", import)]
}

#[test]
fn a_database_of_a_running_daemon_is_not_changed() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode = 9");
    let lock_file = std::fs::File::create(home.at(".pmxcfs.lockfile")).unwrap();
    let before = home.bytes();
    let lock = Flock::lock(lock_file, FlockArg::LockExclusiveNonblock).unwrap();
    for (verb, ran) in changing(&home) {
        let words =
            "is in use by a running pmxcfs; stop that first (systemctl stop pve-cluster), or work on a copy";
        assert!(ran.complaint().ends_with(words), "{verb}: {ran:?}");
    }
    // Reading, and what is done to a copy beside it, is nobody's business.
    assert_eq!(verb("check", &home.db()).code, 1);
    std::fs::copy(home.db(), home.at("copy.db")).unwrap();
    assert_eq!(repair(&home.at("copy.db")).code, 0);
    assert_eq!(home.bytes()[&home.db()], before[&home.db()]);
    drop(lock);
    assert_eq!(repair(&home.db()).code, 0);
}

#[test]
fn a_database_that_another_program_has_open_is_not_changed() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode = 9");
    let before = home.bytes();
    let other = rusqlite::Connection::open(home.db()).unwrap();
    other.query_row("SELECT count(*) FROM tree", [], |_| Ok(())).unwrap();
    for (verb, ran) in changing(&home) {
        assert!(ran.complaint().contains("another program holds a lock on it"), "{verb}: {ran:?}");
    }
    drop(other);
    assert_eq!(home.bytes(), before);
}

#[test]
fn no_permission() {
    let home = Home { dir: public::dir() };
    std::fs::copy("tests/golden/cluster.db", home.db()).unwrap();
    home.sql("UPDATE tree SET name = '' WHERE inode = 9");
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    open(&home.db(), 0o600);
    let before = home.bytes();
    let program = public::Copy::of(env!("CARGO_BIN_EXE_pmxcfs-db"));
    let as_nobody = |arguments: &[&OsStr]| {
        let output = program.command_as(65534, 65534).args(arguments).output().unwrap();
        Ran::of(&output)
    };
    let file = home.db();
    for verb in ["check", "dump", "info", "repair", "compact"] {
        let ran = as_nobody(&[OsStr::new(verb), file.as_os_str()]);
        assert!(
            ran.complaint().contains("no permission; run this as root, or on a copy of your own"),
            "{ran:?}"
        );
    }
    open(&home.db(), 0o644);
    let ran = as_nobody(&[OsStr::new("check"), file.as_os_str()]);
    assert_eq!(ran.code, 1, "what may be read is read: {ran:?}");
    for arguments in [&["compact"][..], &["repair", "--apply"]] {
        let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        arguments.push(file.as_os_str());
        let ran = as_nobody(&arguments);
        assert!(
            ran.complaint().contains("is read-only") || ran.complaint().contains("no permission"),
            "{ran:?}"
        );
    }
    let golden = home.at("golden.db");
    std::fs::copy("tests/golden/cluster.db", &golden).unwrap();
    open(&golden, 0o644);
    let ran = as_nobody(&[OsStr::new("export"), golden.as_os_str(), home.at("tree").as_os_str()]);
    assert!(ran.complaint().contains("Permission denied; run this as root, or in"), "{ran:?}");
    let ran = as_nobody(&[OsStr::new("import"), OsStr::new("/usr/share/man"), home.at("new.db").as_os_str()]);
    assert_eq!(ran.complaint().lines().count(), 1, "{ran:?}");
    std::fs::remove_file(&golden).unwrap();
    assert_eq!(home.bytes(), before);
}

#[test]
fn no_space() {
    let large = Home::golden();
    large.sql("UPDATE tree SET data = zeroblob(900000) WHERE inode IN (9, 11)");
    let damaged = Home::damaged(
        "UPDATE tree SET data = zeroblob(900000) WHERE inode IN (9, 11);
         UPDATE tree SET name = '' WHERE inode = 9",
    );
    let disk = SmallDisk::new(3 << 20);
    for (file, verb_name) in
        [(&large, "compact"), (&large, "export"), (&damaged, "repair"), (&large, "import")]
    {
        let home = &disk.home;
        std::fs::copy(file.db(), home.db()).unwrap();
        let elsewhere = Home::empty();
        if verb_name == "import" {
            assert_eq!(verb2("export", &home.db(), &elsewhere.at("tree")).code, 0);
        }
        let before = home.bytes();
        let ran = match verb_name {
            "repair" => repair(&home.db()),
            "export" => verb2("export", &home.db(), &home.at("tree")),
            "import" => verb2("import", &elsewhere.at("tree"), &home.at("new.db")),
            _ => verb(verb_name, &home.db()),
        };
        assert!(ran.complaint().contains("free some space there"), "{verb_name}: {ran:?}");
        assert!(home.bytes() == before, "{verb_name}: {:?}", home.bytes().keys());
    }
    // Enough for the copy, but not for the change.
    let home = &disk.home;
    let large = Home::golden();
    large.sql(
        "UPDATE tree SET data = zeroblob(400000) WHERE inode = 9; UPDATE tree SET name = '' WHERE inode = 9",
    );
    std::fs::copy(large.db(), home.db()).unwrap();
    let size = std::fs::metadata(home.db()).unwrap().len() as usize;
    std::fs::write(home.at("ballast"), vec![0; (3 << 20) - 2 * size.next_multiple_of(4096) - 4096]).unwrap();
    let before = home.bytes();
    let ran = repair(&home.db());
    assert!(ran.complaint().contains("free some space there"), "{ran:?}");
    assert!(home.bytes() == before, "{:?}", home.bytes().keys());
    disk.make_read_only();
    assert_eq!(verb("check", &home.db()).code, 1, "a medium that cannot be written is read");
    for ran in [verb("compact", &home.db()), repair(&home.db())] {
        assert!(ran.complaint().contains("is read-only; make it writable"), "{ran:?}");
    }
}

#[test]
fn what_cannot_be_printed_is_no_success() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&["check"][..], &["dump"], &["info", "--json"]] {
        let mut command = crate::support::command();
        let output = command.args(arguments).arg("tests/golden/cluster.db").stdout(full.try_clone().unwrap());
        let ran = Ran::of(&output.output().unwrap());
        assert!(ran.complaint().starts_with("unable to print: No space left"), "{ran:?}");
    }
}
