//! What an application of the state machine provides, and what it may ask for in turn.

use super::members::{Member, Members};
use super::pending_sends::Ticket;
use super::wire::{Extension, MemberId, SyncKind};
use super::{Effect, Level, Now, Pieces, Sender};
use crate::clock::UnixTime;
use std::fmt::Debug;
use std::sync::Arc;

/// An application: what a group is about. There are two, the database and the status.
pub trait App: Debug + Sized {
    /// The name of its group, without the NUL that travels with it.
    const GROUP: &'static str;
    /// What its log lines begin with.
    const DOMAIN: &'static str;
    /// Members with a higher one are not understood, those with a lower one ignored.
    const PROTOCOL_VERSION: u32;
    /// Whether members verify: compare checksums of the store.
    const VERIFIES: bool;

    /// What it works on.
    type Store;
    /// What can be submitted.
    type Request: Debug;
    /// What a submitter is told.
    type Outcome: Debug;
    /// What it asks for outside.
    type Effect: Debug;

    /// What this node understands beyond stock.
    fn extension(&self) -> Extension {
        Extension::default()
    }

    /// Checks a local request against the store, just before it is sent. Returns the request to send, or the
    /// outcome of one that is not to be sent.
    fn check(&self, store: &Self::Store, request: Self::Request) -> Result<Self::Request, Self::Outcome>;

    /// Encodes a checked request, with the extensions that all members have in common.
    fn encode(request: Self::Request, common: Extension) -> Outgoing;

    /// The state that all members exchange.
    fn state(&mut self, store: &mut Self::Store) -> Vec<u8>;

    /// All states are there: marks who is synced, and sends what the others lack.
    fn process_states(
        &mut self,
        store: &mut Self::Store,
        members: &mut [Member],
        port: &mut Port<'_, Self>,
    ) -> Result<(), Leave>;

    /// Something that this node lacks.
    fn process_update(&mut self, payload: &[u8], port: &mut Port<'_, Self>) -> Result<(), Leave>;

    /// Installs the leader's tree: all updates have arrived.
    fn finish_resync(&mut self, store: &mut Self::Store, port: &mut Port<'_, Self>) -> Result<(), Leave>;

    /// The round is over or void: what it collected is of no use any more.
    fn forget_round(&mut self);

    /// A message, in agreed order.
    fn deliver(
        &mut self,
        store: &mut Self::Store,
        message: &Delivery<'_>,
        port: &mut Port<'_, Self>,
    ) -> Delivered<Self::Outcome>;

    /// The checksum of everything, where members verify.
    fn checksum(&mut self, store: &Self::Store) -> [u8; 32];

    /// The membership changed, and this node is in it.
    fn membership_changed(&mut self, store: &mut Self::Store, members: &Members);

    /// This node has just become synced.
    fn synced(&mut self, store: &mut Self::Store, port: &mut Port<'_, Self>);
}

/// A message of the application as it was delivered.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    pub from: MemberId,
    /// Whether this process sent it.
    pub local: bool,
    /// Ticket of the local caller that waits for its outcome.
    pub ticket: Option<Ticket>,
    /// The sender's running number.
    pub count: u64,
    pub subtype: u16,
    pub extension: Extension,
    /// When it was sent, as the sender's wall clock says.
    pub time: UnixTime,
    pub payload: &'a [u8],
}

/// What became of a message.
#[derive(Debug)]
pub struct Delivered<O> {
    /// For its sender.
    pub outcome: O,
    pub then: Then,
}

/// How to go on after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Continue,
    /// The group is to be left, to join again and sync.
    Leave,
}

/// The group is to be left, to join again and sync. The reason was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave;

/// A message of the application on its way out, its head yet to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub subtype: u16,
    pub extension: Extension,
    /// The payload, in two parts: the contents of files are not copied.
    pub head: Vec<u8>,
    pub body: Option<Arc<Vec<u8>>>,
}

impl Outgoing {
    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.as_ref().map_or(0, |body| body.len())
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an application may ask for while it handles something.
#[derive(Debug)]
pub struct Port<'a, A: App> {
    pub(super) sender: &'a mut Sender,
    pub(super) out: &'a mut Vec<Effect<A>>,
    pub(super) now: Now,
    /// Whether this is the member with the lowest node id.
    pub(super) is_lowest: bool,
    pub(super) common: Extension,
}

impl<A: App> Port<'_, A> {
    pub fn now(&self) -> Now {
        self.now
    }

    /// This process in the group.
    pub fn local(&self) -> MemberId {
        self.sender.local
    }

    /// Whether this is the member with the lowest node id.
    pub fn is_lowest(&self) -> bool {
        self.is_lowest
    }

    /// What all members understand beyond stock. The same at all members that apply a message.
    pub fn common(&self) -> Extension {
        self.common
    }

    pub fn info(&mut self, text: impl Into<String>) {
        self.out.push(Effect::Log(Level::Info, text.into()));
    }

    pub fn critical(&mut self, text: impl Into<String>) {
        self.out.push(Effect::Log(Level::Critical, text.into()));
    }

    /// Asks for something outside.
    pub fn effect(&mut self, effect: A::Effect) {
        self.out.push(Effect::App(effect));
    }

    /// Sends a message of the application; nobody waits for it.
    pub fn send(&mut self, out: Outgoing) {
        let frame = self.sender.normal(self.now, out);
        self.out.push(Effect::Send(frame));
    }

    /// Sends what some member lacks, or a part of it.
    pub fn send_update(&mut self, payload: Pieces) {
        let mut frame = self.sender.sync(self.now, SyncKind::Update, Extension::default(), &[]);
        frame.bytes.append(payload);
        self.out.push(Effect::Send(frame));
    }

    /// Says that no more updates follow.
    pub fn send_update_complete(&mut self) {
        let frame = self.sender.sync(self.now, SyncKind::UpdateComplete, Extension::default(), &[]);
        self.out.push(Effect::Send(frame));
    }
}
