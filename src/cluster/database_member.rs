//! Database group member of this node: the CPG group and its driver behind one mutex. If the mutex is free, the
//! calling thread sends a change itself and avoids a hand-over to the cluster thread. Only the cluster thread blocks
//! on the mutex, joins and leaves the group, and handles its reports.

use super::command_queue::{Command, CommandQueue};
use super::cpg_group::CpgGroup;
use super::drivers::DatabaseDriver;
use crate::clock::Clock;
use crate::dcdb::Dcdb;
use crate::dfsm::Now;
use crate::engine::{GroupClosed, Proposal, Proposer};
use crate::memdb::TreePath;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The group and its driver.
pub(super) struct DatabaseMember {
    pub(super) group: CpgGroup<Dcdb>,
    pub(super) driver: DatabaseDriver,
}

/// The member, shared by callers and the cluster thread.
pub(super) struct SharedMember {
    member: Mutex<DatabaseMember>,
}

/// The mutex was locked: the cluster thread sends this change.
struct LockBusy(Proposal);

impl SharedMember {
    pub(super) fn new(driver: DatabaseDriver) -> Self {
        Self { member: Mutex::new(DatabaseMember { group: CpgGroup::new(Dcdb::new()), driver }) }
    }

    /// Locks the member. Only the cluster thread calls this.
    ///
    /// # Panics
    /// If a caller panicked while it sent a change: a half-sent change must not take part in the group.
    pub(super) fn lock(&self) -> MutexGuard<'_, DatabaseMember> {
        self.member.lock().expect("no change was left half sent")
    }

    /// Leaves the group, even if a caller panicked with the member.
    pub(super) fn close(&self) {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).group.close();
    }

    /// Sends a change in this thread if the mutex is free. Returns whether the cluster thread has to send the rest.
    fn submit(&self, proposal: Proposal, now: Now) -> Result<bool, LockBusy> {
        match self.member.try_lock() {
            Ok(mut member) => Ok(member.submit(proposal, now)),
            Err(_) => Err(LockBusy(proposal)),
        }
    }
}

impl DatabaseMember {
    /// Submits a change to the group. Returns true if messages remain to be sent.
    pub(super) fn submit(&mut self, proposal: Proposal, now: Now) -> bool {
        self.group.submit(&mut self.driver, proposal.into(), now)
    }
}

/// Proposes the engine's changes to the group. The reference to the member is weak, since the member holds
/// the engine and the engine holds this proposer.
pub(super) struct CpgProposer {
    clock: Clock,
    member: Weak<SharedMember>,
    commands: Arc<CommandQueue>,
}

impl CpgProposer {
    pub(super) fn new(clock: Clock, member: &Arc<SharedMember>, commands: &Arc<CommandQueue>) -> Self {
        Self { clock, member: Arc::downgrade(member), commands: Arc::clone(commands) }
    }
}

impl Proposer for CpgProposer {
    fn propose(&self, proposal: Proposal) -> Result<(), GroupClosed> {
        let member = self.member.upgrade().ok_or(GroupClosed)?;
        let now = Now { unix: self.clock.unix(), uptime: self.clock.uptime() };
        match member.submit(proposal, now) {
            Ok(false) => {}
            Ok(true) => self.commands.wake(),
            Err(LockBusy(proposal)) => {
                self.commands.push(Command::Propose(proposal)).map_err(|_| GroupClosed)?;
            }
        }
        Ok(())
    }

    fn request_expiry(&self, path: TreePath, checksum: [u8; 32]) {
        // Fails only when the daemon stops; then the other nodes expire locks.
        let _ = self.commands.push(Command::ExpireLock { path, checksum });
    }

    fn on_write_state(&self) {
        self.commands.wake();
    }
}

