//! When the write-ahead log is moved back into the file, and the thread that does it. It never
//! delays who waits for a commit, unless the log grows out of hand.

use super::OpenError;
use crate::store::{Checkpointer, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The log is moved each time it grew by this many bytes. Pages that are changed often are written
/// once per commit to the log, but only once per move to the file.
const LOG_BYTES: u64 = 4 << 20;

/// From here on the log is moved between commits: it starts anew only when it was moved entirely,
/// which steady commits beside the move can prevent.
const LOG_BYTES_MAX: u64 = 16 * LOG_BYTES;

/// The thread leaves the log alone while it grows, since a move takes the processor and the disk from
/// those who make it grow: until it did not for so long,
const QUIET: Duration = Duration::from_millis(100);

/// or has so many bytes,
const LOG_BYTES_BUSY: u64 = 4 * LOG_BYTES;

/// or so many times [`QUIET`] went by: what is in the log only was not synced.
const ROUNDS_MAX: usize = 10;

/// Decides from the length of the log.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Engine whose log the thread checkpoints.
    log_bytes: Arc<AtomicU64>,
    next_at: u64,
    thread: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Checkpoints {
    pub(super) fn start(store: &Store) -> Result<Self, OpenError> {
        let checkpointer = store.checkpointer()?;
        // One request may be under way and one may wait: more would do nothing.
        let (sender, receiver) = sync_channel(1);
        let log_bytes = Arc::new(AtomicU64::new(0));
        let length = Arc::clone(&log_bytes);
        let thread = thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || work(&checkpointer, &receiver, &length));
        Ok(Self { log_bytes, next_at: LOG_BYTES, thread: Some((sender, thread.map_err(OpenError::Thread)?)) })
    }

    /// To be called after each commit; true when the log is to be moved before the next one.
    pub(super) fn after_commit(&mut self, store: &Store) -> bool {
        let log_bytes = store.log_bytes();
        if log_bytes < self.log_bytes.swap(log_bytes, Ordering::Relaxed) {
            // It was moved entirely and started anew.
            self.next_at = LOG_BYTES;
        }
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

fn work(checkpointer: &Checkpointer, requests: &Receiver<()>, log_bytes: &AtomicU64) {
    while requests.recv().is_ok() && is_wanted_still(requests, log_bytes) {
        report(checkpointer.run());
    }
}

/// Waits for a good moment; false when there is nobody any more who wants the log moved.
fn is_wanted_still(requests: &Receiver<()>, log_bytes: &AtomicU64) -> bool {
    let mut before = log_bytes.load(Ordering::Relaxed);
    for _ in 0..ROUNDS_MAX {
        if before >= LOG_BYTES_BUSY {
            break;
        }
        match requests.recv_timeout(QUIET) {
            // It grew so much that it would be moved anyway.
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) if log_bytes.load(Ordering::Relaxed) == before => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        before = log_bytes.load(Ordering::Relaxed);
    }
    true
}

fn report(result: Result<(), StoreError>) {
    if let Err(error) = result {
        log::warn!(target: "database", "{error}; what is in the log is safe, later changes will try again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_log_that_stands_still_is_moved_after_a_moment() {
        let (_sender, receiver) = sync_channel(1);
        let started = Instant::now();
        assert!(is_wanted_still(&receiver, &AtomicU64::new(LOG_BYTES)));
        let waited = started.elapsed();
        assert!(waited >= QUIET, "{waited:?}");
    }

    #[test]
    fn a_long_log_is_moved_at_once() {
        let (sender, receiver) = sync_channel(1);
        sender.try_send(()).expect("room");
        assert!(is_wanted_still(&receiver, &AtomicU64::new(LOG_BYTES_BUSY)));
        assert!(receiver.try_recv().is_ok(), "it did not wait for the next request");
    }

    #[test]
    fn a_log_that_grows_is_moved_all_the_same() {
        let (sender, receiver) = sync_channel(ROUNDS_MAX);
        for _ in 0..ROUNDS_MAX {
            sender.try_send(()).expect("room");
        }
        assert!(is_wanted_still(&receiver, &AtomicU64::new(LOG_BYTES)));
        assert!(receiver.try_recv().is_err(), "it waited for all of them");
    }

    #[test]
    fn the_end_waits_for_no_move() {
        let (sender, receiver) = sync_channel(1);
        drop(sender);
        assert!(!is_wanted_still(&receiver, &AtomicU64::new(LOG_BYTES)));
    }
}
