//! The handling of one event: membership, delivery, local messages, leaving. The exchange of states
//! is in `sync.rs`.

use super::app::{App, Delivery, Leave, Port, Then};
use super::pending_sends::{SendError, Ticket};
use super::queue::Queued;
use super::wire::{Extension, MemberId, Message, Normal, SyncKind, WireError};
use super::{Dfsm, Effect, Frame, Level, Members, Mode, Now, Purpose};

/// An [`super::Event`] with its message decoded.
#[derive(Debug)]
pub(super) enum Decoded<'a> {
    Join(MemberId),
    Confchg { members: &'a [MemberId], joined: bool },
    Deliver { from: MemberId, bytes: &'a [u8], message: Result<Message<'a>, WireError> },
    SendFailed(Purpose),
    StoreFailed,
    StoreBroken,
    Tick,
}

/// One event being handled.
pub(super) struct Step<'a, A: App> {
    pub(super) dfsm: &'a mut Dfsm<A>,
    pub(super) store: &'a mut A::Store,
    pub(super) now: Now,
    pub(super) out: Vec<Effect<A>>,
}

impl<'a, A: App> Step<'a, A> {
    pub(super) fn new(dfsm: &'a mut Dfsm<A>, store: &'a mut A::Store, now: Now) -> Self {
        Self { dfsm, store, now, out: Vec::new() }
    }

    /// Runs after every event: completes callers if the group is left, and sends unsent requests if this node
    /// is synced.
    pub(super) fn finish(mut self) -> Vec<Effect<A>> {
        self.dfsm.pending_sends.drop_expired(self.now.uptime);
        if self.dfsm.mode.is_error() {
            self.release(SendError::Left);
        }
        while self.dfsm.mode == Mode::Synced {
            let Some(submission) = self.dfsm.pending_sends.pop_unsent() else { break };
            let checked = self.dfsm.app.check(self.store, submission.request);
            self.dfsm.send_checked(checked, submission.ticket, self.now, &mut self.out);
        }
        self.out
    }

    /// The group is about to be joined.
    pub(super) fn join(&mut self, local: MemberId) {
        self.dfsm.queue.take();
        self.dfsm.queue.drop_synced();
        self.release(SendError::Left);
        self.dfsm.sender.local = local;
        self.dfsm.members = Members::default();
        self.become_mode(Mode::Start);
    }

    /// Enters a mode; from an error mode only into a worse one, or to the start.
    pub(super) fn become_mode(&mut self, mode: Mode) {
        let before = self.dfsm.mode;
        if mode == before || (before.is_error() && mode.is_error() && mode < before) {
            return;
        }
        if before.is_error() && (!before.is_restartable() || mode != Mode::Start) && !mode.is_error() {
            return;
        }
        self.dfsm.mode = mode;
        let (level, text) = match mode {
            Mode::Start => (Level::Info, "start cluster connection"),
            Mode::StartSync => (Level::Info, "starting data syncronisation"),
            Mode::Synced => (Level::Info, "all data is up to date"),
            Mode::Update => (Level::Info, "waiting for updates from leader"),
            Mode::Leave => (Level::Critical, "leaving CPG group"),
            Mode::Error => (Level::Critical, "serious internal error - stop cluster connection"),
            Mode::VersionError => (Level::Critical, "detected newer protocol - please update this node"),
        };
        self.log(level, text);
        self.out.push(Effect::Mode(mode));
        if mode == Mode::Synced {
            self.with_port(|app, store, port| app.synced(store, port));
        }
    }

    /// Leaves the group; to be joined again.
    pub(super) fn leave(&mut self) {
        self.become_mode(Mode::Leave);
        self.forget_round();
    }

