//! The state machine of a process group: who is in it, who has the same data, when messages are
//! applied. Both groups run on it: the database ([`crate::dcdb`]) and the status
//! ([`crate::status_group`]) are its applications.
//!
//! Events come in ([`Event`]), effects go out ([`Effect`]), in the order in which they are to be
//! carried out. It never does I/O: no socket, clock, lock, thread or log; time, node id and what the
//! group delivers come in as values. So a whole cluster can be simulated, faults included.
//!
//! Who drives it owes it this:
//!
//! 1. Everything that the group reports, in order; effects are carried out in order before the next
//!    event, as far as they are not merely queued.
//! 2. [`Event::Join`] before the group is joined, and that not before [`Effect::Left`] when it was
//!    left. When the connection itself is lost: [`Event::Confchg`] without any member, then as above.
//! 3. [`Event::SendFailed`] for what cannot be sent; if the group is left by that, nothing that still
//!    waits to be sent may reach it.
//! 4. [`Event::Tick`] when [`Dfsm::next_tick`] says so.
//! 5. Quorum as [`crate::dcdb::Dcdb::set_quorate`] wants it.
//!
//! The rules are those of stock nodes, which are members of the same groups, with these differences;
//! none of them shows on the wire:
//!
//! - A local message waits until this node is synced before it is sent. Stock sends at once; such a
//!   message can reach synced members and the sender at different places in the order of changes.
//! - While updates are awaited, everything that is delivered is kept in the order of arrival, as
//!   synced members apply it. Stock keeps the messages of members that are not synced for later,
//!   and then has another order than the synced members.
//! - A verification that arrives before this node is synced is ignored; stock leaves the group.
//! - Waiting callers are released as soon as the group is left, not when it is joined again.

mod app;
mod frame;
mod members;
mod pending_sends;
mod queue;
mod step;
mod sync;
mod verify;
pub mod wire;

pub use app::{App, Delivered, Delivery, Leave, Outgoing, Port, Then};
pub use frame::{Frame, Pieces, Purpose};
pub use members::{Member, Members};
pub use pending_sends::{SendError, Submission, Ticket};
pub use wire::MemberId;

use crate::clock::UnixTime;
use pending_sends::PendingSends;
use queue::Queue;
use std::time::Duration;
use step::{Decoded, Step};
use verify::Verification;
use wire::{Base, Epoch, Extension, Message, Normal, Sync, SyncKind};

/// Where the machine is. The numbers are stock's, as debug logs show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Not a member yet.
    Start = 0,
    /// Collecting the states of all members.
    StartSync = 1,
    /// This node has what the group has: messages are applied.
    Synced = 2,
    /// Waiting for the updates that this node lacks.
    Update = 3,
    /// To leave the group, and to join again after a while.
    Leave = 253,
    /// Left for good: a member speaks a newer protocol.
    VersionError = 254,
    /// Left for good: this node cannot keep what the group agrees on.
    Error = 255,
}

impl Mode {
    /// Whether the group is to be left, or was.
    pub fn is_error(self) -> bool {
        self >= Mode::Leave
    }

    /// Whether joining again may help.
    pub fn is_restartable(self) -> bool {
        !matches!(self, Mode::VersionError | Mode::Error)
    }
}

/// The time at which an event is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, for what is sent.
    pub unix: UnixTime,
    /// Time that never goes back, for what is waited for.
    pub uptime: Duration,
}

/// Input of the state machine, besides requests of local callers (see [`Dfsm::submit`]).
#[derive(Debug)]
pub enum Event<'a> {
    /// The group is about to be joined, as this member; also after it was left.
    Join(MemberId),
    /// The membership of the group changed. `joined` tells whether anybody joined; who left does
    /// not matter. The lists of joined and left differ between members, that of members does not.
    Confchg { members: &'a [MemberId], joined: bool },
    /// A message of the group, in agreed order.
    Deliver { from: MemberId, bytes: &'a [u8] },
    /// A message could not be sent.
    SendFailed(Purpose),
    /// A change or tree of the group cannot be stored now. This node leaves the group, and must not join it again
    /// before the store works.
    StoreFailed,
    /// The store can no longer follow the group: it is left for good.
    StoreBroken,
    /// Time went by. See [`Dfsm::next_tick`].
    Tick,
}

/// Access to the store that an event needs. The driver prepares it before it runs the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Exclusive access, for a short time.
    Access,
    /// Exclusive access; the application's state is computed, for the database the index of all entries.
    State,
    /// Exclusive access; the checksum of the whole store is computed.
    Checksum,
    /// A copy of the store, to be swapped in afterwards: a resync rebuilds the store, which takes long.
    Copy,
}

