//! The database as a member of a group: changes are not made where they are asked for, but where they
//! are delivered. This is the way there and the way in; the group itself is elsewhere.

use super::{Db, DbError, Done, Shared, Synced, answer_stored, is_durable};
use crate::memdb::{Applied, Change, MemDb, Touched, Trace, TreePath};
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};

/// Takes what local callers ask for. Neither may wait.
pub struct Route {
    /// Has a change made; `done` is called exactly once, by whatever thread.
    pub change: Box<dyn Fn(Change, Done) + Send + Sync>,
    /// Asks for the removal of a lock with this checksum, if it has expired.
    pub expire_lock: Box<dyn Fn(TreePath, [u8; 32]) + Send + Sync>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route")
    }
}

/// Tells observers what a change touched.
pub type Tell<'a> = &'a dyn Fn(&[Touched]);

impl Db {
    /// From now on all changes go this way. Only the first route counts.
    pub fn replicate_by(&self, route: Route) {
        if self.shared.route.set(route).is_err() {
            log::error!(target: "database", "a second route for changes was refused");
        }
    }

    /// Whether a group makes the changes.
    pub fn is_replicated(&self) -> bool {
        self.shared.route.get().is_some()
    }

    /// What can be refused here need not travel.
    pub(super) fn check_local(&self, change: &Change) -> Result<(), DbError> {
        self.shared.check_open()?;
        Ok(self.read().check_limits(change)?)
    }

    /// Lets the group work on the tree, under its lock: `act` must neither wait nor use this database,
    /// and must tell of each change. What it changed is stored soon. While the file cannot be written
    /// this goes on in memory; it is for the group to leave (see [`Db::is_failed`]).
    pub fn deliver<R>(&self, act: impl FnOnce(&mut MemDb, Tell<'_>) -> R) -> Result<R, DbError> {
        if self.shared.queue.is_stopping() {
            return Err(DbError::Closed);
        }
        let result = {
            let mut tree = self.shared.write()?;
            act(&mut tree, &|touched| self.shared.observers.tell(touched))
        };
        self.store_soon();
        Ok(result)
    }

    /// The same for what takes long: `act` works on a copy, and readers have the tree as it is until the copy
    /// takes its place. Nobody else may change the tree meanwhile. A panic leaves it as it was.
    pub fn deliver_apart<R>(&self, act: impl FnOnce(&mut MemDb, Tell<'_>) -> R) -> Result<R, DbError> {
        if self.shared.queue.is_stopping() {
            return Err(DbError::Closed);
        }
        let mut copy = self.read().clone();
        let told = RefCell::new(Vec::new());
        let result = act(&mut copy, &|touched| told.borrow_mut().extend_from_slice(touched));
        {
            // What a commit stored meanwhile the copy still has as changed: it is stored once more.
            let mut tree = self.shared.write()?;
            tree.give_way(&mut copy);
            self.shared.observers.tell(&told.into_inner());
        }
        self.store_soon();
        Ok(result)
    }

    fn store_soon(&self) {
        if !self.is_stored(self.read().version()) {
            self.shared.queue.commit_soon(self.shared.clock);
        }
    }

    /// Waits until the tree as it is now is on disk, whatever is known of its version: another database
    /// may have taken the place of one of the same version.
    pub fn store_wait(&self) -> Result<(), DbError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.shared.when_stored(Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(DbError::Closed))
    }

    /// Answers a local caller whose change was delivered and applied: at once, or when it is stored,
    /// by the same rule as everywhere. Never waits for the disk.
    pub fn answer_delivered(&self, applied: Applied, is_durable: bool, done: Done) {
        if is_durable {
            let trace = self.read().trace_of(applied.inode);
            let stored = answer_stored(applied, done);
            self.shared.when_stored(self.shared.unless_replaced(trace, stored));
        } else {
            self.shared.answer_unstored(applied, done);
        }
    }
}

/// Whether the answer to this change waits until it is stored.
pub fn waits_for_disk(change: &Change) -> bool {
    is_durable(change)
}

impl Shared {
    pub(super) fn check_open(&self) -> Result<(), DbError> {
        if self.queue.is_stopping() {
            return Err(DbError::Closed);
        }
        if self.failed.load(Ordering::Acquire) { Err(DbError::Storage) } else { Ok(()) }
    }

    /// For who waits for what `trace` is of: what reached the disk is that of another member's tree, if that
    /// took the place of this one before. Then this is a success only if that tree has it, too.
    pub(super) fn unless_replaced(self: &Arc<Self>, trace: Trace, done: Synced) -> Synced {
        let shared = Arc::clone(self);
        Box::new(move |stored| done(stored.and_then(|()| shared.check_has(&trace))))
    }

    fn check_has(&self, trace: &Trace) -> Result<(), DbError> {
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
        Err(DbError::Replaced)
    }
}
