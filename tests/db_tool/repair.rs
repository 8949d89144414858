//! `repair`: each kind of damage, what is done about it and why, and that it is done on a copy.

use crate::support::{Home, SmallDisk, repair, rows, run, verb};
use pmxcfs::memdb::{MemDb, Row};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// Damage, the words of one step of its repair, and paths of the repaired tree with what is in them: a
/// directory, or the contents.
type Case = (&'static str, &'static str, &'static [(&'static str, Option<&'static str>)]);

const CASES: &[Case] = &[
    (
        // As the stock daemon leaves it after a directory that is not empty was moved onto another.
        "INSERT INTO tree VALUES (30, 0, 30, 1, 5, 8, 'storage.cfg', x'6e6577');
         UPDATE tree SET version = 30 WHERE inode = 0",
        "inode 30 has the same name and was changed later: at version 30, this one at 19",
        &[("storage.cfg", Some("new")), ("priv/lost+found/11-storage.cfg", Some("abchello\n"))],
    ),
    (
        "INSERT INTO tree VALUES (29, 0, 29, 1, 5, 4, 'nodes', NULL)",
        "inode 4 has the same name, and entries in it; in this one there is nothing",
        &[("nodes/n1/qemu-server", None), ("priv/lost+found/29-nodes", None)],
    ),
    (
        "UPDATE tree SET name = '' WHERE inode = 9",
        "'priv/lost+found/9': it has no name",
        &[("priv/lost+found/9", Some("memory: 512\nname: a\n"))],
    ),
    (
        "UPDATE tree SET name = 'a/b' WHERE inode = 23",
        "'priv/lost+found/23-a_b': no entry can have this name",
        &[("priv/lost+found/23-a_b/lxc", None)],
    ),
    (
        "UPDATE tree SET data = x'616263' WHERE inode = 5",
        "3 bytes of 'nodes/n1' (inode 5) are moved to 'priv/lost+found/5-n1': there are entries in it",
        &[("nodes/n1/qemu-server", None), ("priv/lost+found/5-n1", Some("abc"))],
    ),
    (
        "UPDATE tree SET type = 4 WHERE inode = 11",
        "directory 'storage.cfg' (inode 11) becomes a file: it has contents and there are no entries in it",
        &[("storage.cfg", Some("abchello\n"))],
    ),
    (
        "UPDATE tree SET type = 5 WHERE inode IN (7, 11)",
        "'priv' (inode 7), of unknown type 5, becomes a directory: there are entries in it",
        &[("storage.cfg", Some("abchello\n")), ("priv/lock", None)],
    ),
    (
        "UPDATE tree SET type = 8 WHERE inode = 4",
        "file 'nodes' (inode 4) becomes a directory: there are entries in it, and it has no contents",
        &[("nodes/n1/qemu-server", None)],
    ),
    (
        "UPDATE tree SET name = 'root', data = x'00' WHERE inode = 0",
        "the version row is made as it must be",
        &[("storage.cfg", Some("abchello\n"))],
    ),
    (
        "DELETE FROM tree WHERE inode = 0",
        "the database's version is 28 instead of 0",
        &[("storage.cfg", Some("abchello\n"))],
    ),
    (
        "UPDATE tree SET parent = 11 WHERE inode = 9",
        "what it should be in (inode 11) is a file, and has contents",
        &[
            ("priv/lost+found/9-100.conf", Some("memory: 512\nname: a\n")),
            ("storage.cfg", Some("abchello\n")),
        ],
    ),
    (
        "DELETE FROM tree WHERE inode = 6",
        "directory inode 6 is made again as 'priv/lost+found/6-directory': it is gone",
        &[("priv/lost+found/6-directory/100.conf", Some("memory: 512\nname: a\n")), ("nodes/n1", None)],
    ),
    (
        "UPDATE tree SET parent = 999 WHERE inode = 9",
        "there never was a directory with the number of its parent (999)",
        &[("priv/lost+found/9-100.conf", Some("memory: 512\nname: a\n"))],
    ),
    (
        "UPDATE tree SET parent = 6 WHERE inode = 5",
        "'?5/qemu-server/n1' (inode 5) is moved to 'priv/lost+found/5-n1': it is inside itself, and older than",
        &[("priv/lost+found/5-n1/qemu-server/100.conf", Some("memory: 512\nname: a\n"))],
    ),
    (
        "UPDATE tree SET name = '101.conf' WHERE inode = 9",
        "guest 101 has another configuration, 'nodes/n2/lxc/101.conf' (inode 25), that was changed later",
        &[("priv/lost+found/9-101.conf", Some("memory: 512\nname: a\n")), ("nodes/n2/lxc", None)],
    ),
    (
        "UPDATE tree SET version = 25 WHERE inode = 0",
        "the database's version is 28 instead of 25: it is the highest that any entry has",
        &[("storage.cfg", Some("abchello\n"))],
    ),
    (
        "UPDATE tree SET mtime = -1 WHERE inode = 11",
        "inode 11 ('storage.cfg'): the value is stored as the stock daemon reads it: inode 11: mtime is -1",
        &[("storage.cfg", Some("abchello\n"))],
    ),
    (
        "UPDATE tree SET inode = -3 WHERE inode = 6; UPDATE tree SET parent = -3 WHERE parent = 6",
        "'qemu-server' gets inode 30 instead of -3: no entry can have the other number",
        &[("nodes/n1/qemu-server/100.conf", Some("memory: 512\nname: a\n"))],
    ),
    (
        "INSERT INTO tree VALUES (28, 5, 28, 1, 1, 8, 'lxc', NULL)",
        "a stock daemon starts only with a directory of guests in its place",
        &[("priv/lost+found/28-lxc", Some(""))],
    ),
    (
        "UPDATE tree SET version = 4611686018427387905 WHERE inode = 11",
        "inode 11 ('storage.cfg') gets a new version",
        &[("storage.cfg", Some("abchello\n"))],
    ),
    (
        "UPDATE tree SET version = 4611686018427387904 WHERE inode = 0",
        "the database's version is 29 instead of 4611686018427387904",
        &[("storage.cfg", Some("abchello\n"))],
    ),
    (
        "UPDATE tree SET inode = 4611686018427387903 WHERE inode = 6;
         UPDATE tree SET parent = 4611686018427387903 WHERE parent = 6;
         UPDATE tree SET version = 4611686018427387904 WHERE inode = 0; DELETE FROM tree WHERE inode = 4",
        "'qemu-server' gets inode 29 instead of 4611686018427387903: its number is lowered",
        &[("priv/lost+found/4-directory/n1/qemu-server/100.conf", Some("memory: 512\nname: a\n"))],
    ),
];

fn backups(home: &Home) -> Vec<PathBuf> {
    let all = home.bytes().into_keys();
    all.filter(|path| path.to_string_lossy().contains("before-repair")).collect()
}

/// Loads as the daemon does.
fn load(home: &Home) -> MemDb {
    MemDb::load(rows(&home.db()), Duration::ZERO).unwrap()
}

#[test]
fn each_kind_of_damage() {
    for (sql, words, paths) in CASES {
        let home = Home::damaged(sql);
        let damaged = home.bytes();
        let shown = verb("repair", &home.db());
        assert_eq!(shown.code, 1, "{sql}: {shown:?}");
        assert!(shown.out.contains(words), "{sql}: {}", shown.out);
        assert!(shown.out.contains("nothing was changed"), "{}", shown.out);
        assert_eq!(home.bytes(), damaged, "{sql}");

        let done = repair(&home.db());
        assert_eq!(done.code, 0, "{sql}: {done:?}");
        assert!(done.out.contains(words), "{sql}: {}", done.out);
        let [backup] = &backups(&home)[..] else { panic!("{:?}", home.bytes().keys()) };
        assert_eq!(std::fs::read(backup).unwrap(), damaged[&home.db()], "{sql}");
        assert_eq!(home.bytes().len(), 2, "nothing else is beside it");
        let checked = verb("check", &home.db());
        assert_eq!(checked.code, 0, "{sql}: {checked:?}");
        let tree = load(&home);
        for (path, contents) in *paths {
            let entry = tree.resolve(path.as_bytes()).unwrap_or_else(|| panic!("{sql}: no {path}"));
            let found = entry.content().map(|content| content.as_slice());
            assert_eq!(found, contents.map(str::as_bytes), "{sql}: {path}");
        }
        let again = verb("repair", &home.db());
        assert_eq!((again.code, again.out.as_str()), (0, "nothing to repair\n"));
    }
}

#[test]
fn a_file_that_is_too_large_is_cut_and_its_rest_kept() {
    let home =
        Home::damaged("UPDATE tree SET data = CAST(zeroblob(2097152) AS TEXT) || 'end' WHERE inode = 9");
    assert_eq!(repair(&home.db()).code, 0);
    let tree = load(&home);
    let size = |path: &[u8]| tree.resolve(path).unwrap().size();
    assert_eq!(size(b"nodes/n1/qemu-server/100.conf"), 1 << 20);
    assert_eq!(size(b"priv/lost+found/9-100.conf"), 1 << 20);
    let rest = tree.resolve(b"priv/lost+found/9-100.conf.2").unwrap();
    assert_eq!(rest.content().unwrap().as_slice(), b"end");
}

#[test]
fn name_over_the_limit_goes_to_the_lost() {
    let home =
        Home::damaged("UPDATE tree SET name = replace(hex(zeroblob(2048)), '0', 'n') WHERE inode = 23");
    let done = repair(&home.db());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("a name of 4096 bytes is longer than any can be (4095)"), "{}", done.out);
    let kept = format!("priv/lost+found/23-{}/lxc", "n".repeat(200));
    assert!(load(&home).resolve(kept.as_bytes()).is_some());
}