/// An event that is decoded and not handled yet.
#[derive(Debug)]
pub struct PreparedEvent<'a, A: App> {
    dfsm: &'a mut Dfsm<A>,
    event: Decoded<'a>,
    now: Now,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect<A: App> {
    /// To be sent to the group, this node included. When that fails for good, [`Event::SendFailed`]
    /// tells; if the group is left then, nothing else that was to be sent may be.
    Send(Frame),
    /// The mode changed. In an error mode the group is to be left; see [`Mode::is_restartable`].
    Mode(Mode),
    /// This process, which was to leave, is no member any more. Only now may the group be joined again.
    Left,
    /// The result for who submitted something.
    Answer { ticket: Ticket, result: Result<A::Outcome, SendError> },
    /// A line for the log.
    Log(Level, String),
    /// What the application asks for.
    App(A::Effect),
}

/// How a log line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Critical,
}

/// The state machine of one group.
#[derive(Debug)]
pub struct Dfsm<A: App> {
    app: A,
    mode: Mode,
    members: Members,
    sender: Sender,
    queue: Queue,
    verification: Verification,
    pending_sends: PendingSends<A::Request>,
    /// What all members understand beyond stock; of the last finished exchange of states.
    common: Extension,
}

/// Makes the heads of messages.
#[derive(Debug)]
struct Sender {
    protocol_version: u32,
    local: MemberId,
    epoch_counter: u32,
    /// The round of synchronisation that this node takes part in.
    epoch: Epoch,
    /// Number of the last message of the application.
    count: u64,
}

impl<A: App> Dfsm<A> {
    /// A machine that is in no group yet.
    pub fn new(app: A) -> Self {
        Self {
            app,
            mode: Mode::Start,
            members: Members::default(),
            sender: Sender {
                protocol_version: A::PROTOCOL_VERSION,
                local: MemberId { node: 0, pid: 0 },
                epoch_counter: 0,
                epoch: Epoch::default(),
                count: 0,
            },
            queue: Queue::default(),
            verification: Verification::default(),
            pending_sends: PendingSends::default(),
            common: Extension::default(),
        }
    }

    /// Decodes an event and returns it with its [`Needs`], for the driver to prepare the store.
    pub fn prepare<'a>(&'a mut self, event: Event<'a>, now: Now) -> PreparedEvent<'a, A> {
        let event = match event {
            Event::Join(local) => Decoded::Join(local),
            Event::Confchg { members, joined } => Decoded::Confchg { members, joined },
            Event::Deliver { from, bytes } => {
                Decoded::Deliver { from, bytes, message: Message::decode(bytes, A::PROTOCOL_VERSION) }
            }
            Event::SendFailed(purpose) => Decoded::SendFailed(purpose),
            Event::StoreFailed => Decoded::StoreFailed,
            Event::StoreBroken => Decoded::StoreBroken,
            Event::Tick => Decoded::Tick,
        };
        PreparedEvent { dfsm: self, event, now }
    }

    /// Handles one event. The store is that of the application; nothing else may change it while
    /// this node is in the group.
    pub fn handle(&mut self, store: &mut A::Store, event: Event<'_>, now: Now) -> Vec<Effect<A>> {
        self.prepare(event, now).run(store)
    }

    /// Accepts a request of a local caller. A ticket gets exactly one result, unless its submission expires
    /// unsent.
    ///
    /// If this node is synced, `check` runs immediately; it calls [`App::check`] and locks the store for no
    /// longer than that. Otherwise the request is kept until this node is synced, and checked then.
    pub fn submit(
        &mut self,
        submission: Submission<A::Request>,
        now: Now,
        check: impl FnOnce(&A, A::Request) -> Result<A::Request, A::Outcome>,
    ) -> Vec<Effect<A>> {
        let mut out = Vec::new();
        if submission.expires <= now.uptime {
            return out;
        }
        if self.mode == Mode::Synced {
            let checked = check(&self.app, submission.request);
            self.send_checked(checked, submission.ticket, now, &mut out);
        } else if self.mode == Mode::Start || self.mode.is_error() {
            let result = Err(SendError::NotMember);
            out.extend(submission.ticket.map(|ticket| Effect::Answer { ticket, result }));
        } else {
            self.pending_sends.push_unsent(submission);
        }
        out
    }

