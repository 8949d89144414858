//! The verbs that only read: `check`, `dump`, `info`.

use crate::support::{Home, run, verb, verb2};
use pmxcfs::clock::Clock;
use pmxcfs::engine::Engine;
use pmxcfs::memdb::Change;
use pmxcfs::store::Store;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn a_sound_database() {
    let home = Home::golden();
    let before = home.bytes();
    let ran = verb("check", &home.db());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.starts_with("version   29, last change 2026-11-22T15:07:43Z by node 1\n"), "{}", ran.out);
    assert!(ran.out.ends_with("no faults\n"), "{}", ran.out);

    let ran = run(&[OsStr::new("check"), OsStr::new("--json"), home.db().as_os_str()]);
    let json = ran.json();
    assert_eq!((ran.code, &json["clean"], &json["guests"]), (0, &true.into(), &3.into()));
    let index = "aba90413b9fb87dd1ec22392a238cf426cefcb07c80312503291b0f95a1d8b07";
    assert_eq!(json["index"], index);

    let info = verb("info", &home.db());
    assert_eq!(info.code, 0);
    for line in ["version       29", "guests        3 (1 lxc, 2 qemu)", "              2 on n1"] {
        assert!(info.out.lines().any(|printed| printed == line), "{}", info.out);
    }
    assert_eq!(home.bytes(), before, "nothing is left behind or changed");
}

/// What the stock daemon leaves when a directory that is not empty is moved onto another, and a new one is
/// made then: two rows of one name, with which it does not start any more.
const MOVED_ONTO: &str = "INSERT INTO tree VALUES (30, 0, 30, 1, 1795360100, 8, 'storage.cfg', x'6e6577');
    UPDATE tree SET version = 30 WHERE inode = 0";

#[test]
fn every_fault_is_listed() {
    for (sql, rules) in [
        (MOVED_ONTO, &["duplicate-name"][..]),
        ("UPDATE tree SET name = '' WHERE inode = 9", &["no-name"]),
        ("UPDATE tree SET name = '..' WHERE inode IN (9, 11)", &["bad-name", "bad-name"]),
        ("UPDATE tree SET data = x'00' WHERE inode = 5", &["directory-with-data"]),
        ("UPDATE tree SET type = 5 WHERE inode = 9", &["unknown-type"]),
        ("UPDATE tree SET name = 'root' WHERE inode = 0", &["version-row-name"]),
        ("UPDATE tree SET parent = 11 WHERE inode = 9", &["parent-is-file"]),
        ("DELETE FROM tree WHERE inode = 6", &["parent-missing", "parent-missing"]),
        ("UPDATE tree SET parent = 6 WHERE inode = 5", &["loop"]),
        ("UPDATE tree SET name = '101.conf' WHERE inode = 9", &["duplicate-guest"]),
        ("DELETE FROM tree WHERE inode = 0", &["no-version"]),
        ("UPDATE tree SET version = 25 WHERE inode = 0", &["version-ahead", "inode-ahead"]),
        ("UPDATE tree SET data = zeroblob(1048577) WHERE inode = 9", &["too-large"]),
        ("UPDATE tree SET name = replace(hex(zeroblob(2048)), '0', 'n') WHERE inode = 9", &["name-too-long"]),
        ("UPDATE tree SET inode = 4611686018427387905 WHERE inode = 9", &["inode-range"]),
        ("UPDATE tree SET version = 4611686018427387905 WHERE inode IN (0, 9)", &["version-range"; 2]),
        ("UPDATE tree SET version = -1 WHERE inode = 9", &["row-range"]),
        ("UPDATE tree SET mtime = -1 WHERE inode = 9", &["row-range"]),
        ("UPDATE tree SET name = x'61' WHERE inode = 9", &["row-type"]),
        ("UPDATE tree SET inode = -3 WHERE inode = 9", &["row-inode"]),
        ("INSERT INTO tree VALUES (28, 5, 28, 1, 1, 8, 'lxc', NULL)", &["guests-in-file"]),
    ] {
        let home = Home::damaged(sql);
        let before = home.bytes();
        let ran = run(&[OsStr::new("check"), home.db().as_os_str(), OsStr::new("--json")]);
        let json = ran.json();
        let found: Vec<&str> =
            json["faults"].as_array().unwrap().iter().map(|fault| fault["rule"].as_str().unwrap()).collect();
        assert_eq!((ran.code, found.as_slice()), (1, rules), "{sql}: {json}");
        let ran = verb("check", &home.db());
        assert_eq!(ran.code, 1, "{sql}");
        assert!(
            ran.out.lines().filter(|line| line.starts_with("fault ")).count() >= rules.len(),
            "{}",
            ran.out
        );
        for other in ["dump", "info"] {
            assert_eq!(verb(other, &home.db()).code, 0, "{other} after {sql}");
        }
        assert_eq!(home.bytes(), before);
    }
}

