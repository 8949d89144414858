//! Scripts on the engine, with its threads: acknowledged fsyncs, syncs that no caller waits for, and the effects of a
//! slow or failing sync on other callers.

use crate::cuts::{check, check_from, seeds};
use crate::disk::{Event, Recording, Trace};
use crate::history::History;
use crate::image::Random;
use crate::operations;
use pmxcfs::clock::Clock;
use pmxcfs::engine::{Engine, EngineError, SYNC_DELAY};
use pmxcfs::memdb::{Change, Limits, MemDb, Row, Stamp};
use pmxcfs::store::{Checkpointer, Store};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

const STEPS: usize = 60;
const LOG: &str = "config.db-wal";
const PATIENCE: Duration = Duration::from_secs(20);

struct Script {
    path: PathBuf,
    engine: Engine,
    checkpointer: Checkpointer,
    delay: Duration,
    history: History,
    recording: Arc<Recording>,
}

fn open(path: &Path, delay: Duration) -> (Engine, Checkpointer) {
    let store = Store::open(path, 1).expect("the database");
    let checkpointer = store.checkpointer().expect("a connection");
    (Engine::open_with_delay(store, Clock::start(), delay).expect("a tree"), checkpointer)
}

impl Script {
    fn step(&mut self, random: &mut Random) {
        match random.below(20) {
            0..=9 => {
                // Many are refused: the entry is missing, or in the way.
                let _ = self.engine.submit_wait(operations::change(random));
                self.state();
            }
            10..=12 => self.fsync(),
            13 => self.fsync_entry(random),
            14 => self.wait_for_delay(),
            15..=17 => self.checkpointer.run().expect("moved"),
            18 => self.resync(random),
            _ => self.reopen(),
        }
    }

    fn state(&mut self) -> usize {
        self.history.add(&self.engine.read())
    }

    fn fsync(&mut self) {
        let state = self.state();
        self.engine.fsync_wait().expect("synced");
        self.recording.acknowledge(state);
    }

    /// The state in which an entry was changed last is synced with it, if that is not long ago.
    fn fsync_entry(&mut self, random: &mut Random) {
        let change = operations::change(random);
        let Ok(applied) = self.engine.submit_wait(change) else { return };
        let state = self.state();
        let (sender, receiver) = channel();
        self.engine.fsync_entry(applied.inode, Box::new(move |result| drop(sender.send(result))));
        receiver.recv().expect("a reply").expect("synced");
        if self.engine.read().get(applied.inode).is_some() {
            self.recording.acknowledge(state);
        }
    }

    /// A commit is synced after the delay.
    fn wait_for_delay(&mut self) {
        if self.delay == SYNC_DELAY {
            return;
        }
        let state = self.state();
        self.engine.sync_wait().expect("committed");
        let start = Instant::now();
        while !self.engine.is_synced() {
            assert!(start.elapsed() < PATIENCE, "never synced");
            thread::sleep(Duration::from_millis(1));
        }
        self.recording.acknowledge(state);
    }

    /// Another member's tree replaces this one.
    fn resync(&mut self, random: &mut Random) {
        let mut leader = self.engine.read().clone();
        for _ in 0..random.below(4) {
            let change = operations::change(random);
            let _ = leader.apply(change, Stamp { writer: 2, time: 20 }, Limits::Agreed, Duration::ZERO);
        }
        let rows: Vec<Row> = leader.snapshot_rows().collect();
        let index = leader.index();
        let installed =
            self.engine.apply_on_copy(|tree, _| tree.install_leader_tree(&index, rows, Duration::ZERO));
        installed.expect("open").expect("installed");
        self.state();
    }

    /// A planned stop, and a start.
    fn reopen(&mut self) {
        let state = self.state();
        let other = tempfile::tempdir().expect("a directory");
        let (idle, checkpointer) = open(&other.path().join("config.db"), self.delay);
        // Its connection would keep the log.
        drop(std::mem::replace(&mut self.checkpointer, checkpointer));
        std::mem::replace(&mut self.engine, idle).close().expect("closed");
        self.recording.acknowledge(state);
        (self.engine, self.checkpointer) = open(&self.path, self.delay);
    }
}

fn record(seed: u64) -> (Trace, History) {
    let dir = tempfile::tempdir().expect("a directory");
    let recording = Recording::start(dir.path());
    let mut random = Random(seed);
    let path = dir.path().join("config.db");
    let delay = [SYNC_DELAY, Duration::from_millis(3)][random.below(2)];
    let (engine, checkpointer) = open(&path, delay);
    let recording = Arc::clone(&recording);
    let mut script = Script { path, engine, checkpointer, delay, history: History::default(), recording };
    script.state();
    for _ in 0..STEPS {
        script.step(&mut random);
    }
    let state = script.state();
    let Script { engine, history, recording, .. } = script;
    engine.close().expect("closed");
    recording.acknowledge(state);
    drop(engine);
    (recording.finish(), history)
}

#[test]
fn engine_survives_power_failures() {
    for seed in seeds(2) {
        let (trace, history) = record(seed);
        let report = check(&trace, &history, seed);
        println!("seed {seed}: {} events, {report:?}", trace.len());
    }
}

