//! Process group under control of the test. Local changes are held until the test delivers them, and the test
//! decides when changes of another member are delivered. So the order of events is deterministic.

use crate::fixture::{PATIENCE, Tree};
use crate::operations::Call;
use pmxcfs::dcdb::Refused;
use pmxcfs::dfsm::Ticket;
use pmxcfs::engine::{GroupClosed, Proposal, Proposer, Replica};
use pmxcfs::memdb::{Applied, Change, ChangeError, Invalidation, Limits, MemDb, Stamp, TreePath};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

/// Node ids of this node and of the other member.
const HERE: u32 = 1;
const ELSEWHERE: u32 = 2;

/// Time of all changes: later than those of the fixture.
const TIME: u32 = 2_000_000_000;

/// Progress of a local operation.
enum Progress {
    /// The daemon submitted a change to the group.
    Submitted(Held),
    /// The system call returned.
    Returned(io::Result<()>),
}

/// A local change that was submitted and not delivered.
pub struct Held {
    change: Change,
    ticket: Ticket,
}

/// Passes proposed changes to the test.
#[derive(Debug)]
struct Submissions(Mutex<Sender<Progress>>);

impl Proposer for Submissions {
    fn propose(&self, proposal: Proposal) -> Result<(), GroupClosed> {
        let Proposal { change, ticket, .. } = proposal;
        let submitted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        submitted.send(Progress::Submitted(Held { change, ticket })).expect("the test listens");
        Ok(())
    }

    fn request_expiry(&self, _: TreePath, _: [u8; 32]) {}

    fn on_write_state(&self) {}
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)
    }
}

/// A deliberate fault: invalidations of this kind are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    Nothing,
    Contents,
    Attributes,
    Names,
}

impl Lost {
    fn includes(self, invalidation: &Invalidation) -> bool {
        match invalidation {
            Invalidation::Entry { .. } => self == Self::Names,
            Invalidation::Content { .. } => self == Self::Contents,
            Invalidation::Attributes { .. } => self == Self::Attributes,
            Invalidation::Removed { .. } => false,
        }
    }
}

/// The group of one mounted tree.
pub struct Group<'a> {
    tree: &'a Tree,
    replica: Replica,
    progress: Receiver<Progress>,
    sender: Sender<Progress>,
    lost: Lost,
    /// The group has a stock member, so changes contain a path and no inode.
    has_stock_member: bool,
}

/// A local operation in progress.
pub struct Local {
    thread: JoinHandle<()>,
}

impl<'a> Group<'a> {
    /// From now on this group makes all changes of the tree.
    pub fn join(tree: &'a Tree, lost: Lost) -> Self {
        let (sender, progress) = channel();
        tree.cfs.engine.replicate_by(Box::new(Submissions(Mutex::new(sender.clone()))));
        let replica = Replica::new(Arc::clone(&tree.cfs.engine), Box::new(|_| ()));
        Self { tree, replica, progress, sender, lost, has_stock_member: false }
    }

    /// The same group with a stock member.
    pub fn with_stock_member(self) -> Self {
        Self { has_stock_member: true, ..self }
    }

    /// Starts a system call in a separate thread, and waits until its change is submitted. If the call
    /// submits none, this returns its result as the error.
    pub fn start(&self, call: Call) -> Result<(Local, Held), io::Result<()>> {
        let sender = self.sender.clone();
        let thread = thread::spawn(move || {
            let result = call();
            sender.send(Progress::Returned(result)).expect("the test listens");
        });
        match self.next() {
            Progress::Submitted(held) => Ok((Local { thread }, held)),
            Progress::Returned(result) => Err(result),
        }
    }

    /// The next change that a started operation submits; `None` if its system call returns without one.
    /// [`Group::finish`] then returns the result.
    pub fn next_submitted(&self) -> Option<Held> {
        match self.next() {
            Progress::Submitted(held) => Some(held),
            returned @ Progress::Returned(_) => {
                self.sender.send(returned).expect("this end listens");
                None
            }
        }
    }

    /// Applies a held change, as when the group delivers it, and replies to its caller.
    pub fn deliver(&self, held: Held) {
        self.reply(self.apply_held(held));
    }

    /// Applies a held change without a reply to its caller.
    pub fn apply_held(&self, held: Held) -> AppliedHere {
        let Held { change, ticket } = held;
        AppliedHere { result: self.apply(change, HERE), ticket }
    }

    /// Replies to the caller of an applied change.
    pub fn reply(&self, applied: AppliedHere) {
        self.replica.complete(applied.ticket, Ok(applied.result.map_err(Refused::Change)));
    }

    /// Delivers a change of the other member. Returns false if the rules of the tree refuse it.
    pub fn deliver_remote(&self, change: Change) -> bool {
        let Ok(applied) = self.apply(change, ELSEWHERE) else { return false };
        let told: Vec<Invalidation> = applied
            .invalidations
            .into_iter()
            .filter(|invalidation| !self.lost.includes(invalidation))
            .collect();
        self.tree.mounted().invalidate().queue(&told);
        true
    }

    /// Applies a change of the other member without a notification of the kernel.
    pub fn apply_remote(&self, change: Change) {
        self.apply(change, ELSEWHERE).expect("the rules of the tree take it");
    }

    /// Delivers all changes of a started operation until its system call returns.
    pub fn finish(&self, local: Local) -> io::Result<()> {
        loop {
            match self.next() {
                Progress::Submitted(held) => self.deliver(held),
                Progress::Returned(result) => {
                    local.thread.join().expect("the call's thread ends");
                    return result;
                }
            }
        }
    }

    fn apply(&self, change: Change, writer: u32) -> Result<Applied, ChangeError> {
        let act = |tree: &mut MemDb, tell: pmxcfs::engine::Notify<'_>| {
            let applied = tree.apply(change, Stamp { writer, time: TIME }, Limits::Agreed, Duration::ZERO);
            applied.inspect(|applied| tell(&applied.invalidations))
        };
        self.tree.cfs.engine.apply_batch(act).expect("the database is open")
    }

    fn next(&self) -> Progress {
        match self.progress.recv_timeout(PATIENCE).expect("the operation makes progress in time") {
            Progress::Submitted(held) => Progress::Submitted(self.sent(held)),
            returned @ Progress::Returned(_) => returned,
        }
    }

    /// The change as its message contains it: a change of an entry has the path at which the entry is now.
    fn sent(&self, held: Held) -> Held {
        let Held { change: Change::Entry { inode, place: None, change }, ticket } = held else { return held };
        let path = self.tree.cfs.engine.read().path_of(inode).expect("the test removes nothing meanwhile");
        let change = if self.has_stock_member {
            change.at_path(path)
        } else {
            Change::Entry { inode, place: Some(path), change }
        };
        Held { change, ticket }
    }
}

/// A local change that was applied and has no reply yet.
pub struct AppliedHere {
    result: Result<Applied, ChangeError>,
    ticket: Ticket,
}
