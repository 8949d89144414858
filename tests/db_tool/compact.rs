//! `compact`: the same rows in small pages.

use crate::support::{Home, SmallDisk, rows, run, verb, verb2};
use rusqlite::Connection;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn page_size(home: &Home) -> u32 {
    let connection = Connection::open(home.db()).unwrap();
    connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap()
}

#[test]
fn the_same_rows_in_small_pages() {
    let home = Home::golden();
    home.sql("UPDATE tree SET data = zeroblob(500000) WHERE inode = 9; UPDATE tree SET data = NULL WHERE inode = 9");
    std::fs::set_permissions(home.db(), PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(home.db(), Some(12), Some(34)).expect("needs root");
    assert_eq!(page_size(&home), 4096);
    let (before, old) = (rows(&home.db()), home.at("old"));
    std::fs::copy(home.db(), &old).unwrap();
    let ran = verb("compact", &home.db());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.ends_with(" of 1024\n"), "{}", ran.out);
    assert_eq!(page_size(&home), 1024);
    assert_eq!(rows(&home.db()), before);
    assert_eq!((verb("check", &home.db()).code, verb2("diff", &old, &home.db()).code), (0, 0));
    let metadata = std::fs::metadata(home.db()).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o600, 12, 34));
    assert!(metadata.len() < 8192);
    std::fs::remove_file(old).unwrap();
    assert_eq!(home.bytes().len(), 1);
    // As a daemon leaves it.
    assert!(verb("info", &home.db()).out.contains("journal mode  wal"));
}

#[test]
fn damaged_rows_stay_and_a_damaged_file_is_refused() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode = 9");
    let before = rows(&home.db());
    assert_eq!(verb("compact", &home.db()).code, 0);
    assert_eq!(rows(&home.db()), before);

    home.sql("UPDATE tree SET mtime = 'x' WHERE inode = 9");
    let before = home.bytes();
    let ran = verb("compact", &home.db());
    assert!(
        ran.complaint().contains("is damaged, repair or restore it first: CHECK constraint failed"),
        "{ran:?}"
    );
    assert_eq!(home.bytes(), before);
}

#[test]
fn what_a_crash_left_in_the_log_is_not_lost() {
    let live = Home::golden();
    let connection = Connection::open(live.db()).unwrap();
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE tree SET data = 'late' WHERE inode = 9")
        .unwrap();
    let crashed = Home::empty();
    for name in ["config.db", "config.db-wal"] {
        std::fs::copy(live.at(name), crashed.at(name)).unwrap();
    }
    drop(connection);
    assert_eq!(verb("compact", &crashed.db()).code, 0);
    assert_eq!(crashed.bytes().len(), 1);
    let row = rows(&crashed.db()).into_iter().find(|row| row.inode == 9).unwrap();
    assert_eq!(row.data.unwrap().as_slice(), b"late");
}

#[test]
fn full_disk_refuses_compact_and_other_place_works() {
    let large = Home::golden();
    large.sql("UPDATE tree SET data = zeroblob(400000) WHERE inode = 9");
    let size = std::fs::metadata(large.db()).unwrap().len();
    let disk = SmallDisk::new(4 << 20);
    std::fs::set_permissions(disk.home.dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::copy(large.db(), disk.home.db()).unwrap();
    // Enough for the new file, but not for a copy of the old one.
    let ballast = (4 << 20) - size as usize * 3 - (384 << 10);
    std::fs::write(disk.home.at("ballast"), vec![0; ballast]).unwrap();
    let before = disk.home.bytes();
    let compact = |backup: &Path| {
        let (verb, option) = (OsStr::new("compact"), OsStr::new("--backup"));
        run(&[verb, disk.home.db().as_os_str(), option, backup.as_os_str()])
    };
    let ran = compact(&disk.home.at("copy.db"));
    let complaint = ran.complaint();
    assert!(
        complaint.starts_with("up to ") && complaint.contains("bytes of free space are needed"),
        "{ran:?}"
    );
    assert!(complaint.contains("--backup"), "{ran:?}");
    assert!(disk.home.bytes() == before, "{:?}", disk.home.bytes().keys());

    let (elsewhere, old) = (Home::empty(), std::fs::read(disk.home.db()).unwrap());
    let ran = compact(&elsewhere.at("copy.db"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.starts_with("needs up to "), "{ran:?}");
    assert!(std::fs::read(elsewhere.at("copy.db")).unwrap() == old);
    assert_eq!(verb2("diff", &elsewhere.at("copy.db"), &disk.home.db()).code, 0);
}

#[test]
fn existing_backup_stays_and_nothing_is_compacted() {
    let home = Home::golden();
    std::fs::write(home.at("mine"), "precious").unwrap();
    let before = home.bytes();
    let (verb, option) = (OsStr::new("compact"), OsStr::new("--backup"));
    let ran = run(&[verb, home.db().as_os_str(), option, home.at("mine").as_os_str()]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("already"), "{ran:?}");
    assert!(home.bytes() == before, "{:?}", home.bytes().keys());
}