    /// Encodes and sends a request that passed its checks; otherwise completes it with the error.
    fn send_checked(
        &mut self,
        checked: Result<A::Request, A::Outcome>,
        ticket: Option<Ticket>,
        now: Now,
        out: &mut Vec<Effect<A>>,
    ) {
        match checked {
            Ok(request) => {
                let outgoing = A::encode(request, self.common);
                if outgoing.len() > wire::NORMAL_BYTES_MAX - wire::NORMAL_LEN {
                    let result = Err(SendError::TooLong);
                    out.extend(ticket.map(|ticket| Effect::Answer { ticket, result }));
                    return;
                }
                let frame = self.sender.normal(now, outgoing);
                if let Some(ticket) = ticket {
                    self.pending_sends.sent(self.sender.count, ticket);
                }
                out.push(Effect::Send(frame));
            }
            Err(outcome) => {
                out.extend(ticket.map(|ticket| Effect::Answer { ticket, result: Ok(outcome) }));
            }
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The members, as of the last change of the membership.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The round of synchronisation that this node takes or took part in.
    pub fn epoch(&self) -> Epoch {
        self.sender.epoch
    }

    /// Whether this is the member with the lowest node id.
    pub fn is_lowest(&self) -> bool {
        self.members.lowest_node() == Some(self.sender.local.node)
    }

    pub fn app(&self) -> &A {
        &self.app
    }

    pub fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// Number of submissions that wait until this node is synced.
    pub fn unsent(&self) -> usize {
        self.pending_sends.unsent_len()
    }

    /// When a [`Event::Tick`] is due at the latest.
    pub fn next_tick(&self) -> Duration {
        let verify = if A::VERIFIES { self.verification.due() } else { Duration::MAX };
        self.pending_sends.next_expiry().unwrap_or(Duration::MAX).min(verify)
    }
}

impl<A: App> PreparedEvent<'_, A> {
    /// Access to the store that [`PreparedEvent::run`] needs.
    pub fn needs(&self) -> Needs {
        let Decoded::Deliver { message: Ok(Message::Sync(message)), .. } = &self.event else {
            return Needs::Access;
        };
        let is_in_round = message.epoch == self.dfsm.sender.epoch;
        match (self.dfsm.mode, SyncKind::of(message.base.kind)) {
            (Mode::StartSync, Some(SyncKind::Start)) => Needs::State,
            (Mode::Synced, Some(SyncKind::VerifyRequest)) if is_in_round && A::VERIFIES => Needs::Checksum,
            (Mode::Update, Some(SyncKind::UpdateComplete)) if is_in_round => Needs::Copy,
            _ => Needs::Access,
        }
    }

    /// Handles the event.
    pub fn run(self, store: &mut A::Store) -> Vec<Effect<A>> {
        let mut step = Step::new(self.dfsm, store, self.now);
        match self.event {
            Decoded::Join(local) => step.join(local),
            Decoded::Confchg { members, joined } => step.membership_changed(members, joined),
            Decoded::Deliver { from, bytes, message } => step.deliver(from, bytes, message),
            Decoded::SendFailed(purpose) => step.send_failed(purpose),
            Decoded::StoreFailed => step.leave(),
            Decoded::StoreBroken => step.become_mode(Mode::Error),
            Decoded::Tick => step.tick(),
        }
        step.finish()
    }
}

impl Sender {
    fn base(&self, kind: u16, now: Now) -> Base {
        let (protocol_version, time) = (self.protocol_version, now.unix);
        Base { kind, subtype: 0, protocol_version, time, extension: Extension::default() }
    }

    /// A message of the application, numbered.
    fn normal(&mut self, now: Now, out: Outgoing) -> Frame {
        self.count += 1;
        let base = self.base(wire::NORMAL, now);
        let base = Base { subtype: out.subtype, extension: out.extension, ..base };
        let mut bytes = Pieces::from(Normal { base, count: self.count, payload: &out.head }.encode());
        if let Some(body) = out.body {
            bytes.share(body);
        }
        Frame { purpose: Purpose::Normal(self.count), bytes }
    }

    /// A message of the state machine.
    fn sync(&self, now: Now, kind: SyncKind, extension: Extension, payload: &[u8]) -> Frame {
        let base = Base { extension, ..self.base(kind as u16, now) };
        let bytes = Sync { base, epoch: self.epoch, payload }.encode().into();
        Frame { purpose: Purpose::Sync(kind), bytes }
    }

    fn new_epoch(&mut self, now: Now) {
        self.epoch_counter = self.epoch_counter.wrapping_add(1);
        let MemberId { node, pid } = self.local;
        self.epoch = Epoch { counter: self.epoch_counter, time: now.unix, node, pid };
    }
}
