//! Databases in directories of their own, and the program run on them.

use crate::namespace;
use nix::mount::{MsFlags, mount, umount};
use pmxcfs::memdb::Row;
use pmxcfs::store::Store;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory with a database `config.db`.
pub struct Home {
    pub dir: tempfile::TempDir,
}

impl Home {
    /// Without a database.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With that of the recorded cluster.
    pub fn golden() -> Self {
        let home = Self::empty();
        std::fs::copy("tests/golden/cluster.db", home.db()).unwrap();
        home
    }

    /// The same after `sql`, which may break rules that SQLite knows.
    pub fn damaged(sql: &str) -> Self {
        let home = Self::golden();
        home.sql(sql);
        home
    }

    pub fn sql(&self, sql: &str) {
        let connection = Connection::open(self.db()).unwrap();
        connection.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    pub fn db(&self) -> PathBuf {
        self.at("config.db")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Every file below, with its bytes.
    pub fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        read_all(self.dir.path(), &mut found);
        found
    }
}

fn read_all(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, found);
            found.insert(path, b"a directory".to_vec());
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
        }
    }
}

/// The rows of a database that a daemon would take, read as it reads them, from a copy.
pub fn rows(path: &Path) -> Vec<Row> {
    let copy = Home::empty();
    std::fs::copy(path, copy.db()).unwrap();
    Store::open(&copy.db(), 0).unwrap().load(|rows| rows.collect()).unwrap()
}

/// What the program did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// The JSON it printed.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The line on standard error, which must be one.
    pub fn complaint(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (2, ""), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "one line: {}", self.err);
        self.err.strip_prefix("pmxcfs-db: ").unwrap_or_else(|| panic!("{}", self.err)).trim_end()
    }
}

pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pmxcfs-db"))
}

pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Ran {
    Ran::of(&command().args(arguments).output().unwrap())
}

/// `pmxcfs-db repair --apply FILE`.
pub fn repair(file: &Path) -> Ran {
    run(&[OsStr::new("repair"), OsStr::new("--apply"), file.as_os_str()])
}

/// `pmxcfs-db VERB FILE`.
pub fn verb(verb: &str, file: &Path) -> Ran {
    run(&[OsStr::new(verb), file.as_os_str()])
}

/// `pmxcfs-db VERB A B`.
pub fn verb2(verb: &str, one: &Path, other: &Path) -> Ran {
    run(&[OsStr::new(verb), one.as_os_str(), other.as_os_str()])
}

/// A small file system that only the thread of this test sees, and what it starts.
pub struct SmallDisk {
    pub home: Home,
}

impl SmallDisk {
    pub fn new(bytes: u64) -> Self {
        let disk = Self { home: Home::empty() };
        namespace::enter_once();
        let size = format!("size={bytes}");
        mount(Some("tmpfs"), disk.home.dir.path(), Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .unwrap();
        disk
    }

    pub fn make_read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, self.home.dir.path(), None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount(self.home.dir.path()).unwrap();
    }
}
