//! `export` and `import`: a tree of files from a database, a database from a tree of files.

use crate::support::{Home, rows, run, verb, verb2};
use pmxcfs::memdb::{KIND_DIRECTORY, MemDb, ROOT, Row};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// A database with names and contents of all kinds beside those of the cluster.
fn varied() -> Home {
    Home::damaged(
        "INSERT INTO tree VALUES (30, 0, 30, 1, 0, 8, CAST(x'ff0a5c' AS TEXT), x'00ff00');
         INSERT INTO tree VALUES (31, 7, 31, 1, 4294967295, 8, 'large', zeroblob(1048576));
         INSERT INTO tree VALUES (32, 5, 32, 1, 86400, 4, 'priv', NULL);
         INSERT INTO tree VALUES (33, 32, 33, 1, 1234567890, 8, 'pve-ssl.key', x'6b6579');
         INSERT INTO tree VALUES (34, 6, 34, 1, 5, 8, '100.mount', x'23');
         UPDATE tree SET version = 34 WHERE inode = 0",
    )
}

/// Rows by path, without what an import makes anew: numbers, versions and writers.
fn by_path(rows: &[Row]) -> BTreeMap<Vec<u8>, (u8, u32, Vec<u8>)> {
    let tree = MemDb::load(rows.iter().cloned(), Duration::ZERO).unwrap();
    let entries = rows.iter().filter(|row| row.inode != ROOT);
    let data = |row: &Row| row.data.as_deref().cloned().unwrap_or_default();
    entries
        .map(|row| (tree.path_of(row.inode).unwrap().as_bytes().to_vec(), (row.kind, row.mtime, data(row))))
        .collect()
}

#[test]
fn there_and_back_again() {
    let home = varied();
    let (tree, file, again) = (home.at("tree"), home.at("new.db"), home.at("again"));
    let before = std::fs::read(home.db()).unwrap();
    let ran = verb2("export", &home.db(), &tree);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out, format!("11 files and 8 directories are in '{}'\n", tree.display()));
    assert_eq!(std::fs::read(home.db()).unwrap(), before);
    let ran = verb2("import", &tree, &file);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(verb("check", &file).code, 0);
    let imported = rows(&file);
    assert_eq!(by_path(&imported), by_path(&rows(&home.db())));
    for (number, row) in imported.iter().enumerate().skip(1) {
        let number = number as u64 + 1;
        assert_eq!((row.inode, row.version, row.writer), (number, number, 0));
    }
    assert_eq!(imported[0].version, 20);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);

    // And with all that once more, nothing at all is another.
    assert_eq!(verb2("export", &file, &again).code, 0);
    let other = home.at("other.db");
    assert_eq!(verb2("import", &again, &other).code, 0);
    let without_root = |rows: Vec<Row>| rows.into_iter().skip(1).collect::<Vec<_>>();
    assert_eq!(without_root(rows(&other)), without_root(imported));
    let mut left: Vec<_> =
        std::fs::read_dir(home.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["again", "config.db", "new.db", "other.db", "tree"]);
}