    pub(super) fn membership_changed(&mut self, ids: &[MemberId], joined: bool) {
        let dfsm = &mut *self.dfsm;
        dfsm.sender.new_epoch(self.now);
        dfsm.verification.void();
        dfsm.queue.drop_synced();
        dfsm.app.forget_round();
        let mode = dfsm.mode;
        if mode.is_error() {
            if !ids.contains(&dfsm.sender.local) {
                self.out.push(Effect::Left);
            }
            return;
        }
        if dfsm.members.iter().any(|member| !ids.contains(&member.id)) {
            dfsm.queue.parted();
        }
        dfsm.members = Members::new(ids, dfsm.sender.local);
        dfsm.common = dfsm.app.extension();
        let is_member = dfsm.members.local().is_some();
        if is_member || mode != Mode::Start {
            let list: Vec<String> = ids.iter().map(MemberId::to_string).collect();
            self.info(format!("members: {}", list.join(", ")));
        }
        if !is_member && mode == Mode::Start {
            return;
        }
        if !is_member {
            let local = self.dfsm.sender.local;
            self.info(format!("we ({local}) left the process group"));
            self.leave();
            return self.out.push(Effect::Left);
        }
        if self.start_round(joined).is_err() {
            return self.leave();
        }
        self.dfsm.app.membership_changed(self.store, &self.dfsm.members);
    }

    /// Begins a round of synchronisation, unless this node is alone.
    fn start_round(&mut self, joined: bool) -> Result<(), Leave> {
        if self.dfsm.members.len() == 1 {
            self.dfsm.members.all_synced();
            self.become_mode(Mode::Synced);
            return self.deliver_queue();
        }
        let queued = self.dfsm.queue.len();
        if joined && queued > 0 {
            // Who joined has none of it: all members must have the same queue.
            self.info(format!("queue not empty: sending own ones of {queued} messages again"));
            self.resend_queue();
        }
        self.become_mode(Mode::StartSync);
        if self.dfsm.is_lowest() {
            let frame = self.dfsm.sender.sync(self.now, SyncKind::Start, Extension::default(), &[]);
            self.out.push(Effect::Send(frame));
        }
        Ok(())
    }

    /// Not what a part of the cluster had that this node was cut off from. There it may have been applied,
    /// and would be once more: stock sends it all the same.
    fn resend_queue(&mut self) {
        let local = self.dfsm.sender.local;
        let mut in_doubt = 0;
        for message in self.dfsm.queue.take() {
            if message.from != local {
                continue;
            }
            if !message.is_shared {
                let purpose = Purpose::Normal(message.count);
                self.out.push(Effect::Send(Frame { purpose, bytes: message.bytes.into() }));
                continue;
            }
            in_doubt += 1;
            if let Some(ticket) = self.dfsm.pending_sends.take(message.count) {
                self.answer(ticket, Err(SendError::Partitioned));
            }
        }
        if in_doubt > 0 {
            self.info(format!("{in_doubt} of them are not: who was cut off may have applied them"));
        }
    }

    pub(super) fn deliver(&mut self, from: MemberId, bytes: &[u8], message: Result<Message<'_>, WireError>) {
        if self.dfsm.mode.is_error() {
            return;
        }
        let handled = match message {
            Ok(Message::Normal(message)) => self.deliver_normal(from, &message, bytes),
            Ok(Message::Sync(message)) => self.deliver_sync(from, &message),
            Err(error @ WireError::Older(_)) => {
                self.info(error.to_string());
                Ok(())
            }
            Err(error @ WireError::Newer(_)) => {
                self.critical(error.to_string());
                self.become_mode(Mode::VersionError);
                self.forget_round();
                Ok(())
            }
            Err(error) => {
                self.critical(error.to_string());
                Err(Leave)
            }
        };
        if handled.is_err() {
            self.leave();
        }
    }

    fn deliver_normal(&mut self, from: MemberId, message: &Normal<'_>, bytes: &[u8]) -> Result<(), Leave> {
        if self.dfsm.mode == Mode::Synced {
            return self.apply(from, message);
        }
        if self.dfsm.members.get(from).is_none() {
            self.critical(format!("received message from non-member {from}"));
            return Err(Leave);
        }
        let queued = Queued { from, count: message.count, bytes: bytes.to_vec(), is_shared: false };
        if self.dfsm.mode == Mode::Update {
            // Synced members apply it now, whoever it is from.
            self.dfsm.queue.push_synced(queued);
        } else {
            self.dfsm.queue.push(queued);
        }
        Ok(())
    }