#[test]
fn a_sound_database_is_not_touched() {
    let home = Home::golden();
    let before = home.bytes();
    let ran = repair(&home.db());
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "nothing to repair\n", ""));
    assert_eq!(home.bytes(), before);
}

#[test]
fn changes_are_versions_like_all_others() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode IN (9, 11)");
    let before = rows(&home.db());
    let ran =
        run(&[OsStr::new("repair"), OsStr::new("--apply"), OsStr::new("--json"), home.db().as_os_str()]);
    let json = ran.json();
    assert_eq!((&json["applied"], json["steps"].as_array().unwrap().len()), (&true.into(), 3));
    let after = rows(&home.db());
    let changed: Vec<&Row> = after.iter().filter(|row| !before.contains(row)).collect();
    let versions: Vec<_> = changed.iter().map(|row| (row.inode, row.version, row.writer)).collect();
    // Version 30 made the directory, 31 and 32 moved what had no name.
    assert_eq!(versions, [(0, 32, 0), (9, 31, 1), (11, 32, 2), (30, 30, 0)]);
    assert_eq!(changed[1].mtime, before.iter().find(|row| row.inode == 9).unwrap().mtime);
}

#[test]
fn last_version_is_lowered_and_nothing_else_changes() {
    let home = Home::golden();
    let before = rows(&home.db());
    home.sql("UPDATE tree SET version = 4611686018427387904 WHERE inode = 0");
    let checked = verb("check", &home.db());
    assert_eq!(checked.code, 1, "{checked:?}");
    let finding = "the database's version is 4611686018427387904, so only 0 more changes are possible";
    assert!(checked.out.contains(finding), "{}", checked.out);
    assert_eq!(repair(&home.db()).code, 0);
    let after = rows(&home.db());
    assert_eq!(after[0], Row { version: 29, ..before[0].clone() });
    assert_eq!(after[1..], before[1..]);
}

