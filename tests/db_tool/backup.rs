//! `backup` and `restore`: copies of a database, and the way back.

use crate::support::{Home, Ran, command, rows, run, verb};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::fcntl::{Flock, FlockArg};
use pmxcfs::clock::Clock;
use pmxcfs::engine::Engine;
use pmxcfs::memdb::Change;
use pmxcfs::store::Store;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tool(name: &str, home: &Home, arguments: &[&OsStr]) -> Ran {
    let database = home.db();
    let all = [OsStr::new(name), OsStr::new("--database"), database.as_os_str()];
    run(&[&all[..], arguments].concat())
}

fn backup(home: &Home, target: &Path) -> Ran {
    tool("backup", home, &[target.as_os_str()])
}

fn restore(home: &Home, copy: &Path) -> Ran {
    tool("restore", home, &[copy.as_os_str()])
}

/// A database in use, whose last change is in its log only.
fn live() -> (Home, Engine) {
    let home = Home::golden();
    let db = Engine::open(Store::open(&home.db(), 1).unwrap(), Clock::start()).unwrap();
    db.submit_wait(Change::Mkdir { path: "fresh".into() }).unwrap();
    (home, db)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn dump_text(database: &Path) -> Vec<u8> {
    let dumped = Command::new("sqlite3").arg(database).arg(".dump").output().unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    dumped.stdout
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn database_in_use_is_copied_with_its_log() {
    let (home, db) = live();
    let target = Home::empty();
    let ran = backup(&home, &target.db());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.contains("version 30, "), "{ran:?}");
    assert_eq!(fs::metadata(target.db()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(target.dir.path()), ["config.db"]);
    db.close().unwrap();
    assert_eq!(rows(&target.db()), rows(&home.db()));
    let before = target.bytes();
    let ran = backup(&home, &target.db());
    assert!(ran.complaint().contains("name another"), "{ran:?}");
    assert_eq!(target.bytes(), before, "no file is overwritten");
}

#[test]
fn oldest_copies_of_own_names_are_removed() {
    let home = Home::golden();
    let dir = Home::empty();
    let old = ["config-20200101-000000.db", "config-20200101-000000-2.db", "config-20210101-000000.db"];
    let foreign = ["config.db", "config-1577836800.sql.gz", "config-20190101-000000.db.txt", "notes"];
    for name in old.iter().chain(&foreign) {
        fs::write(dir.at(name), "kept?").unwrap();
    }
    let keep = |number: &'static str| {
        tool("backup", &home, &[OsStr::new("--keep"), OsStr::new(number), dir.dir.path().as_os_str()])
    };
    let ran = keep("3");
    assert_eq!((ran.code, ran.out.matches("removed '").count()), (0, 1), "{ran:?}");
    assert!(!dir.at(old[0]).exists() && dir.at(old[1]).exists() && dir.at(old[2]).exists());
    assert!(foreign.iter().all(|name| dir.at(name).exists()), "{:?}", names(dir.dir.path()));
    let ran = keep("1");
    assert_eq!((ran.code, ran.out.matches("removed '").count()), (0, 3), "{ran:?}");
    let copies: Vec<String> =
        names(dir.dir.path()).into_iter().filter(|name| !foreign.contains(&name.as_str())).collect();
    let [copy] = copies.as_slice() else { panic!("{copies:?}") };
    assert_eq!(rows(&dir.at(copy)), rows(&home.db()), "the new one stays");
    let ran = tool("backup", &home, &[OsStr::new("--keep"), OsStr::new("1"), dir.at("file").as_os_str()]);
    assert!(ran.complaint().contains("--keep needs one"), "{ran:?}");
    assert_eq!(keep("0").code, 2);
}

#[test]
fn copy_with_faults_removes_no_older_one() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode = 9");
    let dir = Home::empty();
    fs::write(dir.at("config-20200101-000000.db"), "good").unwrap();
    let ran = tool("backup", &home, &[OsStr::new("--keep"), OsStr::new("1"), dir.dir.path().as_os_str()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains("has the faults of the database, 1 fault; no older copy was removed"),
        "{ran:?}"
    );
    assert_eq!(names(dir.dir.path()).len(), 2);
}

/// The same tree from a database, a dump, and a compressed dump.
#[test]
fn all_forms_of_copies_are_restored() {
    let copy = Home::damaged(
        "UPDATE tree SET name = 'it''s; a' || char(10) || 'name' WHERE inode = 11;
         UPDATE tree SET data = 'text' WHERE inode = 9",
    );
    let text = dump_text(&copy.db());
    fs::write(copy.at("copy.sql"), &text).unwrap();
    fs::write(copy.at("config-1795360063.sql.gz"), compressed(&text)).unwrap();
    for name in ["config.db", "copy.sql", "config-1795360063.sql.gz"] {
        let (home, db) = live();
        let before = [fs::read(home.at("config.db")).unwrap(), fs::read(home.at("config.db-wal")).unwrap()];
        db.close().unwrap();
        // As after a crash.
        for (name, contents) in ["config.db", "config.db-wal"].into_iter().zip(&before) {
            fs::write(home.at(name), contents).unwrap();
        }
        fs::write(home.at("config.db-shm"), "index").unwrap();
        let ran = restore(&home, &copy.at(name));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{name}: {ran:?}");
        assert_eq!(rows(&home.db()), rows(&copy.db()), "{name}");
        assert_eq!(fs::metadata(home.db()).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = names(home.dir.path());
        let old = kept.iter().find(|name| name.contains("before-restore") && !name.contains("-wal")).unwrap();
        assert!(ran.out.contains(old.as_str()), "{ran:?}");
        assert_eq!(kept.len(), 4, "{kept:?}");
        for (suffix, contents) in ["", "-wal"].into_iter().zip(&before) {
            assert!(fs::read(home.at(&format!("{old}{suffix}"))).unwrap() == *contents, "{suffix}");
        }
        let check = verb("check", &home.at(old));
        assert!(check.code == 0 && check.out.starts_with("version   30"), "{check:?}");
    }
}

#[test]
fn missing_database_is_restored() {
    let (home, copy) = (Home::empty(), Home::golden());
    let ran = tool("restore", &home, &[copy.db().as_os_str(), OsStr::new("--json")]);
    let json = ran.json();
    assert_eq!((ran.code, &json["old"], &json["version"]), (0, &serde_json::Value::Null, &29.into()));
    assert_eq!(rows(&home.db()), rows(&copy.db()));
    assert_eq!(names(home.dir.path()), ["config.db"]);
}

/// Nothing changes when a restore is refused.
fn assert_refused(home: &Home, copy: &Path, reason: &str) {
    let before = names(home.dir.path());
    let ran = restore(home, copy);
    assert!(ran.complaint().contains(reason), "{reason}: {ran:?}");
    assert_eq!(names(home.dir.path()), before);
}

#[test]
fn database_in_use_is_not_replaced() {
    let copy = Home::golden();
    let (home, db) = live();
    assert_refused(&home, &copy.db(), "is in use by another program");
    db.close().unwrap();
    let lock = File::create(home.at(".pmxcfs.lockfile")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    assert_refused(&home, &copy.db(), "is in use by a running pmxcfs");
    drop(lock);
    assert_eq!(restore(&home, &copy.db()).code, 0);
}

#[test]
fn copies_with_faults_are_refused() {
    let home = Home::golden();
    let copy = Home::damaged("UPDATE tree SET version = 3 WHERE inode = 0");
    assert_refused(&home, &copy.db(), "has faults, so nothing was restored");
    let text = dump_text(&copy.db());
    for (contents, reason) in [
        (text.clone(), "has faults, so nothing was restored"),
        (text[..text.len() - 8].to_vec(), "is not complete"),
        (compressed(&text)[..200].to_vec(), "cannot be restored"),
        (b"PRAGMA foreign_keys=OFF;\nATTACH '/tmp/x' AS x;\nCOMMIT;\n".to_vec(), "statement 2 is none that"),
        (compressed(&vec![b' '; 64 << 20]), "longer than that of the largest file"),
        (b"no database".to_vec(), "not an SQLite database"),
        (Vec::new(), "the file is empty"),
    ] {
        fs::write(home.at("copy"), contents).unwrap();
        assert_refused(&home, &home.at("copy"), reason);
    }
    assert_refused(&home, &home.at("missing"), "check the path");
}

/// Triggers and views of the copy do not get into the database.
#[test]
fn only_rows_of_a_copy_are_restored() {
    let home = Home::golden();
    let copy = Home::damaged(
        "CREATE TABLE other (a); CREATE TRIGGER x AFTER INSERT ON tree BEGIN DELETE FROM tree; END;",
    );
    assert_eq!(restore(&home, &copy.db()).code, 0);
    let names =
        Command::new("sqlite3").arg(home.db()).arg("SELECT name FROM sqlite_master").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&names.stdout), "tree\n");
}

#[test]
fn backup_directory_of_links_is_not_followed() {
    let home = Home::golden();
    let dir = Home::empty();
    let target: PathBuf = dir.at("target");
    fs::create_dir(&target).unwrap();
    let precious = dir.at("precious");
    fs::write(&precious, "text").unwrap();
    std::os::unix::fs::symlink(&precious, target.join("config-20200101-000000.db")).unwrap();
    let arguments: Vec<OsString> =
        ["backup", "--keep", "1", "--database"].iter().map(OsString::from).collect();
    let ran = command().args(arguments).arg(home.db()).arg(&target).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "text");
    assert!(
        target.join("config-20200101-000000.db").symlink_metadata().is_ok(),
        "it is no file of this tool"
    );
}
