//! Checkpoints of the WAL, as [`super::log_bound`] decides. The checkpoint thread makes passive ones beside commits.
//! The commit thread restarts the log, with the commit permit.

use super::OpenError;
use super::log_bound::{LogBound, Step};
use crate::store::{Checkpointer, LogFile, Restart, Store};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The free space is determined again whenever the log grew by this many bytes.
const FREE_INTERVAL: u64 = 64 << 10;

/// Log of a store, and the checkpoint thread.
#[derive(Debug)]
pub(super) struct Checkpoints {
    bound: LogBound,
    free: FreeSpace,
    /// Held during a passive checkpoint: SQLite makes one checkpoint at a time.
    in_progress: Arc<Mutex<()>>,
    thread: Option<(SyncSender<()>, JoinHandle<()>)>,
    /// Last error of a restart, as it was logged.
    failure: Option<String>,
}

/// Free space of the file system, and the length of the log when it was determined.
#[derive(Debug, Default)]
struct FreeSpace {
    bytes: u64,
    log_bytes: Option<u64>,
}

impl Checkpoints {
    pub(super) fn start(store: &Store) -> Result<Self, OpenError> {
        let checkpointer = store.checkpointer()?;
        // A second request while one is queued is redundant.
        let (sender, receiver) = sync_channel(1);
        let in_progress = Arc::new(Mutex::new(()));
        let lock = Arc::clone(&in_progress);
        let thread = thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || work(&checkpointer, &receiver, &lock));
        let thread = Some((sender, thread.map_err(OpenError::Thread)?));
        Ok(Self {
            bound: LogBound::default(),
            free: FreeSpace::default(),
            in_progress,
            thread,
            failure: None,
        })
    }

    /// Must be called after each commit. Returns true if [`Checkpoints::restart`] must run before the next one.
    pub(super) fn after_commit(&mut self, store: &Store, now: Duration) -> bool {
        let log_bytes = store.log_bytes();
        let free_bytes = self.free.beside(log_bytes, store);
        match self.bound.on_commit(log_bytes, free_bytes, now) {
            Step::Nothing => false,
            Step::Passive => {
                if let Some((sender, _)) = &self.thread {
                    // Fails only if a request is queued already.
                    let _ = sender.try_send(());
                }
                false
            }
            Step::Restart => true,
        }
    }

    /// Uptime at which [`Checkpoints::restart`] is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.bound.due()
    }

    /// Copies the whole log into the file and begins a new one, unless another program prevents that.
    pub(super) fn restart(&mut self, store: &Store, now: Duration) {
        let path = store.path().display();
        let file = if self.bound.keeps_file(now) { LogFile::Keep } else { LogFile::Truncate };
        let restarted = {
            let _in_progress = wait_for(&self.in_progress);
            store.restart_log(file)
        };
        match restarted {
            Ok(Restart::Done) => {
                self.failure = None;
                self.free = FreeSpace::default();
                if let Some(blocked) = self.bound.on_restart(now) {
                    log::info!(
                        target: "database",
                        "the write-ahead log of database '{path}' is moved into the file again, after {} s",
                        blocked.as_secs()
                    );
                }
            }
            Ok(Restart::Blocked) => {
                if self.bound.on_blocked(now) {
                    log::warn!(
                        target: "database",
                        "the write-ahead log of database '{path}' has {} KiB and grows: {}; it is moved into the file \
                         when that ends",
                        self.bound.log_bytes() >> 10,
                        store.log_blocker()
                    );
                }
            }
            Err(error) => {
                self.bound.on_failure(now);
                let message = error.to_string();
                if self.failure.as_ref() != Some(&message) {
                    log::warn!(
                        target: "database",
                        "{message}; the log keeps all changes, tried again each second"
                    );
                    self.failure = Some(message);
                }
            }
        }
    }

    /// Frees as much space of the log's file as possible, after a commit failed because the file system is full.
    pub(super) fn free_space(&mut self, store: &Store) {
        let _in_progress = wait_for(&self.in_progress);
        // If these fail, so does the next commit, which reports it.
        let _ = store.cut_log();
        let _ = store.restart_log(LogFile::Truncate);
    }

    /// Waits for a checkpoint in progress and ends the thread.
    pub(super) fn stop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // It has no result; a panic was reported.
            let _ = thread.join();
        }
    }
}

impl FreeSpace {
    /// Free space beside a log of this length.
    fn beside(&mut self, log_bytes: u64, store: &Store) -> u64 {
        let is_current = self.log_bytes.is_some_and(|at| (at..at + FREE_INTERVAL).contains(&log_bytes));
        if !is_current {
            *self = Self { bytes: store.free_bytes(), log_bytes: Some(log_bytes) };
        }
        self.bytes
    }
}

fn work(checkpointer: &Checkpointer, requests: &Receiver<()>, in_progress: &Mutex<()>) {
    while requests.recv().is_ok() {
        let _in_progress = wait_for(in_progress);
        // An error is reported by the restart that follows, which fails in the same way.
        let _ = checkpointer.run();
    }
}

fn wait_for(in_progress: &Mutex<()>) -> MutexGuard<'_, ()> {
    in_progress.lock().unwrap_or_else(PoisonError::into_inner)
}