#[test]
fn lowered_numbers_keep_their_order() {
    let home = Home::damaged(
        "UPDATE tree SET version = 4611686018427387000 + inode WHERE inode IN (9, 11, 25);
         UPDATE tree SET inode = 4611686018427387001 WHERE inode = 6;
         UPDATE tree SET parent = 4611686018427387001 WHERE parent = 6;
         UPDATE tree SET version = 4611686018427387904 WHERE inode = 0",
    );
    let before = rows(&home.db());
    assert_eq!(repair(&home.db()).code, 0);
    let after = rows(&home.db());
    assert_eq!(before.len(), after.len());
    let numbers = |rows: &[Row]| -> Vec<u64> {
        rows.iter().flat_map(|row| [row.inode, row.parent, row.version]).collect()
    };
    let (before, after) = (numbers(&before), numbers(&after));
    for (one, other) in (0..before.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
        assert_eq!(before[one].cmp(&before[other]), after[one].cmp(&after[other]), "{one} {other}");
    }
    assert!(after.iter().all(|number| *number < 100), "{after:?}");
}

#[test]
fn the_copy_goes_where_it_is_told_and_never_onto_a_file() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode = 9");
    let apply = |backup: &PathBuf| {
        let words = ["repair", "--apply", "--backup"].map(OsStr::new);
        run(&[&words[..], &[backup.as_os_str(), home.db().as_os_str()]].concat())
    };
    let copy = home.at("copy");
    std::fs::write(&copy, "mine").unwrap();
    let before = home.bytes();
    let ran = apply(&copy);
    assert!(
        ran.complaint().contains("there is such a file, or a log of one, already; name another"),
        "{ran:?}"
    );
    let ran = apply(&home.at("nowhere/copy"));
    assert!(ran.complaint().contains("No such file or directory"), "{ran:?}");
    assert_eq!(home.bytes(), before);

    std::fs::remove_file(&copy).unwrap();
    assert_eq!(apply(&copy).code, 0);
    assert_eq!(std::fs::read(&copy).unwrap(), before[&home.db()]);
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o600);
    let ran = run(&[OsStr::new("repair"), OsStr::new("--backup"), copy.as_os_str(), home.db().as_os_str()]);
    assert!(ran.complaint().contains("--apply"), "{ran:?}");
}