struct Scene {
    engine: Engine,
    recording: Arc<Recording>,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// An engine with nothing to sync.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let recording = Recording::start(dir.path());
        let store = Store::open(&dir.path().join("config.db"), 1).expect("a database");
        let engine = Engine::open(store, Clock::start()).expect("a tree");
        engine.fsync_wait().expect("synced");
        Self { engine, recording, _dir: dir }
    }

    fn mkdir(&self, path: &str) {
        self.engine.submit_wait(Change::Mkdir { path: path.into() }).expect("made");
    }

    fn fsync(&self) -> Receiver<Result<(), EngineError>> {
        let (sender, receiver) = channel();
        self.engine.fsync(Box::new(move |result| drop(sender.send(result))));
        receiver
    }
}

fn is_waiting(reply: &Receiver<Result<(), EngineError>>) -> bool {
    reply.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout)
}

#[test]
fn waiters_share_a_sync_and_block_nothing_else() {
    let scene = Scene::new();
    let before = scene.recording.syncs_of(LOG);
    scene.recording.hold_syncs(true);
    scene.mkdir("first");
    let first = scene.fsync();
    scene.recording.wait_for_held_sync();
    // Commits and readers go on.
    let others: Vec<_> = (0..8)
        .map(|number| {
            scene.mkdir(&format!("d{number}"));
            scene.fsync()
        })
        .collect();
    assert!(scene.engine.read().resolve(b"d7").is_some());
    assert!(is_waiting(&first) && others.iter().all(is_waiting));
    scene.recording.hold_syncs(false);
    for reply in std::iter::once(&first).chain(&others) {
        assert_eq!(reply.recv_timeout(PATIENCE), Ok(Ok(())));
    }
    assert_eq!(scene.recording.syncs_of(LOG) - before, 2, "one for the first, one for all others");
}

#[test]
fn synced_tree_needs_no_further_sync() {
    let scene = Scene::new();
    let before = scene.recording.syncs_of(LOG);
    assert_eq!(scene.engine.fsync_wait(), Ok(()));
    let _ = scene.engine.read().resolve(b"x");
    assert_eq!(scene.recording.syncs_of(LOG), before);
    scene.mkdir("d");
    assert!(!scene.engine.is_synced());
    assert_eq!(scene.recording.syncs_of(LOG), before, "mkdir causes none");
    assert_eq!(scene.engine.fsync_wait(), Ok(()));
    assert_eq!(scene.recording.syncs_of(LOG), before + 1);
    assert!(scene.engine.is_synced());
}

#[test]
fn failed_sync_fails_fsync_and_nothing_else() {
    let scene = Scene::new();
    scene.mkdir("d");
    scene.recording.fail_syncs(true);
    assert_eq!(scene.engine.fsync_wait(), Err(EngineError::Storage));
    // The kernel reports an error once: that the next sync succeeds proves nothing.
    scene.recording.fail_syncs(false);
    assert_eq!(scene.engine.fsync_wait(), Err(EngineError::Storage));
    scene.mkdir("e");
    assert!(!scene.engine.is_failed());
    scene.engine.close().expect("closed");
    let store = Store::open(scene.engine.path(), 1).expect("the database");
    let tree = store.load(|rows| MemDb::load(rows, Duration::ZERO)).expect("rows").expect("a tree");
    assert!(tree.resolve(b"d").is_some() && tree.resolve(b"e").is_some());
}

/// Puts a copy of a file in its place, as an admin does: it is not synced.
fn put(from: &Path, to: &Path) {
    let copy = File::create_new(to).expect("a file");
    copy.write_all_at(&fs::read(from).expect("a file"), 0).expect("written");
}

/// Cuts after the start on unsynced files, a change, and its fsync.
fn check_restored(database: &Path, log: Option<&Path>) {
    let dir = tempfile::tempdir().expect("a directory");
    let recording = Recording::start(dir.path());
    let path = dir.path().join("config.db");
    put(database, &path);
    if let Some(log) = log {
        put(log, &dir.path().join(LOG));
    }
    let (engine, checkpointer) = open(&path, SYNC_DELAY);
    let mut history = History::default();
    history.add(&engine.read());
    engine.submit_wait(Change::Mkdir { path: "d".into() }).expect("made");
    let state = history.add(&engine.read());
    engine.fsync_wait().expect("synced");
    recording.acknowledge(state);
    drop(checkpointer);
    engine.close().expect("closed");
    let trace = recording.finish();
    let is_acknowledged = |event: &Event| matches!(event, Event::Acknowledged { .. });
    check_from(&trace, &history, 1, trace.iter().position(is_acknowledged).expect("acknowledged"));
}

#[test]
fn restored_copy_survives_power_failures() {
    check_restored(Path::new("tests/golden/cluster.db"), None);
}

#[test]
fn restored_log_survives_power_failures() {
    let dir = tempfile::tempdir().expect("a directory");
    let (database, log) = (dir.path().join("config.db"), dir.path().join(LOG));
    let (engine, _checkpointer) = open(&database, SYNC_DELAY);
    engine.submit_wait(Change::Mkdir { path: "only-in-log".into() }).expect("made");
    check_restored(&database, Some(&log));
}
