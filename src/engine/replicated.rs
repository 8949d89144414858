//! Replicated strategy: a change is proposed to the process group, and applied when the group delivers it, in the same
//! order at all members. [`Replica`] runs the state machine of the database group on the tree. Connection and sending
//! are behind [`Proposer`].

use super::pending::PendingChange;
use super::{ChangeCallback, Engine, EngineError, EngineInner, answer_stored, requires_commit};
use crate::dcdb::wire::Request;
use crate::dcdb::{self, Dcdb, DcdbEffect};
use crate::dfsm::{App, Dfsm, Effect, Event, Needs, Now, SendError, Submission, Ticket};
use crate::memdb::{Applied, Change, Invalidation, MemDb, TreePath};
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A local change to be sent to the group.
#[derive(Debug)]
pub struct Proposal {
    /// The change.
    pub change: Change,
    /// Identifies the pending change; see [`Replica::complete`].
    pub ticket: Ticket,
    /// Uptime at which the change times out. It must not be sent afterwards.
    pub deadline: Duration,
}

impl From<Proposal> for Submission<Request> {
    fn from(proposal: Proposal) -> Self {
        let Proposal { change, ticket, deadline } = proposal;
        Self { request: Request::Change(change), ticket: Some(ticket), expires: deadline }
    }
}

/// The group was left for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupClosed;

/// Connection to the process group. No method blocks.
pub trait Proposer: fmt::Debug + Send + Sync {
    /// Sends a change to the group.
    ///
    /// # Errors
    /// The group was left for good. The engine then fails all pending changes.
    fn propose(&self, proposal: Proposal) -> Result<(), GroupClosed>;

    /// Asks the group to remove the lock with this checksum, if it has expired.
    fn request_expiry(&self, path: TreePath, checksum: [u8; 32]);

    /// A commit failed, or one succeeded again; see [`Engine::is_failed`].
    fn on_write_state(&self);
}

/// Notifies listeners of the invalidations of a change.
pub type Notify<'a> = &'a dyn Fn(&[Invalidation]);

/// Invalidates kernel caches after changes that did not come from this node's kernel.
pub type Invalidate = Box<dyn Fn(&[Invalidation]) + Send>;

impl Engine {
    /// From now on all changes go to the group. Only the first call counts.
    pub fn replicate_by(&self, proposer: Box<dyn Proposer>) {
        if self.inner.proposer.set(proposer).is_err() {
            log::error!(target: "database", "a second group for changes was refused");
        }
    }

    /// Whether changes go to a group.
    pub fn is_replicated(&self) -> bool {
        self.inner.proposer.get().is_some()
    }

