//! The commit thread: takes what changed, stores it, answers who waited. While the file cannot be
//! written it answers with an error, tries again each second, and logs when that begins and ends.
//!
//! It never holds a lock while it writes or answers.

use super::checkpoints::Checkpoints;
use super::{DbError, OpenError, Shared, Synced};
use crate::store::Store;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// After a failed commit, the time until the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long such an attempt waits for a lock of another program: nobody waits for it, but the end
/// of the daemon might.
const RETRY_BUSY_TIMEOUT: Duration = Duration::from_millis(100);

/// Owner of the store.
pub(super) struct Committer {
    shared: Arc<Shared>,
    checkpoints: Checkpoints,
    /// None once it is closed.
    store: Option<Store>,
    failure: Option<Failure>,
}

/// Why nothing can be stored.
struct Failure {
    /// As it was logged.
    message: String,
    since: Duration,
}

impl Committer {
    pub(super) fn new(store: Store, shared: Arc<Shared>) -> Result<Self, OpenError> {
        let checkpoints = Checkpoints::start(&store)?;
        Ok(Self { shared, checkpoints, store: Some(store), failure: None })
    }

    /// Works until the queue is stopped; an error when the last commit failed.
    pub(super) fn run(mut self) -> Result<(), DbError> {
        loop {
            let work = self.shared.queue.next(self.shared.clock);
            let outcome = if self.failure.is_none() || work.is_due || work.is_last {
                self.commit()
            } else {
                Err(DbError::Storage)
            };
            for waiter in work.waiters {
                answer(waiter, outcome.clone());
            }
            if work.is_last {
                return outcome;
            }
            if let Some(store) = &self.store {
                self.checkpoints.after_commit(store);
            }
        }
    }

    fn commit(&mut self) -> Result<(), DbError> {
        // In this order, so that a change applied in between is either in the batch or sets the
        // time anew.
        self.shared.queue.commit_starts();
        let taken = self.shared.write().map(|mut tree| tree.take_batch());
        let batch = match taken {
            Ok(batch) => batch,
            Err(error) => return self.fail("a fault of this program left a change half-made", error),
        };
        let (Some(batch), Some(store)) = (batch, &mut self.store) else {
            return Ok(());
        };
        let result = match self.failure {
            None => store.commit(&batch),
            Some(_) => store.commit_within(&batch, RETRY_BUSY_TIMEOUT),
        };
        match result {
            Ok(()) => {
                self.shared.commits.one();
                self.shared.rows.many(batch.rows.len() as u64);
                let sizes = batch.rows.iter().map(|row| row.data.as_ref().map_or(0, |data| data.len()));
                self.shared.bytes.many(sizes.sum::<usize>() as u64);
                self.shared.committed.store(batch.version, Ordering::Release);
                self.recover();
                Ok(())
            }
            Err(error) => {
                if let Ok(mut tree) = self.shared.write() {
                    tree.put_back(batch);
                }
                self.fail(&error.to_string(), DbError::Storage)
            }
        }
    }

    fn recover(&mut self) {
        let (Some(failure), Some(store)) = (self.failure.take(), &self.store) else { return };
        self.shared.failed.store(false, Ordering::Release);
        let seconds = self.shared.clock.uptime().saturating_sub(failure.since).as_secs();
        let path = store.path().display();
        log::warn!(target: "database", "database '{path}' can be written again, after {seconds} s");
    }

    /// Each cause is logged once, however often it is met.
    fn fail(&mut self, message: &str, error: DbError) -> Result<(), DbError> {
        let now = self.shared.clock.uptime();
        self.shared.failures.one();
        self.shared.failed.store(true, Ordering::Release);
        self.shared.queue.commit_at(now + RETRY_DELAY);
        let failure = self.failure.get_or_insert_with(|| Failure { message: String::new(), since: now });
        if failure.message != message {
            failure.message = message.to_owned();
            log::error!(
                target: "database",
                "{message}; changes are refused until it can be written, tried again each second"
            );
        }
        Err(error)
    }
}

impl Drop for Committer {
    /// Whatever ended the thread, nobody waits for ever.
    fn drop(&mut self) {
        for waiter in self.shared.queue.finish() {
            answer(waiter, Err(DbError::Closed));
        }
        self.checkpoints.stop();
        if let Some(Err(error)) = self.store.take().map(Store::close) {
            log::warn!(target: "database", "{error}");
        }
    }
}

/// A fault of who waits must not stop the commits.
fn answer(waiter: Synced, outcome: Result<(), DbError>) {
    if catch_unwind(AssertUnwindSafe(|| waiter(outcome))).is_err() {
        log::error!(target: "database", "a request failed while it was answered after its commit");
    }
}
