//! Writer of commits: stores one batch in one transaction, and puts the rows of a failed batch back into the tree.
//! Its caller has the permit of [`super::commit_queue`] and completes the waiters.

use super::checkpoints::Checkpoints;
use super::sync_queue::{SyncQueue, SyncThread};
use super::{EngineError, EngineInner, OpenError};
use crate::memdb::Batch;
use crate::store::{Fault, Loss, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// After a failed commit, the time until the next attempt.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How long such an attempt waits for a lock of another program: nobody waits for it, but the end
/// of the daemon might.
const RETRY_BUSY_TIMEOUT: Duration = Duration::from_millis(100);

/// The store, and why nothing can be stored.
#[derive(Debug)]
pub(super) struct BatchWriter {
    store: Store,
    checkpoints: Checkpoints,
    syncs: SyncThread,
    failure: Option<Failure>,
    /// Version up to which a lost file has everything, with an empty log.
    secured: Option<u64>,
}

#[derive(Debug)]
struct Failure {
    /// As it was logged.
    message: String,
    since: Duration,
}

/// The commit was not made because it would have blocked or failed; the commit thread makes it.
#[derive(Debug)]
pub(super) struct WouldBlock;

impl BatchWriter {
    pub(super) fn new(store: Store, syncs: &Arc<SyncQueue>) -> Result<Self, OpenError> {
        let syncs = SyncThread::start(&store, Arc::clone(syncs))?;
        Ok(Self { checkpoints: Checkpoints::start(&store)?, syncs, store, failure: None, secured: None })
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    /// Stores what changed, and waits for the lock of another program for as long as that is patient.
    pub(super) fn commit(&mut self, inner: &EngineInner) -> Result<(), EngineError> {
        if let Some(loss) = inner.file.loss() {
            return self.commit_lost(inner, loss);
        }
        self.secured = None;
        let batch = match take_batch(inner) {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                self.recover(inner);
                return Ok(());
            }
            Err(error) => return self.fail(inner, "a fault of this program left a change half-made", error),
        };
        let stored = self.store(&batch);
        match self.finish(inner, batch, stored) {
            Ok(()) => {
                self.recover(inner);
                Ok(())
            }
            Err(error) => self.fail(inner, &error.to_string(), engine_error(&error)),
        }
    }

    /// On a full file system the log may be what fills it. Then its space is freed first.
    fn store(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let stored = match self.failure {
            None => self.store.commit(batch),
            Some(_) => self.store.commit_within(batch, RETRY_BUSY_TIMEOUT),
        };
        match stored {
            Err(error) if error.fault == Fault::Full => {
                self.checkpoints.free_space(&self.store);
                let stored = self.store.commit_within(batch, RETRY_BUSY_TIMEOUT);
                if stored.is_err() {
                    self.checkpoints.free_space(&self.store);
                }
                stored
            }
            stored => stored,
        }
    }

    /// Commits, but returns immediately if another program has locked the file or the commit fails.
    /// [`BatchWriter::commit`] then waits, and reports the error.
    pub(super) fn try_commit(&mut self, inner: &EngineInner) -> Result<(), WouldBlock> {
        if self.is_failing() || inner.file.is_lost() {
            return Err(WouldBlock);
        }
        let Some(batch) = take_batch(inner).map_err(|_| WouldBlock)? else { return Ok(()) };
        let stored = self.store.commit_within(&batch, Duration::ZERO);
        self.finish(inner, batch, stored).map_err(|_| WouldBlock)
    }

    /// The file is lost. The open file may return to the path, so all changes are still written to it. Its log
    /// may be left at the path, so it is emptied. Then the tree is saved where an admin finds it.
    fn commit_lost(&mut self, inner: &EngineInner, loss: Loss) -> Result<(), EngineError> {
        let stored = match take_batch(inner) {
            Err(_) => false,
            Ok(None) => true,
            Ok(Some(batch)) => {
                let stored = self.store.commit_within(&batch, RETRY_BUSY_TIMEOUT);
                self.finish(inner, batch, stored).is_ok()
            }
        };
        let version = inner.committed.load(Ordering::Acquire);
        if stored && self.secured != Some(version) {
            self.secured = self.store.empty_log().is_ok().then_some(version);
        }
        let outcome = inner.file.secure(inner, loss, stored && self.secured.is_some());
        let path = self.store.path().display();
        self.fail(inner, &format!("database '{path}' {loss}; {outcome}"), EngineError::Storage)
    }

    /// Restarts the WAL if that is due. Takes as long as the disk needs for two syncs.
    pub(super) fn restart_log(&mut self, inner: &EngineInner) {
        let now = inner.clock.uptime();
        if self.checkpoints.due().is_some_and(|due| due <= now) {
            self.checkpoints.restart(&self.store, now);
        }
        self.schedule_restart(inner);
    }

    fn schedule_restart(&self, inner: &EngineInner) {
        if let Some(due) = self.checkpoints.due() {
            inner.queue.restart_by(due);
        }
    }

    /// Closes the file.
    pub(super) fn close(mut self, inner: &EngineInner) {
        self.checkpoints.stop();
        self.syncs.stop();
        let closed = if inner.file.is_lost() { self.store.close_lost() } else { self.store.close() };
        if let Err(error) = closed {
            log::warn!(target: "database", "{error}");
        }
    }

    fn finish(
        &mut self,
        inner: &EngineInner,
        batch: Batch,
        stored: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if stored.is_ok() {
            inner.syncs.on_commit();
            inner.commits.one();
            inner.rows.many(batch.rows.len() as u64);
            let sizes = batch.rows.iter().map(|row| row.data.as_ref().map_or(0, |data| data.len()));
            inner.bytes.many(sizes.sum::<usize>() as u64);
            inner.committed.store(batch.version, Ordering::Release);
            if self.checkpoints.after_commit(&self.store, inner.clock.uptime()) {
                inner.queue.require_restart();
            } else {
                self.schedule_restart(inner);
            }
        } else if let Ok(mut tree) = inner.write() {
            tree.put_back(batch);
        }
        stored
    }

    fn recover(&mut self, inner: &EngineInner) {
        if inner.write_state.recover() {
            inner.on_write_state();
        }
        let Some(failure) = self.failure.take() else { return };
        let seconds = inner.clock.uptime().saturating_sub(failure.since).as_secs();
        let path = self.store.path().display();
        let rescued = inner.file.take_rescued();
        let hint = rescued.map(|copy| format!("; the copy '{}' is no longer needed", copy.display()));
        let hint = hint.unwrap_or_default();
        log::warn!(target: "database", "database '{path}' can be written again, after {seconds} s{hint}");
    }

    /// Each cause is logged once, however often it is met.
    fn fail(&mut self, inner: &EngineInner, message: &str, error: EngineError) -> Result<(), EngineError> {
        let now = inner.clock.uptime();
        inner.failures.one();
        if inner.write_state.fail(&error) {
            inner.on_write_state();
        }
        inner.queue.commit_at(now + RETRY_DELAY);
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

fn engine_error(error: &StoreError) -> EngineError {
    if error.fault == Fault::Full { EngineError::NoSpace } else { EngineError::Storage }
}

/// In this order, so that a change applied in between is either in the batch or sets the time anew.
fn take_batch(inner: &EngineInner) -> Result<Option<Batch>, EngineError> {
    inner.queue.commit_starts();
    Ok(inner.write()?.take_batch())
}
