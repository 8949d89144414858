//! Scripts on the store alone, in one thread: each run of a seed makes the same calls.

use crate::cuts::{check, seeds};
use crate::disk::{Event, Recording, Trace};
use crate::history::History;
use crate::image::Random;
use crate::operations;
use pmxcfs::memdb::{Limits, MemDb, Stamp};
use pmxcfs::store::{LogFile, Store};
use std::path::Path;
use std::time::Duration;

const STEPS: usize = 80;

struct Script<'a> {
    path: &'a Path,
    store: Store,
    tree: MemDb,
    history: History,
    recording: &'a Recording,
}

impl Script<'_> {
    fn step(&mut self, random: &mut Random) {
        match random.below(20) {
            0..=8 => self.commit(1 + random.below(3), random),
            9..=13 => {
                let mut log = self.store.log_sync().expect("the log");
                let state = self.history.add(&self.tree);
                self.commit(0, random);
                log.run().expect("synced");
                self.recording.acknowledge(state);
            }
            14 | 15 => drop(self.store.restart_log(LogFile::Keep).expect("moved")),
            16 => drop(self.store.restart_log(LogFile::Truncate).expect("moved")),
            17 | 18 => self.store.checkpointer().expect("a connection").run().expect("moved"),
            _ => self.reopen(),
        }
    }

    fn commit(&mut self, changes: usize, random: &mut Random) {
        for _ in 0..changes {
            let change = operations::change(random);
            // Many are refused: the entry is missing, or in the way.
            let stamp = Stamp { writer: 1, time: 10 };
            let _ = self.tree.apply(change, stamp, Limits::Enforced, Duration::ZERO);
            self.history.add(&self.tree);
        }
        if let Some(batch) = self.tree.take_batch() {
            self.store.commit(&batch).expect("committed");
        }
    }

    fn reopen(&mut self) {
        let other = tempfile::tempdir().expect("a directory");
        let idle = Store::open(&other.path().join("config.db"), 1).expect("another database");
        std::mem::replace(&mut self.store, idle).close().expect("closed");
        self.recording.acknowledge(self.history.add(&self.tree));
        self.store = Store::open(self.path, 1).expect("the database");
    }
}

fn record(seed: u64) -> (Trace, History) {
    let dir = tempfile::tempdir().expect("a directory");
    let recording = Recording::start(dir.path());
    let path = dir.path().join("config.db");
    let mut random = Random(seed);
    let store = Store::open(&path, 1).expect("a new database");
    let tree = store.load(|rows| MemDb::load(rows, Duration::ZERO)).expect("rows").expect("a tree");
    let mut history = History::default();
    history.add(&tree);
    let mut script = Script { path: &path, store, tree, history, recording: &recording };
    for _ in 0..STEPS {
        script.step(&mut random);
    }
    let Script { store, mut history, tree, .. } = script;
    // Changes that are not committed yet are not in it.
    let state = history.add(&tree);
    store.close().expect("closed");
    recording.acknowledge(state);
    (recording.finish(), history)
}

/// Calls of a trace as text. The written bytes are left out, because SQLite puts random salts into the log.
fn shape(trace: &Trace) -> Vec<String> {
    trace.iter().map(Event::to_string).collect()
}

#[test]
fn same_seed_makes_same_calls() {
    assert_eq!(shape(&record(1).0), shape(&record(1).0));
}

#[test]
fn store_survives_power_failures() {
    for seed in seeds(2) {
        let (trace, history) = record(seed);
        let report = check(&trace, &history, seed);
        println!("seed {seed}: {} events, {report:?}", trace.len());
    }
}