impl fmt::Debug for CpgProposer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CpgProposer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cfs::testing::TestNode;
    use crate::dfsm::{Event, MemberId, SendError};
    use crate::engine::EngineError;
    use crate::memdb::{Applied, Change};
    use std::sync::mpsc::{Receiver, TryRecvError, channel};
    use std::thread;
    use std::time::Duration;

    type Answer = Result<Applied, EngineError>;

    const LOCAL: MemberId = MemberId { node: 1, pid: 2 };

    struct Fixture {
        member: Arc<SharedMember>,
        commands: Arc<CommandQueue>,
        node: TestNode,
    }

    impl Fixture {
        fn new() -> Self {
            let node = TestNode::new();
            let driver = DatabaseDriver::new(Arc::clone(&node.cfs), Box::new(|_| {}), "/nonexistent".into());
            let member = Arc::new(SharedMember::new(driver));
            let commands = Arc::new(CommandQueue::new().expect("eventfd"));
            let proposer = CpgProposer::new(node.cfs.clock, &member, &commands);
            node.cfs.engine.replicate_by(Box::new(proposer));
            Self { member, commands, node }
        }

        fn now(&self) -> Now {
            Now { unix: 0, uptime: self.node.cfs.clock.uptime() }
        }

        /// Makes this node the only member. Without a connection messages stay in the queue.
        fn become_member(&self) {
            let mut member = self.member.lock();
            member.group.dfsm_mut().app_mut().set_quorate(true);
            let DatabaseMember { group, driver } = &mut *member;
            group.handle(driver, Event::Join(LOCAL), self.now());
            group.handle(driver, Event::Confchg { members: &[LOCAL], joined: true }, self.now());
        }

        fn change(&self) -> Receiver<Answer> {
            let (sender, receiver) = channel();
            let done = Box::new(move |answer| sender.send(answer).expect("heard"));
            self.node.cfs.engine.submit(Change::Create { path: "file".into() }, done);
            receiver
        }
    }

    #[test]
    fn change_is_submitted_by_the_calling_thread() {
        let fixture = Fixture::new();
        assert_eq!(fixture.change().try_recv(), Ok(Err(SendError::NotMember.into())));
        assert!(fixture.commands.take().is_empty());
    }

    #[test]
    fn sending_a_change_does_not_wait_for_readers() {
        let fixture = Fixture::new();
        fixture.become_member();
        let reader = fixture.node.cfs.engine.read();
        let (sender, sent) = channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let answer = fixture.change();
                sender.send(answer.try_recv()).expect("the test waits");
            });
            assert_eq!(sent.recv_timeout(Duration::from_secs(20)), Ok(Err(TryRecvError::Empty)));
            drop(reader);
        });
        assert_eq!(fixture.member.lock().group.backlog(), 1, "it waits for a connection");
    }

    #[test]
    fn busy_group_leaves_the_change_to_the_thread() {
        let fixture = Fixture::new();
        let used = fixture.member.lock();
        let answer = fixture.change();
        assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
        drop(used);
        let Some(Command::Propose(proposal)) = fixture.commands.take().pop_front() else {
            panic!("nothing was left for the thread");
        };
        assert!(!fixture.member.lock().submit(proposal, fixture.now()), "nothing to send");
        assert_eq!(answer.try_recv(), Ok(Err(SendError::NotMember.into())));
    }

    #[test]
    fn expired_change_is_not_sent() {
        let fixture = Fixture::new();
        fixture.become_member();
        let used = fixture.member.lock();
        let answer = fixture.change();
        drop(used);
        let Some(Command::Propose(proposal)) = fixture.commands.take().pop_front() else {
            panic!("nothing was left for the thread");
        };
        let now = Now { unix: 0, uptime: proposal.deadline };
        assert!(!fixture.member.lock().submit(proposal, now));
        assert_eq!(fixture.member.lock().group.backlog(), 0);
        assert_eq!(answer.try_recv(), Err(TryRecvError::Empty), "its deadline is for the table");
    }

    #[test]
    fn changes_fail_after_the_end_of_the_group() {
        let Fixture { member, commands, node } = Fixture::new();
        drop(member);
        let fixture = |change: Change| {
            let (sender, receiver) = channel();
            node.cfs.engine.submit(change, Box::new(move |answer| sender.send(answer).expect("heard")));
            receiver
        };
        let answer = fixture(Change::Create { path: "file".into() });
        assert_eq!(answer.try_recv(), Ok(Err(SendError::NotMember.into())));
        assert!(commands.take().is_empty());
    }
}