    /// Runs `act` on the tree under its write lock. `act` must not block or use this engine, and must notify
    /// of each change. The changes are committed soon. If the file cannot be written, changes are still
    /// applied in memory; the caller must then leave the group (see [`Engine::is_failed`]).
    pub fn apply_batch<R>(&self, act: impl FnOnce(&mut MemDb, Notify<'_>) -> R) -> Result<R, EngineError> {
        if self.inner.queue.is_stopping() {
            return Err(EngineError::Closed);
        }
        let result = {
            let mut tree = self.inner.write()?;
            act(&mut tree, &|invalidations| self.inner.listeners.notify(invalidations))
        };
        self.commit_soon();
        Ok(result)
    }

    /// Runs `act` on a copy of the tree, however long it takes, and then swaps the copy in. Meanwhile readers
    /// use the old tree, and no other thread may change it. If `act` panics, the tree is unchanged.
    pub fn apply_on_copy<R>(&self, act: impl FnOnce(&mut MemDb, Notify<'_>) -> R) -> Result<R, EngineError> {
        if self.inner.queue.is_stopping() {
            return Err(EngineError::Closed);
        }
        let mut copy = self.read().clone();
        let all = RefCell::new(Vec::new());
        let result = act(&mut copy, &|invalidations| all.borrow_mut().extend_from_slice(invalidations));
        {
            // Rows committed meanwhile are still marked as changed in the copy: they are committed again.
            let mut tree = self.inner.write()?;
            tree.swap_in(&mut copy);
            self.inner.listeners.notify(&all.into_inner());
        }
        self.commit_soon();
        Ok(result)
    }

    fn commit_soon(&self) {
        if !self.is_stored(self.read().version()) {
            self.inner.queue.commit_soon(self.inner.clock);
        }
    }

    /// Blocks until the tree as it is now is on disk. The version is not compared with the stored one: after a resync
    /// two trees may have the same version.
    pub fn commit_blocking(&self) -> Result<(), EngineError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.inner.when_stored(Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// Replies to a local change that was delivered and applied: immediately, or after its commit. Never waits for the
    /// disk.
    pub fn reply_delivered(&self, applied: Applied, requires_commit: bool, done: ChangeCallback) {
        if requires_commit {
            let fingerprint = self.read().fingerprint_of(applied.inode);
            let stored = answer_stored(applied, done);
            self.inner.when_stored(self.inner.fail_if_tree_replaced(fingerprint, stored));
        } else {
            self.inner.answer_unstored(applied, done);
        }
    }
}

impl EngineInner {
    pub(super) fn on_write_state(&self) {
        if let Some(proposer) = self.proposer.get() {
            proposer.on_write_state();
        }
    }

    /// Checks the change, registers it as pending, and proposes it to the group.
    pub(super) fn submit_replicated(&self, proposer: &dyn Proposer, change: Change, done: ChangeCallback) {
        let checked = self.check_open().and_then(|()| Ok(self.read().check_limits(&change)?));
        if let Err(error) = checked {
            return done(Err(error));
        }
        let requires_commit = requires_commit(&change);
        let pending = PendingChange { callback: done, requires_commit };
        let Some((ticket, deadline)) = self.pending.register(pending) else { return };
        if proposer.propose(Proposal { change, ticket, deadline }).is_err() {
            self.pending.close();
        }
    }
}

/// Runs the database group's state machine on an engine's tree.
pub struct Replica {
    engine: Arc<Engine>,
    invalidate: Invalidate,
    is_failed: bool,
}

impl Replica {
    /// A replica of the group on this engine's tree.
    pub fn new(engine: Arc<Engine>, invalidate: Invalidate) -> Self {
        Self { engine, invalidate, is_failed: false }
    }

    /// Whether the tree can no longer follow the group, because of a fault of this program. The caller must then
    /// leave it for good.
    pub fn is_failed(&self) -> bool {
        self.is_failed
    }

    /// Handles an event, with as much access to the tree as it needs.
    pub fn handle(&mut self, dfsm: &mut Dfsm<Dcdb>, event: Event<'_>, now: Now) -> Vec<Effect<Dcdb>> {
        let engine = &self.engine;
        let event = dfsm.prepare(event, now);
        let needs = event.needs();
        match needs {
            Needs::State => engine.prepare_index(),
            Needs::Checksum => engine.prepare_checksum(),
            Needs::Access | Needs::Copy => {}
        }
        let act = |tree: &mut MemDb, notify: Notify<'_>| {
            let effects = event.run(tree);
            for effect in &effects {
                match effect {
                    Effect::App(DcdbEffect::Changed { applied, .. }) => notify(&applied.invalidations),
                    Effect::App(DcdbEffect::TreeReplaced { invalidations, .. }) => notify(invalidations),
                    _ => {}
                }
            }
            effects
        };
        let handled = if needs == Needs::Copy { engine.apply_on_copy(act) } else { engine.apply_batch(act) };
        handled.unwrap_or_else(|error| {
            if !std::mem::replace(&mut self.is_failed, true) {
                log::error!(target: "dcdb", "the database cannot follow the cluster: {error}");
            }
            Vec::new()
        })
    }

    /// Submits a request to the group. Only its checks lock the tree, for reading.
    pub fn submit(
        &mut self,
        dfsm: &mut Dfsm<Dcdb>,
        submission: Submission<Request>,
        now: Now,
    ) -> Vec<Effect<Dcdb>> {
        if let (true, Some(ticket)) = (self.is_failed, submission.ticket) {
            self.fail(ticket, EngineError::Storage);
            return Vec::new();
        }
        dfsm.submit(submission, now, |app, request| app.check(&self.engine.read(), request))
    }

    /// A change was applied. If a local caller waits for it, its invalidations are sent with its result.
    pub fn changed(&self, ticket: Option<Ticket>, applied: &Applied) {
        if ticket.is_none() {
            (self.invalidate)(&applied.invalidations);
        }
    }

    /// A resync installed the leader's tree: invalidates kernel caches, then blocks until the tree is on disk.
    pub fn finish_resync(&mut self, invalidations: &[Invalidation]) {
        // Readers have the new tree already: caches must not hold the old one while it is committed.
        (self.invalidate)(invalidations);
        if let Err(error) = self.engine.commit_blocking() {
            log::error!(target: "dcdb", "the updates of the leader are not stored: {error}");
        }
    }

    /// Completes a pending change with its outcome.
    pub fn complete(&self, ticket: Ticket, result: Result<dcdb::Outcome, SendError>) {
        let pending = &self.engine.inner.pending;
        if result == Err(SendError::SendFailed) {
            pending.on_send_failed(ticket);
        }
        match (result, pending.complete(ticket)) {
            (Ok(Ok(applied)), Some(pending)) => {
                self.engine.reply_delivered(applied, pending.requires_commit, pending.callback);
            }
            // The change timed out: its request failed already.
            (Ok(Ok(applied)), None) => (self.invalidate)(&applied.invalidations),
            (Ok(Err(refused)), Some(pending)) => {
                let error = match refused {
                    dcdb::Refused::Change(error) => error.into(),
                    other => EngineError::from(other),
                };
                self.engine.inner.log_last_version(&error);
                (pending.callback)(Err(error));
            }
            (Err(error), Some(pending)) => (pending.callback)(Err(error.into())),
            (Ok(Err(_)) | Err(_), None) => {}
        }
    }

    /// Called for each message from the group.
    pub fn on_group_active(&self) {
        self.engine.inner.pending.on_group_active();
    }

    fn fail(&self, ticket: Ticket, error: EngineError) {
        if let Some(pending) = self.engine.inner.pending.complete(ticket) {
            (pending.callback)(Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dfsm::MemberId;
    use crate::memdb::{Limits, Stamp};
    use crate::store::Store;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LOCAL: MemberId = MemberId { node: 1, pid: 2 };
    const NOW: Now = Now { unix: 10, uptime: Duration::ZERO };

    /// Passes proposals to the test.
    #[derive(Debug)]
    struct Proposals(Mutex<Sender<Proposal>>);

    impl Proposer for Proposals {
        fn propose(&self, proposal: Proposal) -> Result<(), GroupClosed> {
            self.0.lock().expect("not poisoned").send(proposal).map_err(|_| GroupClosed)
        }

        fn request_expiry(&self, _: TreePath, _: [u8; 32]) {}

        fn on_write_state(&self) {}
    }

    /// The only member of a group.
    struct Fixture {
        engine: Arc<Engine>,
        replica: Replica,
        dfsm: Dfsm<Dcdb>,
        proposals: Receiver<Proposal>,
        invalidated: Receiver<Vec<Invalidation>>,
        _dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let store = Store::open(&dir.path().join("config.db"), 1).expect("a new database");
            let engine = Arc::new(Engine::open(store, Clock::start()).expect("an empty tree"));
            let (sender, proposals) = channel();
            engine.replicate_by(Box::new(Proposals(Mutex::new(sender))));
            let (sender, invalidated) = channel();
            let invalidate = move |invalidations: &[Invalidation]| {
                sender.send(invalidations.to_vec()).expect("the test receives");
            };
            let mut replica = Replica::new(Arc::clone(&engine), Box::new(invalidate));
            let mut dfsm = Dfsm::new(Dcdb::new());
            dfsm.app_mut().set_quorate(true);
            replica.handle(&mut dfsm, Event::Join(LOCAL), NOW);
            replica.handle(&mut dfsm, Event::Confchg { members: &[LOCAL], joined: true }, NOW);
            Self { engine, replica, dfsm, proposals, invalidated, _dir: dir }
        }

        fn submit(&self, path: &str) -> Receiver<Result<Applied, EngineError>> {
            let (sender, receiver) = channel();
            let done = Box::new(move |result| sender.send(result).expect("the test receives"));
            self.engine.submit(Change::Create { path: path.into() }, done);
            receiver
        }

        /// Sends a proposed change, and delivers it.
        fn deliver(&mut self, proposal: Proposal) {
            for effect in self.replica.submit(&mut self.dfsm, proposal.into(), NOW) {
                let Effect::Send(frame) = effect else { continue };
                let event = Event::Deliver { from: LOCAL, bytes: &frame.to_vec() };
                for effect in self.replica.handle(&mut self.dfsm, event, NOW) {
                    self.carry_out(effect);
                }
            }
        }

        fn carry_out(&mut self, effect: Effect<Dcdb>) {
            match effect {
                Effect::App(DcdbEffect::Changed { ticket, applied, .. }) => {
                    self.replica.changed(ticket, &applied);
                }
                Effect::Answer { ticket, result } => self.replica.complete(ticket, result),
                _ => {}
            }
        }
    }

    #[test]
    fn delivered_change_completes_its_caller() {
        let mut fixture = Fixture::new();
        let reply = fixture.submit("file");
        let proposal = fixture.proposals.try_recv().expect("proposed");
        assert!(reply.try_recv().is_err() && fixture.engine.read().resolve(b"file").is_none());
        fixture.deliver(proposal);
        assert!(reply.try_recv().expect("a reply").is_ok());
        assert!(fixture.invalidated.try_recv().is_err(), "the reply tells the kernel");
        assert!(fixture.engine.read().resolve(b"file").is_some());
    }

    #[test]
    fn change_delivered_after_its_timeout_is_invalidated() {
        let mut fixture = Fixture::new();
        let reply = fixture.submit("file");
        let proposal = fixture.proposals.try_recv().expect("proposed");
        fixture.replica.fail(proposal.ticket, EngineError::TimedOut);
        assert_eq!(reply.try_recv(), Ok(Err(EngineError::TimedOut)));
        fixture.deliver(proposal);
        assert_eq!(fixture.invalidated.try_recv().map(|invalidations| invalidations.len()), Ok(1));
    }

    #[test]
    fn change_of_another_member_is_invalidated() {
        let mut fixture = Fixture::new();
        let other = MemberId { node: 2, pid: 2 };
        let mut tree = MemDb::new();
        let change = Change::Create { path: "file".into() };
        let applied = tree.apply(change, Stamp { writer: 2, time: 1 }, Limits::Agreed, Duration::ZERO);
        let applied = applied.expect("applies");
        let invalidations = applied.invalidations.clone();
        fixture.carry_out(Effect::App(DcdbEffect::Changed { by: other, count: 1, ticket: None, applied }));
        assert_eq!(fixture.invalidated.try_recv(), Ok(invalidations));
    }

    #[test]
    fn closed_group_fails_all_changes() {
        let Fixture { engine, proposals, _dir, .. } = Fixture::new();
        let submit = || {
            let (sender, receiver) = channel();
            let done =
                Box::new(move |result: Result<Applied, EngineError>| sender.send(result).expect("received"));
            engine.submit(Change::Create { path: "file".into() }, done);
            receiver
        };
        let first = submit();
        drop(proposals);
        let second = submit();
        for reply in [first, second, submit()] {
            assert_eq!(reply.try_recv(), Ok(Err(SendError::NotMember.into())));
        }
    }
}
