//! Tools run by root in a directory that another user can write to. Each verb works on a copy, keeps owner
//! and mode, and warns. Links, FIFOs and logs of other users are refused.

use crate::support::{Home, Ran, command, repair, rows, run, verb, verb2};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// The other user.
const OTHER: u32 = 65534;

/// A directory of the other user, with a database in it.
fn exposed(home: &Home) -> PathBuf {
    let path = home.at("theirs");
    std::fs::create_dir(&path).unwrap();
    chown(&path, Some(OTHER), Some(OTHER)).expect("needs root");
    std::fs::rename(home.db(), path.join("config.db")).unwrap();
    give(&path.join("config.db"), 0o640);
    path
}

fn give(path: &Path, mode: u32) {
    chown(path, Some(OTHER), Some(OTHER)).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

/// Asserts success, with only the warning on standard error.
fn assert_warned(ran: &Ran, path: &Path) {
    let warning = format!(
        "pmxcfs-db: warning: other users can rename and remove entries of '{}', and so exchange what is made \
         there; use a directory that only root can write to\n",
        path.display()
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, warning.as_str()), "{ran:?}");
}

#[test]
fn verbs_in_exposed_directory_do_their_work() {
    let home = Home::golden();
    let theirs = exposed(&home);
    let file = theirs.join("config.db");
    let before = rows(&file);
    for (words, code) in [("check", 0), ("dump", 0), ("info", 0)] {
        let ran = verb(words, &file);
        assert_eq!((ran.code, ran.err.as_str()), (code, ""), "{ran:?}");
    }
    assert_eq!(verb2("diff", &file, Path::new("tests/golden/cluster.db")).code, 0);
    assert_eq!(names(&theirs), ["config.db"]);

    assert_warned(&verb("compact", &file), &theirs);
    assert_eq!((rows(&file), owner_and_mode(&file)), (before.clone(), (OTHER, OTHER, 0o640)));
    assert_warned(&verb2("export", &file, &theirs.join("tree")), &theirs);
    assert_eq!(owner_and_mode(&theirs.join("tree/storage.cfg")).2, 0o640);
    assert_warned(&verb2("import", &theirs.join("tree"), &theirs.join("new.db")), &theirs);
    assert_eq!(owner_and_mode(&theirs.join("new.db")), (0, 0, 0o600));
    assert_eq!(rows(&theirs.join("new.db")).len(), before.len());
    assert_eq!(names(&theirs), ["config.db", "new.db", "tree"]);
}

#[test]
fn repair_in_exposed_directory_keeps_owner_and_copy() {
    for sql in ["UPDATE tree SET name = '' WHERE inode = 9", "UPDATE tree SET mtime = 'x' WHERE inode = 9"] {
        let home = Home::damaged(sql);
        let theirs = exposed(&home);
        let file = theirs.join("config.db");
        let before = std::fs::read(&file).unwrap();
        assert_eq!(verb("check", &file).code, 1);
        assert_warned(&repair(&file), &theirs);
        assert_eq!((verb("check", &file).code, owner_and_mode(&file)), (0, (OTHER, OTHER, 0o640)), "{sql}");
        let names = names(&theirs);
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(std::fs::read(theirs.join(&names[1])).unwrap(), before);
        assert_eq!(owner_and_mode(&theirs.join(&names[1])), (0, 0, 0o600));
    }
}

/// A log left by a crash is read, and checkpointed into the file.
#[test]
fn log_left_in_exposed_directory_is_not_lost() {
    let live = Home::golden();
    let connection = rusqlite::Connection::open(live.db()).unwrap();
    connection
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0; UPDATE tree SET data = 'late' WHERE inode = 9;
             UPDATE tree SET name = '' WHERE inode = 11",
        )
        .unwrap();
    for verb_name in ["compact", "repair"] {
        let home = Home::golden();
        let theirs = exposed(&home);
        let (file, log) = (theirs.join("config.db"), theirs.join("config.db-wal"));
        for suffix in ["", "-wal"] {
            let name = format!("config.db{suffix}");
            std::fs::copy(live.at(&name), theirs.join(&name)).unwrap();
        }
        // A log of root is accepted like one of the owner; a log of another user is refused.
        chown(&log, Some(12), Some(34)).unwrap();
        let ran = verb("check", &file);
        let words = "config.db-wal' belongs to user 12, the database to user 65534; move the log away";
        assert!(ran.complaint().contains(words), "{ran:?}");
        give(&log, 0o640);
        let contents =
            || run(&[OsStr::new("dump"), file.as_os_str(), OsStr::new("nodes/n1/qemu-server/100.conf")]);
        assert!(contents().out.ends_with("late"), "{:?}", contents());
        let ran = if verb_name == "repair" { repair(&file) } else { verb("compact", &file) };
        assert_warned(&ran, &theirs);
        assert!(contents().out.ends_with("late"), "{verb_name}: {:?}", contents());
        assert!(!log.exists(), "{verb_name}: {:?}", names(&theirs));
        assert_eq!(verb("check", &file).code, i32::from(verb_name == "compact"));
    }
}

