//! When the write-ahead log is moved back into the file, and the thread that does it. It never
//! delays who waits for a commit, unless the log grows out of hand.

use super::OpenError;
use crate::store::{Checkpointer, Store, StoreError};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// The log is moved each time it grew by this many bytes. Pages that are changed often are written
/// once per commit to the log, but only once per move to the file.
const LOG_BYTES: u64 = 4 << 20;

/// From here on the log is moved between commits: it starts anew only when it was moved entirely,
/// which steady commits beside the move can prevent.
const LOG_BYTES_MAX: u64 = 16 * LOG_BYTES;

/// Decides from the length of the log.
#[derive(Debug)]
pub(super) struct Checkpoints {
    log_bytes: u64,
    next_at: u64,
    thread: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Checkpoints {
    pub(super) fn start(store: &Store) -> Result<Self, OpenError> {
        let checkpointer = store.checkpointer()?;
        // One request may be under way and one may wait: more would do nothing.
        let (sender, receiver) = sync_channel(1);
        let thread = thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || work(&checkpointer, &receiver)).map_err(OpenError::Thread)?;
        Ok(Self { log_bytes: 0, next_at: LOG_BYTES, thread: Some((sender, thread)) })
    }

    /// To be called after each commit; true when the log is to be moved before the next one.
    pub(super) fn after_commit(&mut self, store: &Store) -> bool {
        let log_bytes = store.log_bytes();
        if log_bytes < self.log_bytes {
            // It was moved entirely and started anew.
            self.next_at = LOG_BYTES;
        }
        self.log_bytes = log_bytes;
        if log_bytes < self.next_at {
            return false;
        }
        self.next_at = log_bytes + LOG_BYTES;
        match &self.thread {
            Some((sender, _)) if log_bytes < LOG_BYTES_MAX => {
                // Full: the one that waits will do.
                let _ = sender.try_send(());
                false
            }
            _ => true,
        }
    }

    /// Moves the log now.
    pub(super) fn run(store: &Store) {
        report(store.checkpoint());
    }

    /// Waits for a move that is under way.
    pub(super) fn stop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // It has no result; a panic was reported.
            let _ = thread.join();
        }
    }
}

fn work(checkpointer: &Checkpointer, requests: &Receiver<()>) {
    while requests.recv().is_ok() {
        report(checkpointer.run());
    }
}

fn report(result: Result<(), StoreError>) {
    if let Err(error) = result {
        log::warn!(target: "database", "{error}; what is in the log is safe, later changes will try again");
    }
}
