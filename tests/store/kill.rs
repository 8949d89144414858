//! A writer is killed at any moment, again and again on the same file. What it acknowledged is there
//! afterwards, and what is there is what it had made at some moment, whole.

use crate::support::{Home, Random, assert_sound, mkdir, tree};
use pmxcfs::clock::Clock;
use pmxcfs::engine::Engine;
use pmxcfs::memdb::{Change, Limits, MemDb, Stamp};
use pmxcfs::store::Store;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const THREADS: u64 = 3;
const ROUNDS: u64 = 12;

/// Tells the test program that it is to be a writer: the database and a seed.
const WRITER: &str = "STORE_KILL_WRITER";

/// Not a test, but what the test below starts and kills: THREADS times, in a directory each, the
/// changes of a seed; for each that is durable a line "thread number" once it is acknowledged.
#[test]
fn writer() {
    let Ok(task) = std::env::var(WRITER) else { return };
    let (seed, path) = task.split_once(' ').unwrap();
    let store = Store::open(Path::new(path), 1).unwrap();
    let db = Engine::open(store, Clock::start()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let db = &db;
            let changes = changes(seed.parse().unwrap(), thread);
            scope.spawn(move || {
                for (number, change) in changes.enumerate() {
                    if is_durable(&change) && db.submit_wait(change.clone()).is_ok() {
                        // Not by println, which the test runner captures.
                        let mut out = std::io::stdout();
                        writeln!(out, "{thread} {number}").unwrap();
                    } else {
                        let _ = db.submit_wait(change);
                    }
                }
            });
        }
    });
}

fn is_durable(change: &Change) -> bool {
    matches!(change, Change::Mkdir { .. } | Change::Rename { .. } | Change::Delete { .. })
}

fn changes(seed: u64, thread: u64) -> impl Iterator<Item = Change> {
    let dir = format!("{seed}-{thread}");
    let mut random = Random(seed ^ (thread << 32));
    let rest = {
        let dir = dir.clone();
        std::iter::repeat_with(move || random.change(&dir))
    };
    std::iter::once(mkdir(&dir)).chain(rest)
}

/// The files of a directory, by name; None when there is no such directory.
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

fn files(tree: &MemDb, dir: &str) -> Option<Files> {
    let children = tree.resolve(dir.as_bytes())?.children()?;
    let content = |inode| tree.get(inode).unwrap().content().unwrap().to_vec();
    Some(children.map(|(name, inode)| (name.to_vec(), content(inode))).collect())
}

/// Whether `found` is what the changes of a thread had made of its directory at a moment after
/// those that it acknowledged.
fn is_a_state(seed: u64, thread: u64, acknowledged: Option<u64>, found: &Option<Files>) -> bool {
    let stamp = Stamp { writer: 0, time: 1 };
    let mut model = MemDb::new();
    let dir = format!("{seed}-{thread}");
    if acknowledged.is_none() && found.is_none() {
        return true;
    }
    let last = acknowledged.unwrap_or(0);
    for (number, change) in changes(seed, thread).enumerate() {
        let _ = model.apply(change, stamp, Limits::Enforced, Duration::ZERO);
        if number as u64 >= last && files(&model, &dir) == *found {
            return true;
        }
        // Between two durable changes there are few others.
        if number as u64 > last + 200 {
            return false;
        }
    }
    false
}

/// Starts a writer, kills it after `lines` acknowledgements, returns the last of each thread.
fn write_and_kill(path: &Path, seed: u64, lines: usize) -> BTreeMap<u64, u64> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::writer", "--nocapture", "--test-threads=1"])
        .env(WRITER, format!("{seed} {}", path.to_str().unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut count = 0;
    for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
        // The last line may be cut; and the test harness says a few things first.
        let line = line.unwrap();
        let Some((thread, number)) = line.split_once(' ') else { continue };
        let (Ok(thread), Ok(number)) = (thread.parse(), number.parse()) else { continue };
        acknowledged.insert(thread, number);
        count += 1;
        if count == lines {
            writer.kill().unwrap();
        }
    }
    assert!(!writer.wait().unwrap().success());
    acknowledged
}

#[test]
fn acknowledged_changes_survive_a_kill() {
    let mut random = Random::new();
    let home = Home::new();
    for round in 0..ROUNDS {
        let seed = random.next() >> 8;
        let lines = 1 + random.below(150) as usize;
        let acknowledged = write_and_kill(&home.path(), seed, lines);
        // In every other round the next writer is the one to find the log that the killed one left.
        let look = if round % 2 == 0 { &home } else { &home.copied() };
        let store = look.store();
        let tree = tree(&store);
        for thread in 0..THREADS {
            let found = files(&tree, &format!("{seed}-{thread}"));
            let last = acknowledged.get(&thread).copied();
            assert!(is_a_state(seed, thread, last, &found), "round {round}, thread {thread} after {last:?}");
        }
        store.close().unwrap();
        assert_sound(&look.path());
    }
}