#[test]
fn damage_below_the_rows_is_found() {
    let home = Home::empty();
    let db = Engine::open(Store::open(&home.db(), 1).unwrap(), Clock::start()).unwrap();
    for number in 0..50 {
        db.submit_wait(Change::Create { path: format!("file-of-a-long-name-{number}").as_str().into() })
            .unwrap();
    }
    db.close().unwrap();
    drop(db);
    let mut bytes = std::fs::read(home.db()).unwrap();
    let middle = bytes.len() / 2 / 1024 * 1024;
    bytes[middle..middle + 1024].fill(0xff);
    std::fs::write(home.db(), &bytes).unwrap();
    let ran = verb("check", &home.db());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("fault     SQLite: "), "{}", ran.out);
    assert_eq!(std::fs::read(home.db()).unwrap(), bytes);
}

fn dump(home: &Home, path: &[u8], options: &[&str]) -> crate::support::Ran {
    let file = home.db();
    let mut arguments = vec![OsStr::new("dump"), file.as_os_str(), OsStr::from_bytes(path)];
    arguments.extend(options.iter().map(OsStr::new));
    run(&arguments)
}

#[test]
fn one_entry_is_shown_with_its_contents() {
    let home = Home::golden();
    let ran = dump(&home, b"/nodes/n1/qemu-server/100.conf", &[]);
    assert!(
        ran.out.ends_with("\n\nmemory: 512\nname: a\n") && ran.out.contains("inode    9 in 6"),
        "{ran:?}"
    );
    let ran = dump(&home, b"nodes/n1/qemu-server/100.conf", &["--contents"]);
    assert_eq!(ran.out, "memory: 512\nname: a\n");
    let json = dump(&home, b"nodes/n1/qemu-server/100.conf", &["--json"]).json();
    assert_eq!((&json["text"], &json["version"]), (&"memory: 512\nname: a\n".into(), &10.into()));
    let ran = dump(&home, b"nodes/n1", &[]);
    assert!(ran.out.ends_with("\nqemu-server/\n"), "{}", ran.out);
    let complaint = dump(&home, b"nodes/n9", &[]);
    assert!(complaint.complaint().starts_with("there is no 'nodes/n9' in "), "{complaint:?}");
}

#[test]
fn names_that_are_no_text_are_shown_escaped_and_found_by_that() {
    let home =
        Home::damaged("UPDATE tree SET name = CAST(x'ff0a5c61' AS TEXT), data = x'00ff' WHERE inode = 11");
    let ran = verb("dump", &home.db());
    assert!(ran.out.lines().any(|line| line.ends_with(" \\xff\\x0a\\\\a")), "{}", ran.out);
    for path in [&b"\xff\n\\a"[..], b"\\xff\\x0a\\\\a"] {
        let json = dump(&home, path, &["--json"]).json();
        assert_eq!((&json["inode"], &json["hex"]), (&11.into(), &"00ff".into()));
        assert_eq!(json["name"], "\\xff\\x0a\\\\a");
    }
}

/// Read by another process: this one would lose its locks on the file by closing it.
fn bytes_of(path: &Path) -> Vec<u8> {
    std::process::Command::new("cat").arg(path).output().unwrap().stdout
}

#[test]
fn a_database_in_use_is_read_and_left_as_it_is() {
    let home = Home::golden();
    let db = Engine::open(Store::open(&home.db(), 1).unwrap(), Clock::start()).unwrap();
    db.submit_wait(Change::Mkdir { path: "fresh".into() }).unwrap();
    let (wal, shm) = (home.at("config.db-wal"), home.at("config.db-shm"));
    assert!(wal.exists() && shm.exists());
    let before = (bytes_of(&home.db()), bytes_of(&wal));
    assert!(verb("info", &home.db()).out.contains("in use        yes"));
    assert_eq!(verb("check", &home.db()).code, 0);
    assert!(dump(&home, b"fresh", &[]).out.contains("type     dir"), "what is only in the log is seen");
    assert_eq!((bytes_of(&home.db()), bytes_of(&wal)), before);
    db.submit_wait(Change::Mkdir { path: "fresh/more".into() }).unwrap();
    db.close().unwrap();
    drop(db);
    assert!(dump(&home, b"fresh/more", &[]).out.contains("type     dir"));
    assert_eq!(home.bytes().len(), 1);
}