#[test]
fn modes_and_times_are_those_of_the_mounted_tree() {
    let home = varied();
    let tree = home.at("tree");
    assert_eq!(verb2("export", &home.db(), &tree).code, 0);
    let times = by_path(&rows(&home.db()));
    for (path, mode) in [
        (&b"nodes"[..], 0o755),
        (b"storage.cfg", 0o640),
        (b"\xff\n\\", 0o640),
        (b"priv", 0o700),
        (b"priv/lock", 0o700),
        (b"priv/token.cfg", 0o600),
        (b"nodes/n1/priv", 0o700),
        (b"nodes/n1/priv/pve-ssl.key", 0o600),
        (b"nodes/n1/qemu-server/100.mount", 0o740),
    ] {
        let metadata = std::fs::metadata(tree.join(OsStr::from_bytes(path))).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{}", path.escape_ascii());
        assert_eq!(metadata.mtime(), i64::from(times[path].1), "{}", path.escape_ascii());
    }
    assert_eq!(std::fs::metadata(&tree).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_damaged_database_is_repaired_first() {
    let home = Home::damaged("UPDATE tree SET name = '' WHERE inode = 9");
    let before = home.bytes();
    let ran = verb2("export", &home.db(), &home.at("tree"));
    assert!(ran.complaint().contains("is not sound") && ran.complaint().contains("repair"), "{ran:?}");
    assert_eq!(home.bytes(), before);
}

#[test]
fn export_goes_only_where_nothing_is() {
    let home = Home::golden();
    std::fs::create_dir(home.at("empty")).unwrap();
    assert_eq!(verb2("export", &home.db(), &home.at("empty")).code, 0);
    assert!(home.at("empty/nodes/n1").is_dir());
    std::fs::write(home.at("file"), "mine").unwrap();
    let before = home.bytes();
    for (directory, words) in [
        ("empty", "is not empty"),
        ("file", "is no directory"),
        ("nowhere/tree", "No such file or directory"),
        ("..", "is not empty"),
    ] {
        let ran = verb2("export", &home.db(), &home.at(directory));
        assert!(ran.complaint().contains(words), "{directory}: {ran:?}");
    }
    assert_eq!(home.bytes(), before);
}

/// What is wrong with a directory is said with its path, before anything is written.
#[test]
fn import_refuses_what_cannot_be_in_a_database() {
    let large = |path: &Path| std::fs::File::create(path).unwrap().set_len((1 << 20) + 1).unwrap();
    let twice = |path: &Path| {
        for node in ["n1/lxc", "n2/qemu-server"] {
            let dir = path.parent().unwrap().join("nodes").join(node);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("100.conf"), "x").unwrap();
        }
    };
    let guests_in_file = |path: &Path| {
        let node = path.parent().unwrap().join("nodes/n1");
        std::fs::create_dir_all(&node).unwrap();
        std::fs::write(node.join("lxc"), "").unwrap();
    };
    type Make<'a> = &'a dyn Fn(&Path);
    let cases: [(Make<'_>, &str); 6] = [
        (&|path| std::os::unix::fs::symlink("x", path).unwrap(), "odd' is neither a file nor a directory"),
        (
            &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
            "neither a file nor a directory",
        ),
        (&large, "odd' has 1048577 bytes; a file can hold 1048576"),
        (&twice, "guest 100 has two configurations"),
        (&guests_in_file, "['nodes/n1/lxc']"),
        (
            &|path| std::fs::remove_dir_all(path.parent().unwrap()).unwrap(),
            "No such file or directory; check",
        ),
    ];
    for (make, words) in cases {
        let home = Home::empty();
        std::fs::create_dir(home.at("tree")).unwrap();
        make(&home.at("tree").join("odd"));
        let before = home.bytes();
        let ran = verb2("import", &home.at("tree"), &home.db());
        assert!(ran.complaint().contains(words), "{ran:?}");
        assert_eq!(home.bytes(), before);
    }
}

/// Sparse files need no space on the disk, but memory once they are read.
#[test]
fn import_of_too_many_bytes_stops_at_the_limit() {
    let home = Home::empty();
    std::fs::create_dir(home.at("tree")).unwrap();
    for number in 0..200 {
        let file = std::fs::File::create(home.at("tree").join(number.to_string())).unwrap();
        file.set_len(1 << 20).unwrap();
    }
    let ran = verb2("import", &home.at("tree"), &home.db());
    let words =
        "the files read so far have 33024 blocks and 130 entries; a database holds at most 32768 blocks";
    assert!(ran.complaint().contains(words), "{ran:?}");
}

#[test]
fn import_never_replaces_a_database() {
    let home = Home::golden();
    assert_eq!(verb2("export", &home.db(), &home.at("tree")).code, 0);
    std::fs::write(home.at("text"), "mine, and long enough not to be nothing").unwrap();
    std::os::unix::fs::symlink("nowhere", home.at("link")).unwrap();
    let before = home.bytes();
    for (file, words) in [
        ("config.db", "is a database with 14 entries"),
        ("text", "is not an SQLite database"),
        ("tree", "is there and is no file"),
        ("link", "is there and is no file"),
        ("nowhere/new.db", "No such file or directory"),
    ] {
        let ran = verb2("import", &home.at("tree"), &home.at(file));
        assert!(ran.complaint().contains(words), "{file}: {ran:?}");
    }
    assert_eq!(home.bytes(), before);

    // The log of another database would be taken for that of the new one.
    std::fs::write(home.at("stale.db-wal"), "something").unwrap();
    let ran = verb2("import", &home.at("tree"), &home.at("stale.db"));
    assert!(ran.complaint().contains("stale.db-wal' is left of another database; move it away"), "{ran:?}");
    std::fs::remove_file(home.at("stale.db-wal")).unwrap();
    assert_eq!(home.bytes(), before);

    // But one with nothing in it.
    std::fs::write(home.at("nothing"), "").unwrap();
    drop(pmxcfs::store::Store::open(&home.at("fresh"), 1).unwrap().close());
    for file in ["nothing", "fresh"] {
        assert_eq!(verb2("import", &home.at("tree"), &home.at(file)).code, 0, "{file}");
        assert_eq!(rows(&home.at(file)).len(), 15);
    }
    assert_eq!(home.bytes().len(), before.len() + 2);
}

#[test]
fn a_copy_of_a_mounted_tree_is_imported_without_what_is_generated() {
    let home = Home::empty();
    let tree = home.at("tree");
    std::fs::create_dir_all(tree.join("nodes/n1/lxc")).unwrap();
    std::fs::write(tree.join(".version"), "{}").unwrap();
    std::fs::write(tree.join("nodes/.version"), "kept").unwrap();
    std::os::unix::fs::symlink("nodes/n1", tree.join("local")).unwrap();
    std::os::unix::fs::symlink("nodes/n1/lxc", tree.join("lxc")).unwrap();
    std::fs::create_dir(tree.join("openvz")).unwrap();
    let ran = verb2("import", &tree, &home.db());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("left out: '.version', which the daemon makes itself\n"), "{}", ran.out);
    let paths: Vec<OsString> = by_path(&rows(&home.db())).into_keys().map(OsString::from_vec).collect();
    assert_eq!(paths, ["nodes", "nodes/.version", "nodes/n1", "nodes/n1/lxc", "openvz"]);
}

#[test]
fn an_empty_directory_is_an_empty_database() {
    let home = Home::empty();
    std::fs::create_dir(home.at("tree")).unwrap();
    let words = ["import", "--json"].map(OsStr::new);
    let ran = run(&[&words[..], &[home.at("tree").as_os_str(), home.db().as_os_str()]].concat());
    assert_eq!((&ran.json()["entries"], &ran.json()["version"]), (&0.into(), &1.into()));
    let found = rows(&home.db());
    assert_eq!((found.len(), found[0].version), (1, 1));
}

#[test]
fn depth_and_number_do_not_matter() {
    let home = Home::empty();
    let mut path = home.at("tree");
    for _ in 0..60 {
        path.push("directory");
    }
    std::fs::create_dir_all(&path).unwrap();
    for number in 0..3000 {
        std::fs::write(home.at("tree").join(format!("file{number}")), number.to_string()).unwrap();
    }
    std::fs::set_permissions(home.at("tree/file7"), PermissionsExt::from_mode(0o4777)).unwrap();
    assert_eq!(verb2("import", &home.at("tree"), &home.db()).code, 0);
    assert_eq!(verb2("export", &home.db(), &home.at("back")).code, 0);
    let found = rows(&home.db());
    assert_eq!(found.iter().filter(|row| row.kind == KIND_DIRECTORY).count(), 60);
    let mode = std::fs::metadata(home.at("back/file7")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);
}