#[test]
fn database_in_use_in_exposed_directory_is_only_read() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode = 9");
    let theirs = exposed(&home);
    let file = theirs.join("config.db");
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE tree SET data = 'late' WHERE inode = 11")
        .unwrap();
    for ran in [repair(&file), verb("compact", &file)] {
        assert!(ran.complaint().contains("another program holds a lock on it"), "{ran:?}");
    }
    assert!(verb("info", &file).out.contains("in use        yes"), "{:?}", verb("info", &file));
    let ran = run(&[OsStr::new("dump"), file.as_os_str(), OsStr::new("storage.cfg")]);
    assert!(ran.code == 0 && ran.out.ends_with("late"), "{ran:?}");
    // A reader waits for a writer, so it reads the state of one version.
    other.execute_batch("BEGIN IMMEDIATE; UPDATE tree SET data = 'later' WHERE inode = 11").unwrap();
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| run(&[OsStr::new("dump"), file.as_os_str(), OsStr::new("storage.cfg")]));
        // Long enough for a reader that does not wait.
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!reader.is_finished());
        other.execute_batch("COMMIT").unwrap();
        reader.join().unwrap()
    });
    assert!(read.code == 0 && read.out.ends_with("later"), "{read:?}");
    drop(other);
    assert_eq!(repair(&file).code, 0);
}

#[test]
fn entries_that_are_no_files_are_refused() {
    let home = Home::golden();
    let good = home.at("good.db");
    std::fs::copy(home.db(), &good).unwrap();
    let fifo = |name: &str| nix::unistd::mkfifo(&home.at(name), Mode::S_IRWXU).unwrap();
    fifo("fifo");
    for verb_name in ["check", "dump", "info", "repair", "compact"] {
        let ran = verb(verb_name, &home.at("fifo"));
        let words = "fifo': it is a FIFO, not a regular file; remove it or name another";
        assert!(ran.complaint().contains(words), "{ran:?}");
        let ran = verb(verb_name, Path::new("/dev/null"));
        assert!(ran.complaint().contains("it is a device, not a regular file"), "{ran:?}");
        for suffix in ["-wal", "-shm", "-journal"] {
            fifo(&format!("config.db{suffix}"));
            let ran = verb(verb_name, &home.db());
            assert!(
                ran.complaint().contains(&format!("config.db{suffix}' beside it: it is a FIFO")),
                "{ran:?}"
            );
            std::fs::remove_file(home.at(&format!("config.db{suffix}"))).unwrap();
        }
    }
    fifo(".pmxcfs.lockfile");
    for ran in [repair(&home.db()), verb("compact", &home.db())] {
        assert!(ran.complaint().contains(".pmxcfs.lockfile': it is a FIFO, not a regular file"), "{ran:?}");
    }
    std::fs::create_dir(home.at("tree")).unwrap();
    fifo("tree/fifo");
    for (tree, target, words) in [
        ("tree", "new.db", "fifo' is neither a file nor a directory"),
        ("tree", "fifo", "is there and is no file"),
        ("good.db", "new.db", "it is a regular file, not a directory"),
    ] {
        let ran = verb2("import", &home.at(tree), &home.at(target));
        assert!(ran.complaint().contains(words), "{ran:?}");
    }
    symlink(home.at("elsewhere"), home.at("link")).unwrap();
    let ran = verb2("export", &good, &home.at("link"));
    assert_eq!((ran.code, home.at("elsewhere").exists()), (2, false), "{ran:?}");
}

/// A link is followed only in a directory where no other user can have made it.
#[test]
fn links_of_others_are_refused() {
    let home = Home::golden();
    symlink(home.db(), home.at("link.db")).unwrap();
    assert_eq!(verb("check", &home.at("link.db")).code, 0);
    let secret = Home::golden();
    let theirs = exposed(&home);
    let (link, up) = (theirs.join("link.db"), theirs.join("up"));
    symlink(secret.db(), &link).unwrap();
    symlink(secret.dir.path(), &up).unwrap();
    for path in [&link, &up.join("config.db")] {
        for ran in
            [verb("check", path), repair(path), verb("compact", path), verb2("export", path, &home.at("x"))]
        {
            let words = "is a symbolic link that another user can have made; give the path that it leads to";
            assert!(ran.complaint().contains(words), "{ran:?}");
        }
    }
    let ran = verb2("export", &secret.db(), &up.join("tree"));
    assert!(ran.complaint().contains("is a symbolic link that another user can have made"), "{ran:?}");
    assert_eq!(names(secret.dir.path()), ["config.db"]);
}

/// SQLite must not work in a directory that others can write to, not even the one for temporary files.
#[test]
fn exposed_temporary_directory_is_refused() {
    let home = Home::golden();
    let theirs = exposed(&home);
    let compact = command().arg("compact").arg(theirs.join("config.db")).env("TMPDIR", &theirs).output();
    let ran = Ran::of(&compact.unwrap());
    assert!(ran.complaint().ends_with("set TMPDIR to a directory that only you can write to"), "{ran:?}");
    assert_eq!(names(&theirs), ["config.db"]);
}

/// A sparse file needs no space on the disk, but its copy does.
#[test]
fn sparse_file_in_exposed_directory_is_not_copied() {
    const BYTES: u64 = 5 << 30;
    for (suffix, words) in
        [("", "config.db': it has 5368709120 bytes"), ("-wal", "config.db': its log has 5368709120")]
    {
        let home = Home::golden();
        let theirs = exposed(&home);
        let (file, large) = (theirs.join("config.db"), theirs.join(format!("config.db{suffix}")));
        let open = std::fs::File::options().create(true).append(true).open(&large).unwrap();
        open.set_len(BYTES).unwrap();
        give(&large, 0o640);
        for ran in
            [verb("check", &file), verb("compact", &file), verb2("export", &file, &theirs.join("tree"))]
        {
            assert!(ran.code == 2 && ran.err.contains(words), "{ran:?}");
        }
    }
}
