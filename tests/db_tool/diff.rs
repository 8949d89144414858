//! `diff`: what two databases do not have in common.

use crate::support::{Home, run, verb2};
use std::ffi::OsStr;

#[test]
fn what_changed_is_told_by_path() {
    let (one, other) = (
        Home::golden(),
        Home::damaged(
            "UPDATE tree SET data = x'6e6577', version = 30 WHERE inode = 11;
             UPDATE tree SET parent = 24, version = 31 WHERE inode = 27;
             DELETE FROM tree WHERE inode = 20;
             INSERT INTO tree VALUES (32, 0, 32, 1, 5, 4, 'fresh', NULL);
             UPDATE tree SET version = 32, mtime = 1795360100 WHERE inode = 0",
        ),
    );
    let before = (one.bytes(), other.bytes());
    let ran = verb2("diff", &one.db(), &other.db());
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let expected = "\
! database: version 29 -> 32, mtime 2026-11-22T15:07:43Z -> 2026-11-22T15:08:20Z
- empty.cfg
+ fresh/
> nodes/n1/qemu-server/102.conf to nodes/n2/lxc/102.conf: version 28 -> 31
! storage.cfg: contents 9 -> 3 bytes, version 19 -> 30
";
    assert_eq!(ran.out, expected);
    let words = ["diff", "--tree", "--json"].map(OsStr::new);
    let ran = run(&[&words[..], &[one.db().as_os_str(), other.db().as_os_str()]].concat());
    let json = ran.json();
    let found: Vec<(&str, &str)> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| (difference["path"].as_str().unwrap(), difference["is"].as_str().unwrap()))
        .collect();
    let (first, second) = ("only in the first", "only in the second");
    assert_eq!(
        found,
        [
            ("empty.cfg", first),
            ("fresh", second),
            ("nodes/n1/qemu-server/102.conf", first),
            ("nodes/n2/lxc/102.conf", second),
            ("storage.cfg", "changed"),
        ]
    );
    assert_eq!((one.bytes(), other.bytes()), before);
}

#[test]
fn the_same_is_the_same() {
    let (one, other) = (Home::golden(), Home::golden());
    let ran = verb2("diff", &one.db(), &other.db());
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    // Only what makes no difference to who reads files.
    other.sql("UPDATE tree SET version = version + 1, writer = 7, mtime = 1");
    let words = ["diff", "--tree"].map(OsStr::new);
    let ran = run(&[&words[..], &[one.db().as_os_str(), other.db().as_os_str()]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(verb2("diff", &one.db(), &other.db()).code, 1);
}

#[test]
fn damaged_databases_are_compared_too() {
    let one = Home::golden();
    let other = Home::damaged(
        "INSERT INTO tree VALUES (30, 0, 30, 1, 5, 8, 'storage.cfg', x'6e6577');
         UPDATE tree SET parent = 77 WHERE inode = 20",
    );
    let ran = verb2("diff", &one.db(), &other.db());
    assert_eq!(ran.code, 1);
    assert_eq!(ran.out, "> empty.cfg to ?77/empty.cfg\n+ storage.cfg\n");
    let ran = verb2("diff", &one.db(), &one.at("missing"));
    assert!(ran.complaint().contains("missing"), "{ran:?}");
}