    /// Hands a message to the application, and its result to who waits for it.
    fn apply(&mut self, from: MemberId, message: &Normal<'_>) -> Result<(), Leave> {
        let local = from == self.dfsm.sender.local;
        let ticket = if local { self.dfsm.pending_sends.take(message.count) } else { None };
        let delivery = Delivery {
            from,
            local,
            ticket,
            count: message.count,
            subtype: message.base.subtype,
            extension: message.base.extension,
            time: message.base.time,
            payload: message.payload,
        };
        let delivered = self.with_port(|app, store, port| app.deliver(store, &delivery, port));
        if let Some(ticket) = ticket {
            self.out.push(Effect::Answer { ticket, result: Ok(delivered.outcome) });
        }
        match delivered.then {
            Then::Continue => Ok(()),
            Then::Leave => Err(Leave),
        }
    }

    /// Applies, or moves to the other queue, what is queued from synced members. What is from others
    /// stays until they are synced, too.
    pub(super) fn deliver_queue(&mut self) -> Result<(), Leave> {
        let queued = self.dfsm.queue.len();
        if queued == 0 {
            return Ok(());
        }
        self.info(format!("dfsm_deliver_queue: queue length {queued}"));
        let mut messages = self.dfsm.queue.take();
        let mut kept = std::collections::VecDeque::new();
        while let Some(message) = messages.pop_front() {
            let from = message.from;
            let Some(member) = self.dfsm.members.get(from) else {
                self.info(format!("remove message from non-member {from}"));
                continue;
            };
            match (member.synced, self.dfsm.mode) {
                (false, _) => kept.push_back(message),
                (true, Mode::Synced) => self.apply_queued(&message)?,
                (true, Mode::Update) => self.dfsm.queue.push_synced(message),
                (true, _) => return Err(Leave),
            }
        }
        self.dfsm.queue.put_back(kept);
        Ok(())
    }

    /// Applies what synced members applied while this node waited for updates.
    pub(super) fn deliver_sync_queue(&mut self) -> Result<(), Leave> {
        let queued = self.dfsm.queue.synced_len();
        if queued > 0 {
            self.info(format!("dfsm_deliver_sync_queue: queue length {queued}"));
        }
        while let Some(message) = self.dfsm.queue.pop_synced() {
            self.apply_queued(&message)?;
        }
        Ok(())
    }

    fn apply_queued(&mut self, queued: &Queued) -> Result<(), Leave> {
        match Message::decode(&queued.bytes, A::PROTOCOL_VERSION) {
            Ok(Message::Normal(message)) => self.apply(queued.from, &message),
            // It was decoded when it came.
            Ok(Message::Sync(_)) | Err(_) => Err(Leave),
        }
    }

    pub(super) fn send_failed(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Normal(count) => {
                if let Some(ticket) = self.dfsm.pending_sends.take(count) {
                    self.answer(ticket, Err(SendError::SendFailed));
                }
            }
            Purpose::Sync(SyncKind::VerifyRequest) => {
                self.dfsm.verification.not_sent();
                self.critical("failed to send VERIFY_REQUEST message");
            }
            // Others wait for it, or would miss it: a new round has to begin.
            Purpose::Sync(kind) => {
                self.critical(format!("failed to send message of type {} - restarting", kind as u16));
                self.leave();
            }
        }
    }

    pub(super) fn tick(&mut self) {
        self.request_verification();
    }

    fn release(&mut self, why: SendError) {
        for ticket in self.dfsm.pending_sends.release() {
            self.answer(ticket, Err(why));
        }
    }

    fn answer(&mut self, ticket: Ticket, result: Result<A::Outcome, SendError>) {
        self.out.push(Effect::Answer { ticket, result });
    }

    pub(super) fn forget_round(&mut self) {
        self.dfsm.members.drop_states();
        self.dfsm.app.forget_round();
    }

    /// Calls the application with what it may use.
    pub(super) fn with_port<T>(
        &mut self,
        call: impl FnOnce(&mut A, &mut A::Store, &mut Port<'_, A>) -> T,
    ) -> T {
        let is_lowest = self.dfsm.is_lowest();
        let common = self.dfsm.common;
        let (now, out) = (self.now, &mut self.out);
        let mut port = Port { sender: &mut self.dfsm.sender, out, now, is_lowest, common };
        call(&mut self.dfsm.app, self.store, &mut port)
    }

    pub(super) fn info(&mut self, text: impl Into<String>) {
        self.log(Level::Info, text);
    }

    pub(super) fn critical(&mut self, text: impl Into<String>) {
        self.log(Level::Critical, text);
    }

    fn log(&mut self, level: Level, text: impl Into<String>) {
        self.out.push(Effect::Log(level, text.into()));
    }
}
