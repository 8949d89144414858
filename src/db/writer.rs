//! What is stored, by whoever has the turn: one transaction of all that changed, and what becomes of it
//! when the file cannot be written. Whose turn it is says [`super::queue`]; nobody is answered here.

use super::checkpoints::Checkpoints;
use super::{DbError, OpenError, Shared};
use crate::memdb::Batch;
use crate::store::{Store, StoreError};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// After a failed commit, the time until the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long such an attempt waits for a lock of another program: nobody waits for it, but the end
/// of the daemon might.
const RETRY_BUSY_TIMEOUT: Duration = Duration::from_millis(100);

/// The store, and why nothing can be stored.
#[derive(Debug)]
pub(super) struct Writer {
    store: Store,
    checkpoints: Checkpoints,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    /// As it was logged.
    message: String,
    since: Duration,
}

/// An attempt that waits for nobody came to nothing; what changed waits for the commit thread.
#[derive(Debug)]
pub(super) struct NotNow;

impl Writer {
    pub(super) fn new(store: Store) -> Result<Self, OpenError> {
        Ok(Self { checkpoints: Checkpoints::start(&store)?, store, failure: None })
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    /// Stores what changed, and waits for the lock of another program for as long as that is patient.
    pub(super) fn commit(&mut self, shared: &Shared) -> Result<(), DbError> {
        let batch = match take_batch(shared) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(()),
            Err(error) => return self.fail(shared, "a fault of this program left a change half-made", error),
        };
        let stored = match self.failure {
            None => self.store.commit(&batch),
            Some(_) => self.store.commit_within(&batch, RETRY_BUSY_TIMEOUT),
        };
        match self.finish(shared, batch, stored) {
            Ok(()) => {
                self.recover(shared);
                Ok(())
            }
            Err(error) => self.fail(shared, &error.to_string(), DbError::Storage),
        }
    }

    /// Stores what changed unless the lock of another program, or anything else, is in the way: that is
    /// for [`Writer::commit`] to wait for or to report.
    pub(super) fn commit_at_once(&mut self, shared: &Shared) -> Result<(), NotNow> {
        if self.is_failing() {
            return Err(NotNow);
        }
        let Some(batch) = take_batch(shared).map_err(|_| NotNow)? else { return Ok(()) };
        let stored = self.store.commit_within(&batch, Duration::ZERO);
        self.finish(shared, batch, stored).map_err(|_| NotNow)
    }

    /// Has the log moved if it is time; true when it is so long that [`Writer::checkpoint`] must.
    pub(super) fn after_commit(&mut self) -> bool {
        self.checkpoints.after_commit(&self.store)
    }

    /// Moves the log, however long that takes.
    pub(super) fn checkpoint(&self) {
        Checkpoints::run(&self.store);
    }

    /// Closes the file.
    pub(super) fn close(mut self) {
        self.checkpoints.stop();
        if let Err(error) = self.store.close() {
            log::warn!(target: "database", "{error}");
        }
    }

    fn finish(
        &self,
        shared: &Shared,
        batch: Batch,
        stored: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if stored.is_ok() {
            shared.commits.one();
            shared.rows.many(batch.rows.len() as u64);
            let sizes = batch.rows.iter().map(|row| row.data.as_ref().map_or(0, |data| data.len()));
            shared.bytes.many(sizes.sum::<usize>() as u64);
            shared.committed.store(batch.version, Ordering::Release);
        } else if let Ok(mut tree) = shared.write() {
            tree.put_back(batch);
        }
        stored
    }

    fn recover(&mut self, shared: &Shared) {
        let Some(failure) = self.failure.take() else { return };
        shared.failed.store(false, Ordering::Release);
        let seconds = shared.clock.uptime().saturating_sub(failure.since).as_secs();
        let path = self.store.path().display();
        log::warn!(target: "database", "database '{path}' can be written again, after {seconds} s");
    }

    /// Each cause is logged once, however often it is met.
    fn fail(&mut self, shared: &Shared, message: &str, error: DbError) -> Result<(), DbError> {
        let now = shared.clock.uptime();
        shared.failures.one();
        shared.failed.store(true, Ordering::Release);
        shared.queue.commit_at(now + RETRY_DELAY);
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

/// In this order, so that a change applied in between is either in the batch or sets the time anew.
fn take_batch(shared: &Shared) -> Result<Option<Batch>, DbError> {
    shared.queue.commit_starts();
    Ok(shared.write()?.take_batch())
}
