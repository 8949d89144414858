//! Group commit. The commit thread writes the batch and completes its waiters. A caller that finds the permit free
//! commits itself. While the file cannot be written, waiters fail, and the commit thread retries every second.
//!
//! No lock of the tree is held during disk I/O or during a callback.

use super::batch_writer::BatchWriter;
use super::{CommitCallback, EngineError, EngineInner};
use crate::memdb::Fingerprint;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The commit thread.
pub(super) struct Committer {
    inner: Arc<EngineInner>,
}

impl Committer {
    pub(super) fn new(inner: Arc<EngineInner>) -> Self {
        Self { inner }
    }

    /// Runs until the queue is stopped. Returns an error if the last commit failed.
    pub(super) fn run(self) -> Result<(), EngineError> {
        loop {
            let (work, permit) = self.inner.queue.next(self.inner.clock);
            let outcome = self.inner.with_writer(|writer| {
                if work.is_restart_due && !work.is_last {
                    writer.restart_log(&self.inner);
                }
                if !work.is_due && !work.is_last {
                    self.inner.write_state.check()?;
                }
                writer.commit(&self.inner)
            });
            // A completed caller may submit its next change immediately, and then commits it itself.
            drop(permit);
            for waiter in work.waiters {
                answer(waiter, outcome.clone());
            }
            if work.is_last {
                return outcome;
            }
        }
    }
}

impl Drop for Committer {
    /// Completes all waiters when the thread ends, even by a panic.
    fn drop(&mut self) {
        for waiter in self.inner.queue.finish() {
            answer(waiter, Err(EngineError::Closed));
        }
        if let Some(writer) = self.inner.writer.lock().ok().and_then(|mut writer| writer.take()) {
            writer.close(&self.inner);
        }
    }
}

impl EngineInner {
    /// Completes the caller when all changes applied so far are committed by the commit thread.
    pub(super) fn when_stored(&self, done: CommitCallback) {
        if let Err(error) = self.write_state.check() {
            done(Err(error));
        } else if let Err(done) = self.queue.wait(done) {
            done(Err(EngineError::Closed));
        }
    }

    /// As [`EngineInner::when_stored`], but this thread commits if the permit is free and nothing blocks the
    /// commit: waking the commit thread takes longer than a small commit.
    pub(super) fn store_now(&self, done: CommitCallback) {
        let stored = self.queue.try_acquire().is_some_and(|_permit| self.store_at_once());
        if stored { answer(done, Ok(())) } else { self.when_stored(done) }
    }

    fn store_at_once(&self) -> bool {
        let stored = self.with_writer(|writer| writer.try_commit(self).map_err(|_| EngineError::Storage));
        stored.is_ok()
    }

    /// Requires the commit permit, so the lock of the writer is always free.
    fn with_writer<T>(
        &self,
        act: impl FnOnce(&mut BatchWriter) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        match self.writer.lock() {
            Ok(mut writer) => act(writer.as_mut().ok_or(EngineError::Closed)?),
            // A commit panicked: its batch is neither stored nor put back. Later changes must not be stored
            // without it.
            Err(_) => {
                if self.write_state.fail(&EngineError::Storage) {
                    log::error!(
                        target: "database",
                        "a fault of this program left a commit half-made: changes are refused until pmxcfs is restarted"
                    );
                }
                Err(EngineError::Storage)
            }
        }
    }

    /// Wraps a waiter for the commit of a change: if a resync replaced the tree before the commit, the waiter fails
    /// unless the leader's tree has the change.
    pub(super) fn fail_if_tree_replaced(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        done: CommitCallback,
    ) -> CommitCallback {
        let inner = Arc::clone(self);
        Box::new(move |stored| done(stored.and_then(|()| inner.check_contained(&fingerprint))))
    }

    fn check_contained(&self, fingerprint: &Fingerprint) -> Result<(), EngineError> {
        let tree = self.read();
        let (is_contained, generation) = (tree.still_contains(fingerprint), tree.tree_generation());
        drop(tree);
        if is_contained {
            return Ok(());
        }
        if self.tree_generation_logged.swap(generation, Ordering::Relaxed) != generation {
            log::warn!(
                target: "database",
                "resync replaced the local database before pending changes were committed; changes that the leader \
                 lacks fail with EBUSY"
            );
        }
        Err(EngineError::TreeReplaced)
    }
}

/// A panic in a caller's callback must not stop the commits.
fn answer(waiter: CommitCallback, outcome: Result<(), EngineError>) {
    if catch_unwind(AssertUnwindSafe(|| waiter(outcome))).is_err() {
        log::error!(target: "database", "a request failed while it was answered after its commit");
    }
}
