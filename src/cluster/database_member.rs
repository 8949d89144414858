//! Database group member of this node: the CPG group and its driver behind one mutex. If the mutex is free, the
//! calling thread sends a change itself and avoids a hand-over to the cluster thread. Only the cluster thread blocks
//! on the mutex, joins, leaves, and handles reports of the group.

use super::callers::Callers;
use super::command_queue::{Command, CommandQueue};
use super::cpg_group::CpgGroup;
use super::drivers::DatabaseDriver;
use crate::clock::Clock;
use crate::dcdb::Dcdb;
use crate::dcdb::wire::Request;
use crate::dfsm::{Now, Ticket};
use crate::engine::{EngineError, Route, requires_commit};
use crate::memdb::Change;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The group and its driver.
pub(super) struct DatabaseMember {
    pub(super) group: CpgGroup<Dcdb>,
    pub(super) tree: DatabaseDriver,
    callers: Arc<Callers>,
}

/// The member, shared by callers and the cluster thread.
pub(super) struct SharedMember {
    member: Mutex<DatabaseMember>,
}

/// The mutex was taken: the cluster thread sends this change.
struct LockBusy(Change);

impl SharedMember {
    pub(super) fn new(tree: DatabaseDriver, callers: Arc<Callers>) -> Self {
        Self { member: Mutex::new(DatabaseMember { group: CpgGroup::new(Dcdb::new()), tree, callers }) }
    }

    /// For the cluster thread.
    ///
    /// # Panics
    /// When somebody panicked who sent a change: what that left must not take part in the group.
    pub(super) fn lock(&self) -> MutexGuard<'_, DatabaseMember> {
        self.member.lock().expect("no change was left half sent")
    }

    /// Leaves the group, whatever became of the member.
    pub(super) fn close(&self) {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).group.close();
    }

    /// Sends a change in this thread, if nobody else is at it. Says whether the cluster thread is to send
    /// the rest.
    fn submit(&self, change: Change, ticket: Ticket, now: Now) -> Result<bool, LockBusy> {
        match self.member.try_lock() {
            Ok(mut member) => Ok(member.submit(change, ticket, now)),
            Err(_) => Err(LockBusy(change)),
        }
    }
}

impl DatabaseMember {
    /// Has the group make a change. Says whether something is left to be sent.
    pub(super) fn submit(&mut self, change: Change, ticket: Ticket, now: Now) -> bool {
        if self.tree.failed {
            if let Some(caller) = self.callers.take(ticket) {
                (caller.done)(Err(EngineError::Storage));
            }
            false
        } else if self.callers.is_waiting(ticket) {
            self.group.submit(&mut self.tree, Request::Change(change), Some(ticket), now)
        } else {
            false
        }
    }
}

/// The way of local changes into the group. It holds the group's members weakly: the database holds the
/// way, and they the database.
pub(super) fn route(
    clock: Clock,
    member: &Arc<SharedMember>,
    commands: &Arc<CommandQueue>,
    callers: &Arc<Callers>,
) -> Route {
    let (member, callers) = (Arc::downgrade(member), Arc::clone(callers));
    let (commands, locks) = (Arc::clone(commands), Arc::clone(commands));
    Route {
        change: Box::new(move |change, done| {
            let Some(ticket) = callers.enter(done, requires_commit(&change)) else { return };
            let Some(member) = member.upgrade() else { return callers.close() };
            let now = Now { unix: clock.unix(), uptime: clock.uptime() };
            match member.submit(change, ticket, now) {
                Ok(false) => {}
                Ok(true) => commands.wake(),
                Err(LockBusy(change)) => {
                    if commands.push(Command::Change { change, ticket }).is_err() {
                        callers.close();
                    }
                }
            }
        }),
        expire_lock: Box::new(move |path, checksum| {
            // Refused at the end of the daemon only, when locks are for others to expire.
            let _ = locks.push(Command::ExpireLock { path, checksum });
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cfs::testing::TestNode;
    use crate::dfsm::{Event, MemberId, SendError};
    use std::sync::mpsc::{Receiver, TryRecvError, channel};
    use std::thread;
    use std::time::Duration;

    type Answer = Result<crate::memdb::Applied, EngineError>;

    struct Fixture {
        member: Arc<SharedMember>,
        commands: Arc<CommandQueue>,
        route: Route,
        node: TestNode,
    }

    impl Fixture {
        fn new() -> Self {
            let node = TestNode::new();
            let callers = Arc::new(Callers::new(node.cfs.clock));
            let tree = DatabaseDriver::new(
                Arc::clone(&node.cfs),
                Box::new(|_| {}),
                "/nonexistent".into(),
                Arc::clone(&callers),
            );
            let member = Arc::new(SharedMember::new(tree, Arc::clone(&callers)));
            let commands = Arc::new(CommandQueue::new().expect("eventfd"));
            let route = route(node.cfs.clock, &member, &commands, &callers);
            Self { member, commands, route, node }
        }

        fn change(&self) -> Receiver<Answer> {
            let (sender, receiver) = channel();
            let done = Box::new(move |answer| sender.send(answer).expect("heard"));
            (self.route.change)(Change::Create { path: "file".into() }, done);
            receiver
        }
    }

    #[test]
    fn a_change_goes_to_the_group_in_the_thread_that_asks() {
        let fixture = Fixture::new();
        assert_eq!(fixture.change().try_recv(), Ok(Err(SendError::NotMember.into())));
        assert!(fixture.commands.take().is_empty());
    }

    #[test]
    fn sending_a_change_does_not_wait_for_readers() {
        let fixture = Fixture::new();
        let local = MemberId { node: 1, pid: 2 };
        let now = Now { unix: 0, uptime: Duration::ZERO };
        let mut member = fixture.member.lock();
        member.group.dfsm_mut().app_mut().set_quorate(true);
        let DatabaseMember { group, tree, .. } = &mut *member;
        group.handle(tree, Event::Join(local), now);
        group.handle(tree, Event::Confchg { members: &[local], joined: true }, now);
        drop(member);
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
    fn who_finds_the_group_in_use_leaves_the_change_to_the_thread() {
        let fixture = Fixture::new();
        let used = fixture.member.lock();
        let answer = fixture.change();
        assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
        drop(used);
        let Some(Command::Change { change, ticket }) = fixture.commands.take().pop_front() else {
            panic!("nothing was left for the thread");
        };
        let now = Now { unix: 0, uptime: Duration::ZERO };
        assert!(!fixture.member.lock().submit(change, ticket, now), "nothing to send");
        assert_eq!(answer.try_recv(), Ok(Err(SendError::NotMember.into())));
    }

    #[test]
    fn after_the_end_of_the_group_nobody_waits() {
        let fixture = Fixture::new();
        let Fixture { member, route, .. } = fixture;
        drop(member);
        let (sender, receiver) = channel();
        let done = Box::new(move |answer: Answer| sender.send(answer).expect("heard"));
        (route.change)(Change::Create { path: "file".into() }, done);
        assert_eq!(receiver.try_recv(), Ok(Err(SendError::NotMember.into())));
    }
}
