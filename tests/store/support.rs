//! A database in a directory of its own, and shorthands for what tests do with it.

use pmxcfs::clock::Clock;
use pmxcfs::db::Db;
use pmxcfs::memdb::{Change, MemDb, Row, TreePath, WriteAt};
use pmxcfs::store::Store;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds since 1970 at which all databases of the tests are made.
pub const NOW: u32 = 1_700_000_000;

pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a copy of the database of the recorded cluster.
    pub fn golden() -> Self {
        let home = Self::new();
        std::fs::copy("tests/golden/cluster.db", home.path()).unwrap();
        home
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("config.db")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path(), NOW).unwrap()
    }

    pub fn db(&self) -> Db {
        Db::open(self.store(), Clock::start()).unwrap()
    }

    /// A connection as an admin's sqlite3 has it.
    pub fn sqlite(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// The names of all files in the directory, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn tree(store: &Store) -> MemDb {
    store.load(|rows| MemDb::load(rows, Duration::ZERO)).unwrap().unwrap()
}

pub fn rows(store: &Store) -> Vec<Row> {
    store.load(|rows| rows.collect()).unwrap()
}

/// SQLite's own verdict on the file.
pub fn assert_sound(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

pub fn create(path: &str) -> Change {
    Change::Create { path: path.into() }
}

pub fn mkdir(path: &str) -> Change {
    Change::Mkdir { path: path.into() }
}

pub fn write(path: &str, data: &[u8]) -> Change {
    let path: TreePath = path.into();
    Change::Write { path, at: WriteAt::Offset(0), data: data.to_vec() }
}