#[test]
fn what_a_crash_left_in_the_log_is_copied_and_repaired_too() {
    let live = Home::golden();
    let connection = rusqlite::Connection::open(live.db()).unwrap();
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE tree SET name = '' WHERE inode = 9")
        .unwrap();
    let crashed = Home::empty();
    for name in ["config.db", "config.db-wal"] {
        std::fs::copy(live.at(name), crashed.at(name)).unwrap();
    }
    drop(connection);
    let before = crashed.bytes();
    assert_eq!(verb("repair", &crashed.db()).code, 1);
    assert_eq!(crashed.bytes(), before);
    let copy = crashed.at("copy");
    let words = ["repair", "--apply", "--backup"].map(OsStr::new);
    let ran = run(&[&words[..], &[copy.as_os_str(), crashed.db().as_os_str()]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let after = crashed.bytes();
    let names: Vec<_> = after.keys().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["config.db", "copy", "copy-wal"]);
    assert_eq!(after[&crashed.at("copy")], before[&crashed.db()]);
    assert_eq!(after[&crashed.at("copy-wal")], before[&crashed.at("config.db-wal")]);
    assert_eq!(verb("check", &crashed.db()).code, 0);
}

/// A database of many pages.
fn large() -> Home {
    let home = Home::golden();
    let mut sql = String::from("UPDATE tree SET version = 1000 WHERE inode = 0;");
    for inode in 100..900 {
        let parent = if inode % 3 == 0 { 4 } else { 0 };
        let (name, data) = (format!("file{inode}"), "x".repeat(inode % 600));
        sql += &format!("INSERT INTO tree VALUES ({inode}, {parent}, {inode}, 1, 5, 8, '{name}', '{data}');");
    }
    home.sql(&sql);
    home
}

#[test]
fn a_damaged_file_is_made_anew_of_what_can_be_read() {
    let home = large();
    std::os::unix::fs::chown(home.db(), Some(12), Some(34)).expect("needs root");
    let good = rows(&home.db());
    let mut bytes = std::fs::read(home.db()).unwrap();
    let pages = bytes.len() / 4096;
    for page in [pages / 3, pages / 2, pages - 4] {
        bytes[page * 4096..][..4096].fill(0xff);
    }
    std::fs::write(home.db(), &bytes).unwrap();
    let before = home.bytes();
    let shown = verb("repair", &home.db());
    assert_eq!(shown.code, 1);
    assert!(shown.out.contains("rows that can be read: database disk image is malformed"), "{}", shown.out);
    let dumped = verb("dump", &home.db());
    assert_eq!(dumped.code, 1);
    assert!(
        dumped.out.contains("storage.cfg") && dumped.err.contains("this is not all of"),
        "{}",
        dumped.err
    );
    assert!(verb("check", &home.db()).out.contains("of its rows can be read"));
    assert_eq!(home.bytes(), before);

    let done = repair(&home.db());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(verb("check", &home.db()).code, 0);
    let [backup] = &backups(&home)[..] else { panic!("{:?}", home.bytes().keys()) };
    assert!(std::fs::read(backup).unwrap() == bytes);
    assert_eq!(home.bytes().len(), 2);
    let kept = rows(&home.db());
    let lost = good.iter().filter(|row| !kept.contains(row)).count();
    // Three pages of about ten rows each, and the version row.
    assert!((4..60).contains(&lost), "{lost}");
    let metadata = std::fs::metadata(home.db()).unwrap();
    assert_eq!(
        (std::os::unix::fs::MetadataExt::uid(&metadata), metadata.permissions().mode() & 0o777),
        (12, 0o644)
    );
}

#[test]
fn a_file_that_was_cut_off_is_made_anew_of_what_is_left() {
    let home = large();
    let bytes = std::fs::read(home.db()).unwrap();
    for part in [4, 2, 8] {
        std::fs::write(home.db(), &bytes[..bytes.len() - bytes.len() / part / 4096 * 4096]).unwrap();
        let done = repair(&home.db());
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(verb("check", &home.db()).code, 0);
        assert!(rows(&home.db()).len() > 200);
        backups(&home).iter().for_each(|backup| std::fs::remove_file(backup).unwrap());
    }
    // With the first page everything is gone.
    std::fs::write(home.db(), [&bytes[..100], &vec![0xff; 8092][..]].concat()).unwrap();
    let before = home.bytes();
    assert!(repair(&home.db()).complaint().contains("restore a copy"));
    assert_eq!(home.bytes(), before);
}

#[test]
fn space_is_printed_before_and_checked_first() {
    let damaged = Home::damaged(
        "UPDATE tree SET data = zeroblob(400000) WHERE inode = 9; UPDATE tree SET name = '' WHERE inode = 9",
    );
    let disk = SmallDisk::new(3 << 20);
    std::fs::set_permissions(disk.home.dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::copy(damaged.db(), disk.home.db()).unwrap();
    let size = std::fs::metadata(disk.home.db()).unwrap().len() as usize;
    // Enough for the change and for half of the copy.
    std::fs::write(disk.home.at("ballast"), vec![0; (3 << 20) - size - 1_250_000]).unwrap();
    let before = disk.home.bytes();
    let ran = repair(&disk.home.db());
    assert!(ran.complaint().contains("bytes of free space are needed"), "{ran:?}");
    assert!(disk.home.bytes() == before, "{:?}", disk.home.bytes().keys());
    let shown = run(&["--json".as_ref(), "repair".as_ref(), disk.home.db().as_os_str()]).json();
    let part = &shown["space"][0];
    assert!(part["needed"].as_u64().unwrap() > part["free"].as_u64().unwrap(), "{shown}");

    let elsewhere = Home::empty();
    let copy = elsewhere.at("copy.db");
    let ran = run(&[
        "repair".as_ref(),
        "--apply".as_ref(),
        "--backup".as_ref(),
        copy.as_os_str(),
        disk.home.db().as_os_str(),
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("needs up to "), "{ran:?}");
    assert_eq!((verb("check", &disk.home.db()).code, verb("check", &copy).code), (0, 1));
}
