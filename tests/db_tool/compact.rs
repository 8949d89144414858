//! `compact`: the same rows in small pages.

use crate::support::{Home, rows, verb, verb2};
use rusqlite::Connection;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
