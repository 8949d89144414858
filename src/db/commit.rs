//! Whoever stores what changed and answers who waited: the commit thread, or who asks, when nobody else
//! is at it. While the file cannot be written the thread answers with an error and tries again each
//! second.
//!
//! No lock of the tree is held while anything is written or answered.

use super::writer::Writer;
use super::{DbError, Shared, Synced};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The commit thread.
pub(super) struct Committer {
    shared: Arc<Shared>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until the queue is stopped; an error when the last commit failed.
    pub(super) fn run(self) -> Result<(), DbError> {
        loop {
            let (work, turn) = self.shared.queue.next(self.shared.clock);
            let mut has_to_move_log = false;
            let outcome = self.shared.with_writer(|writer| {
                if writer.is_failing() && !work.is_due && !work.is_last {
                    return Err(DbError::Storage);
                }
                let outcome = writer.commit(&self.shared);
                has_to_move_log = writer.after_commit();
                outcome
            });
            // Who is answered may at once ask again, and then store by itself.
            let turn = Some(turn).filter(|_| has_to_move_log);
            for waiter in work.waiters {
                answer(waiter, outcome.clone());
            }
            if work.is_last {
                return outcome;
            }
            if turn.is_some() {
                let _ = self.shared.with_writer(|writer| {
                    writer.checkpoint();
                    Ok(())
                });
            }
        }
    }
}

impl Drop for Committer {
    /// Whatever ended the thread, nobody waits for ever.
    fn drop(&mut self) {
        for waiter in self.shared.queue.finish() {
            answer(waiter, Err(DbError::Closed));
        }
        if let Some(writer) = self.shared.writer.lock().ok().and_then(|mut writer| writer.take()) {
            writer.close();
        }
    }
}

impl Shared {
    /// Answers when all that is applied by now is stored; leaves the storing to the commit thread.
    pub(super) fn when_stored(&self, done: Synced) {
        if self.failed.load(Ordering::Acquire) {
            done(Err(DbError::Storage));
        } else if let Err(done) = self.queue.wait(done) {
            done(Err(DbError::Closed));
        }
    }

    /// The same, but stores in this thread if nobody else is storing and nothing is in the way: to wake
    /// the other thread takes longer than a small commit does.
    pub(super) fn store_now(&self, done: Synced) {
        let stored = self.queue.try_turn().is_some_and(|_turn| self.store_at_once());
        if stored { answer(done, Ok(())) } else { self.when_stored(done) }
    }

    fn store_at_once(&self) -> bool {
        let stored = self.with_writer(|writer| {
            let stored = writer.commit_at_once(self).map_err(|_| DbError::Storage);
            if writer.after_commit() {
                // The thread finds nothing to store, and moves the log.
                self.queue.commit_at(self.clock.uptime());
            }
            stored
        });
        stored.is_ok()
    }

    /// Only for who has the turn, so that nobody waits for this lock.
    fn with_writer<T>(&self, act: impl FnOnce(&mut Writer) -> Result<T, DbError>) -> Result<T, DbError> {
        match self.writer.lock() {
            Ok(mut writer) => act(writer.as_mut().ok_or(DbError::Closed)?),
            // A commit panicked, and what it took is neither stored nor put back. What changed since must
            // not be stored without it.
            Err(_) => {
                if !self.failed.swap(true, Ordering::AcqRel) {
                    log::error!(
                        target: "database",
                        "a fault of this program left a commit half-made: changes are refused until pmxcfs is restarted"
                    );
                }
                Err(DbError::Storage)
            }
        }
    }
}

/// A fault of who waits must not stop the commits.
fn answer(waiter: Synced, outcome: Result<(), DbError>) {
    if catch_unwind(AssertUnwindSafe(|| waiter(outcome))).is_err() {
        log::error!(target: "database", "a request failed while it was answered after its commit");
    }
}