#[test]
fn what_a_crash_left_in_the_log_is_read_and_stays_there() {
    let live = Home::golden();
    let db = Engine::open(Store::open(&live.db(), 1).unwrap(), Clock::start()).unwrap();
    db.submit_wait(Change::Mkdir { path: "fresh".into() }).unwrap();
    let crashed = Home::empty();
    let copy = |name: &str| {
        std::fs::copy(live.at(name), crashed.at(name)).unwrap();
    };
    copy("config.db");
    copy("config.db-wal");
    for with_shared_memory in [false, true] {
        if with_shared_memory {
            copy("config.db-shm");
        }
        let before = crashed.bytes();
        assert!(dump(&crashed, b"fresh", &[]).out.contains("type     dir"));
        assert_eq!(verb("check", &crashed.db()).code, 0);
        assert!(verb("info", &crashed.db()).out.contains("in use        no"));
        assert!(crashed.bytes() == before, "{:?}", crashed.bytes().keys());
    }
    drop(db);
}

#[test]
fn odd_paths_to_the_file() {
    let home = Home::golden();
    let odd = home.dir.path().join(OsStr::from_bytes(b"a ?%#\xff&mode=rwc"));
    std::fs::rename(home.db(), &odd).unwrap();
    assert_eq!(verb("check", &odd).code, 0);
    let link = home.at("link");
    std::os::unix::fs::symlink(&odd, &link).unwrap();
    assert_eq!(verb("check", &link).code, 0);
    let ran = crate::support::command()
        .current_dir(home.dir.path())
        .args([Path::new("check"), Path::new("link")])
        .output()
        .unwrap();
    assert!(ran.status.success());
}

/// Every file in the directory: name, contents, mode and time of its last change.
fn listing(home: &Home) -> Vec<(String, Vec<u8>, u32, i64, i64)> {
    let mut all: Vec<_> = std::fs::read_dir(home.dir.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, bytes_of(&entry.path()), found.mode(), found.mtime(), found.mtime_nsec())
        })
        .collect();
    all.sort();
    all
}

fn run_all_reading_verbs(home: &Home) -> Vec<i32> {
    let other = Home::golden();
    let target = other.at("tree");
    let runs = [
        verb("check", &home.db()),
        verb("dump", &home.db()),
        verb("info", &home.db()),
        verb("repair", &home.db()),
        verb2("diff", &home.db(), &other.db()),
        verb2("diff", &other.db(), &home.db()),
        verb2("export", &home.db(), &target),
    ];
    runs.map(|ran| ran.code).to_vec()
}

#[test]
fn reading_verbs_leave_directory_unchanged() {
    let live = Home::golden();
    let db = Engine::open(Store::open(&live.db(), 1).unwrap(), Clock::start()).unwrap();
    db.submit_wait(Change::Mkdir { path: "fresh".into() }).unwrap();
    let (log, index) = (bytes_of(&live.at("config.db-wal")), bytes_of(&live.at("config.db-shm")));
    let file = bytes_of(&live.db());
    db.close().unwrap();
    for log in [None, Some(&[][..]), Some(&log)] {
        for index in [None, Some(&[][..]), Some(&index)] {
            let home = Home::empty();
            std::fs::write(home.db(), &file).unwrap();
            log.inspect(|log| std::fs::write(home.at("config.db-wal"), log).unwrap());
            index.inspect(|index| std::fs::write(home.at("config.db-shm"), index).unwrap());
            let before = listing(&home);
            let case = format!("log {:?}, index {:?}", log.map(<[u8]>::len), index.map(<[u8]>::len));
            let differs = i32::from(log.is_some_and(|log| !log.is_empty()));
            assert_eq!(run_all_reading_verbs(&home), [0, 0, 0, 0, differs, differs, 0], "{case}");
            assert!(listing(&home) == before, "{case}: {:?}", home.bytes().keys());
        }
    }
}

/// To read the file alone would show an old state, and a new log would be mistaken for the deleted one.
#[test]
fn deleted_log_of_an_open_database_is_refused() {
    let home = Home::golden();
    let db = Engine::open(Store::open(&home.db(), 1).unwrap(), Clock::start()).unwrap();
    db.submit_wait(Change::Mkdir { path: "fresh".into() }).unwrap();
    std::fs::remove_file(home.at("config.db-wal")).unwrap();
    let before = listing(&home);
    let ran = verb("check", &home.db());
    assert!(ran.complaint().contains("config.db-wal' was deleted"), "{ran:?}");
    assert_eq!(listing(&home), before);
}
