//! Opening and reading: what the stock daemon wrote, what is new, and what must be refused.

use crate::support::{Home, NOW, assert_sound, create, mkdir, rows, tree, write};
use pmxcfs::clock::Clock;
use pmxcfs::engine::{Engine, OpenError};
use pmxcfs::store::{Action, Fault, RowFault, Store, StoreError};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// The schema that the stock daemon left in the file.
const STOCK_SCHEMA: &str = "CREATE TABLE tree (  inode INTEGER PRIMARY KEY NOT NULL,  parent INTEGER NOT NULL CHECK(typeof(parent)=='integer'),  version INTEGER NOT NULL CHECK(typeof(version)=='integer'),  writer INTEGER NOT NULL CHECK(typeof(writer)=='integer'),  mtime INTEGER NOT NULL CHECK(typeof(mtime)=='integer'),  type INTEGER NOT NULL CHECK(typeof(type)=='integer'),  name TEXT NOT NULL,  data BLOB)";

fn schema(home: &Home) -> Vec<String> {
    let connection = home.sqlite();
    let mut statement = connection.prepare("SELECT sql FROM sqlite_master").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_new_database_is_that_of_stock() {
    let home = Home::new();
    let store = home.store();
    assert!(store.is_created());
    let mode = std::fs::metadata(home.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    for file in home.files() {
        let mode = std::fs::metadata(home.path().with_file_name(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
    store.close().unwrap();
    assert_eq!(home.files(), ["config.db"]);
    assert_eq!(schema(&home), [STOCK_SCHEMA]);
    assert_sound(&home.path());

    let store = home.store();
    assert!(!store.is_created());
    let rows = rows(&store);
    assert_eq!(rows.len(), 1);
    let root = &rows[0];
    assert_eq!((root.inode, root.parent, root.version, root.writer), (0, 0, 1, 0));
    assert_eq!((root.mtime, root.kind, &*root.name, &root.data), (NOW, 8, &b"__version__"[..], &None));
    assert_eq!(tree(&store).version(), 1);
}

#[test]
fn a_database_of_stock_is_read_and_kept() {
    let home = Home::golden();
    assert_eq!(schema(&home), [STOCK_SCHEMA]);
    let store = home.store();
    assert!(!store.is_created());
    let before = rows(&store);
    let db = Engine::open(store, Clock::start()).unwrap();
    {
        let tree = db.read();
        assert_eq!((tree.version(), tree.root().writer, tree.root().mtime), (29, 1, 1795360063));
        let config = tree.resolve(b"nodes/n1/qemu-server/100.conf").unwrap();
        assert_eq!(config.content().unwrap().as_slice(), b"memory: 512\nname: a\n");
        assert!(tree.resolve(b"empty.cfg").unwrap().content().unwrap().is_empty());
        assert!(tree.resolve(b"priv/lock").unwrap().is_dir());
    }
    db.close().unwrap();
    assert_eq!(rows(&home.store()), before);

    // And on from there: only what changed is another.
    let db = home.db();
    db.submit_wait(write("storage.cfg", b"other")).unwrap();
    db.submit_wait(mkdir("nodes/n3")).unwrap();
    db.close().unwrap();
    assert_eq!(schema(&home), [STOCK_SCHEMA]);
    assert_sound(&home.path());
    let after = rows(&home.store());
    let changed: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
    let [root, storage, node] = changed[..] else { panic!("{changed:?}") };
    assert_eq!((root.inode, root.version, root.writer, root.kind), (0, 31, 0, 8));
    assert_eq!((storage.inode, storage.version, storage.writer), (11, 30, 0));
    assert_eq!(storage.data.as_ref().unwrap().as_slice(), b"otherllo\n");
    assert_eq!((node.inode, node.version, node.parent, node.kind), (31, 31, 4, 4));
    assert_eq!(after.len(), before.len() + 1);
}

#[test]
fn the_version_row_of_a_node_that_was_behind_is_a_directory() {
    let home = Home::golden();
    home.sqlite().execute_batch("UPDATE tree SET type = 4 WHERE inode = 0").unwrap();
    let db = home.db();
    assert_eq!(db.read().version(), 29);
    db.submit_wait(mkdir("x")).unwrap();
    drop(db);
    assert_eq!(rows(&home.store())[0].kind, 8);
}

#[test]
fn names_are_bytes() {
    let home = Home::new();
    let db = home.db();
    let name = b"\xff\xfe caf\xe9 'quoted'.cfg";
    let path = pmxcfs::memdb::TreePath::new(name);
    db.submit_wait(pmxcfs::memdb::Change::Create { path: path.clone() }).unwrap();
    db.sync_wait().unwrap();
    drop(db);
    let connection = home.sqlite();
    let query = "SELECT typeof(name), CAST(name AS BLOB) FROM tree WHERE inode = 2";
    let (kind, bytes): (String, Vec<u8>) =
        connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((kind.as_str(), bytes.as_slice()), ("text", &name[..]));
    assert!(tree(&home.store()).resolve(name).is_some());
}

#[test]
fn nothing_is_null_and_not_an_empty_blob() {
    let home = Home::new();
    let db = home.db();
    db.submit_wait(create("empty")).unwrap();
    db.submit_wait(mkdir("directory")).unwrap();
    drop(db);
    let query = "SELECT count(*) FROM tree WHERE data IS NULL";
    assert_eq!(home.sqlite().query_row(query, [], |row| row.get::<_, u32>(0)).unwrap(), 3);
}

#[test]
fn contents_may_be_text_typed_by_an_admin() {
    let home = Home::golden();
    home.sqlite().execute_batch("UPDATE tree SET data = 'a: b' WHERE name = 'storage.cfg'").unwrap();
    let db = home.db();
    let tree = db.read();
    assert_eq!(tree.resolve(b"storage.cfg").unwrap().content().unwrap().as_slice(), b"a: b");
}

/// The text of the error with which the golden database is refused after `sql`.
fn refusal(sql: &str) -> String {
    let home = Home::golden();
    home.sqlite().execute_batch(sql).unwrap();
    let text = match Store::open(&home.path(), NOW).map(|store| Engine::open(store, Clock::start())) {
        Err(error) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) => panic!("opened after {sql}"),
    };
    // Whatever it is, it says which file.
    assert!(text.contains(home.path().to_str().unwrap()), "{text}");
    text
}

#[test]
fn rows_that_break_a_rule_are_named() {
    let insert = "INSERT INTO tree VALUES";
    for (sql, complaint) in [
        ("UPDATE tree SET name = '' WHERE inode = 9", "inode 9 has no name"),
        ("UPDATE tree SET data = x'00' WHERE inode = 5", "directory inode 5 contains data"),
        ("UPDATE tree SET type = 5 WHERE inode = 9", "inode 9 has unknown type 5"),
        ("UPDATE tree SET name = 'root' WHERE inode = 0", "unexpected name 'root'"),
        ("UPDATE tree SET parent = 11 WHERE inode = 9", "the parent 11 of inode 9 ('100.conf') is a file"),
        ("DELETE FROM tree WHERE inode = 24", "the parent 24 of inode 25 ('101.conf') does not exist"),
        (&format!("{insert} (28, 6, 28, 1, 1, 8, '100.conf', NULL)"), "inodes 9 and 28 have the same name"),
        (&format!("{insert} (28, 24, 28, 1, 1, 8, '100.conf', NULL)"), "guest 100 has two configurations"),
        ("UPDATE tree SET parent = 6 WHERE inode = 5", "inside itself"),
    ] {
        let text = refusal(sql);
        assert!(text.contains(complaint), "{sql}: {text}");
    }
}

#[test]
fn rows_that_are_no_rows_are_named() {
    let loose =
        "CREATE TABLE loose AS SELECT * FROM tree; DROP TABLE tree; ALTER TABLE loose RENAME TO tree;";
    for (sql, complaint) in [
        ("UPDATE tree SET mtime = -3 WHERE inode = 9", "inode 9: mtime is -3, which is out of range"),
        ("UPDATE tree SET writer = 4294967296 WHERE inode = 9", "inode 9: writer is 4294967296"),
        ("UPDATE tree SET version = -1 WHERE inode = 9", "inode 9: version is -1"),
        ("UPDATE tree SET parent = -1 WHERE inode = 9", "inode 9: parent is -1"),
        ("UPDATE tree SET type = 264 WHERE inode = 9", "inode 9: type is 264"),
        ("UPDATE tree SET name = x'61' WHERE inode = 9", "inode 9: name is a blob, not text"),
        ("UPDATE tree SET data = 5 WHERE inode = 9", "inode 9: data is an integer, not a blob"),
        ("UPDATE tree SET inode = -9 WHERE inode = 9", "a row has -9 as its inode"),
        (&format!("{loose} UPDATE tree SET inode = 'x' WHERE inode = 9"), "a row has text as its inode"),
        (&format!("{loose} UPDATE tree SET mtime = 'x' WHERE inode = 9"), "inode 9: mtime is text"),
        ("ALTER TABLE tree RENAME COLUMN mtime TO time", "no such column: mtime"),
        ("ALTER TABLE tree RENAME TO t; CREATE VIEW tree AS SELECT * FROM t", "'tree' is a view"),
    ] {
        let text = refusal(sql);
        assert!(text.contains(complaint), "{sql}: {text}");
    }
    let fault = RowFault::OutOfRange { inode: 1, column: "mtime", value: -1 };
    let error = StoreError { path: "/a".into(), action: Action::Read, fault: Fault::Row(fault) };
    assert!(error.to_string().starts_with("unable to read database '/a': inode 1: mtime is -1"));
}

#[test]
fn what_is_not_a_database_is_not_touched() {
    let home = Home::new();
    let text = b"this is a text, and long enough to be taken for one: ".repeat(100);
    std::fs::write(home.path(), &text).unwrap();
    let error = Store::open(&home.path(), NOW).unwrap_err();
    assert_eq!((error.action, error.fault), (Action::Open, Fault::NotADatabase));
    assert_eq!(std::fs::read(home.path()).unwrap(), text);

    let home = Home::new();
    std::fs::create_dir(home.path()).unwrap();
    assert_eq!(Store::open(&home.path(), NOW).unwrap_err().fault, Fault::IsDirectory);
}

#[test]
fn a_damaged_file_is_refused() {
    let home = Home::new();
    let db = home.db();
    for number in 0..50 {
        db.submit_wait(create(&format!("file{number}"))).unwrap();
        db.submit_wait(write(&format!("file{number}"), &[b'x'; 700])).unwrap();
    }
    drop(db);
    let mut bytes = std::fs::read(home.path()).unwrap();
    let middle = bytes.len() / 2 / 1024 * 1024;
    bytes[middle..middle + 1024].fill(0xff);
    std::fs::write(home.path(), &bytes).unwrap();
    let error = Engine::open(home.store(), Clock::start()).unwrap_err();
    let OpenError::Store(StoreError { action: Action::Read, fault: Fault::Corrupt(_), .. }) = &error else {
        panic!("{error}");
    };
    assert!(error.to_string().contains("restore a copy"), "{error}");
}

#[test]
fn a_missing_directory_is_named() {
    let home = Home::new();
    let path = home.path().with_file_name("missing").join("config.db");
    let error = Store::open(&path, NOW).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("No such file"), "{error}");
}

#[test]
fn a_locked_database_is_waited_for_and_then_reported() {
    let home = Home::golden();
    let other = home.sqlite();
    // Of the time before write-ahead logs: nobody else can so much as read.
    other.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").unwrap();
    let error = Store::open_with_timeout(&home.path(), NOW, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.fault, Fault::Locked);
    assert!(error.to_string().contains("fuser -v"), "{error}");

    let path = home.path();
    let opening = std::thread::spawn(move || Store::open(&path, NOW).unwrap());
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(tree(&opening.join().unwrap()).version(), 29);
}
