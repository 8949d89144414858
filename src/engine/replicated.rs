//! Replicated strategy: a change is proposed to the process group and applied when the group delivers it. The group's
//! connection is in `cluster/`.

use super::{ChangeCallback, CommitCallback, Engine, EngineError, EngineInner, answer_stored};
use crate::memdb::{Applied, Change, MemDb, Touched, Trace, TreePath};
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};

/// Takes what local callers ask for. Neither may wait.
pub struct Route {
    /// Has a change made; `done` is called exactly once, by whatever thread.
    pub change: Box<dyn Fn(Change, ChangeCallback) + Send + Sync>,
    /// Asks for the removal of a lock with this checksum, if it has expired.
    pub expire_lock: Box<dyn Fn(TreePath, [u8; 32]) + Send + Sync>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route")
    }
}

/// Tells listeners what a change touched.
pub type Notify<'a> = &'a dyn Fn(&[Touched]);

impl Engine {
    /// From now on all changes go this way. Only the first route counts.
    pub fn replicate_by(&self, route: Route) {
        if self.inner.route.set(route).is_err() {
            log::error!(target: "database", "a second route for changes was refused");
        }
    }

    /// Whether a group makes the changes.
    pub fn is_replicated(&self) -> bool {
        self.inner.route.get().is_some()
    }

    /// What can be refused here need not travel.
    pub(super) fn check_local(&self, change: &Change) -> Result<(), EngineError> {
        self.inner.check_open()?;
        Ok(self.read().check_limits(change)?)
    }

    /// Lets the group work on the tree, under its lock: `act` must neither wait nor use this database,
    /// and must tell of each change. What it changed is stored soon. While the file cannot be written
    /// this goes on in memory; it is for the group to leave (see [`Engine::is_failed`]).
    pub fn deliver<R>(&self, act: impl FnOnce(&mut MemDb, Notify<'_>) -> R) -> Result<R, EngineError> {
        if self.inner.queue.is_stopping() {
            return Err(EngineError::Closed);
        }
        let result = {
            let mut tree = self.inner.write()?;
            act(&mut tree, &|touched| self.inner.listeners.notify(touched))
        };
        self.store_soon();
        Ok(result)
    }

    /// The same for what takes long: `act` works on a copy, and readers have the tree as it is until the copy
    /// takes its place. Nobody else may change the tree meanwhile. A panic leaves it as it was.
    pub fn apply_on_copy<R>(&self, act: impl FnOnce(&mut MemDb, Notify<'_>) -> R) -> Result<R, EngineError> {
        if self.inner.queue.is_stopping() {
            return Err(EngineError::Closed);
        }
        let mut copy = self.read().clone();
        let told = RefCell::new(Vec::new());
        let result = act(&mut copy, &|touched| told.borrow_mut().extend_from_slice(touched));
        {
            // What a commit stored meanwhile the copy still has as changed: it is stored once more.
            let mut tree = self.inner.write()?;
            tree.swap_in(&mut copy);
            self.inner.listeners.notify(&told.into_inner());
        }
        self.store_soon();
        Ok(result)
    }

    fn store_soon(&self) {
        if !self.is_stored(self.read().version()) {
            self.inner.queue.commit_soon(self.inner.clock);
        }
    }

    /// Waits until the tree as it is now is on disk, whatever is known of its version: another database
    /// may have taken the place of one of the same version.
    pub fn commit_blocking(&self) -> Result<(), EngineError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.inner.when_stored(Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// Answers a local caller whose change was delivered and applied: at once, or when it is stored,
    /// by the same rule as everywhere. Never waits for the disk.
    pub fn answer_delivered(&self, applied: Applied, requires_commit: bool, done: ChangeCallback) {
        if requires_commit {
            let trace = self.read().trace_of(applied.inode);
            let stored = answer_stored(applied, done);
            self.inner.when_stored(self.inner.fail_if_replaced(trace, stored));
        } else {
            self.inner.answer_unstored(applied, done);
        }
    }
}

impl EngineInner {
    pub(super) fn check_open(&self) -> Result<(), EngineError> {
        if self.queue.is_stopping() {
            return Err(EngineError::Closed);
        }
        if self.failed.load(Ordering::Acquire) { Err(EngineError::Storage) } else { Ok(()) }
    }

    /// For who waits for what `trace` is of: what reached the disk is that of another member's tree, if that
    /// took the place of this one before. Then this is a success only if that tree has it, too.
    pub(super) fn fail_if_replaced(self: &Arc<Self>, trace: Trace, done: CommitCallback) -> CommitCallback {
        let inner = Arc::clone(self);
        Box::new(move |stored| done(stored.and_then(|()| inner.check_has(&trace))))
    }

    fn check_has(&self, trace: &Trace) -> Result<(), EngineError> {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        let (has, replaced) = (tree.has(trace), tree.replaced());
        drop(tree);
        if has {
            return Ok(());
        }
        if self.replaced_told.swap(replaced, Ordering::Relaxed) != replaced {
            log::warn!(
                target: "database",
                "the cluster's database took the place of this node's before all of that was stored: requests for \
                 changes that it may not have end with an error"
            );
        }
        Err(EngineError::Replaced)
    }
}
