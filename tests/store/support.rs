//! A database in a directory of its own, and shorthands for what tests do with it.

use pmxcfs::clock::Clock;
use pmxcfs::engine::Engine;
use pmxcfs::memdb::{Change, MemDb, Row, TreePath, WriteAt};
use pmxcfs::store::Store;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

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

    /// Another one with the same files.
    pub fn copied(&self) -> Self {
        let copy = Self::new();
        for file in self.files() {
            std::fs::copy(self.dir.path().join(&file), copy.dir.path().join(&file)).unwrap();
        }
        copy
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("config.db")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path(), NOW).unwrap()
    }

    pub fn db(&self) -> Engine {
        Engine::open(self.store(), Clock::start()).unwrap()
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

pub fn rename(from: &str, to: &str) -> Change {
    Change::Rename { from: from.into(), to: to.into() }
}

pub fn write(path: &str, data: &[u8]) -> Change {
    let path: TreePath = path.into();
    Change::Write { path, at: WriteAt::Offset(0), data: data.to_vec() }
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "never {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Random numbers that can be had again: STORE_SEED replays what a failed test printed.
pub struct Random(pub u64);

impl Random {
    pub fn new() -> Self {
        let from_environment = std::env::var("STORE_SEED").ok();
        let seed = from_environment.map_or_else(fresh_seed, |seed| seed.parse().unwrap());
        println!("STORE_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A change of a small world: few names, so that many changes meet the same entries.
    pub fn change(&mut self, dir: &str) -> Change {
        let file = format!("{dir}/file{}", self.below(5));
        let other = format!("{dir}/file{}", self.below(5));
        match self.below(8) {
            0 | 1 => create(&file),
            2..=4 => {
                let size = [3, 300, 900, 4000][self.below(4) as usize];
                write(&file, &vec![self.next() as u8; size])
            }
            5 => Change::Truncate { path: file.as_str().into(), size: self.below(3000) },
            6 => rename(&file, &other),
            _ => Change::Delete { path: file.as_str().into() },
        }
    }
}

fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_nanos() as u64
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let line = format!("[{}] {}: {}", record.target(), record.level(), record.args());
        LOG.lock().unwrap().push(line);
    }
    fn flush(&self) {}
}

/// From the first call on lines are kept; returns those that name `path`.
pub fn log_lines(path: &Path) -> Vec<String> {
    static START: Once = Once::new();
    START.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    let path = path.to_str().unwrap();
    LOG.lock().unwrap().iter().filter(|line| line.contains(path)).cloned().collect()
}
