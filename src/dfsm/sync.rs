//! A round of synchronisation, and verification: what to do with each message of the state machine
//! in each mode.

use super::app::{App, Leave, Port};
use super::step::Step;
use super::verify::Verdict;
use super::wire::{Extension, MemberId, Sync, SyncKind, WireError};
use super::{Effect, Mode};

impl<A: App> Step<'_, A> {
    pub(super) fn deliver_sync(&mut self, from: MemberId, message: &Sync<'_>) -> Result<(), Leave> {
        let kind = SyncKind::of(message.base.kind);
        if kind != Some(SyncKind::Start) && message.epoch != self.dfsm.sender.epoch {
            return Ok(());
        }
        match (self.dfsm.mode, kind) {
            (Mode::Synced, Some(SyncKind::UpdateComplete)) => self.others_updated(message),
            (Mode::Synced, Some(SyncKind::VerifyRequest)) => self.verify_request(from, message),
            (Mode::Synced, Some(SyncKind::Verify)) => self.verify(message),
            // This node has all it needs.
            (Mode::Synced, _) => Ok(()),
            (Mode::StartSync, Some(SyncKind::Start)) => self.sync_start(from, message),
            (Mode::StartSync, Some(SyncKind::State)) => self.state(from, message),
            (Mode::Update, Some(SyncKind::Update)) => {
                let payload = message.payload;
                self.with_port(|app, _, port| app.process_update(payload, port))
            }
            (Mode::Update, Some(SyncKind::UpdateComplete)) => self.update_complete(message),
            (Mode::StartSync | Mode::Update, Some(SyncKind::VerifyRequest | SyncKind::Verify)) => Ok(()),
            (mode, _) => {
                let kind = message.base.kind;
                self.critical(format!("received unexpected message of type {kind} in mode {}", mode as u8));
                Err(Leave)
            }
        }
    }

    /// A new round: its epoch counts from now on, and this node tells its state.
    fn sync_start(&mut self, from: MemberId, message: &Sync<'_>) -> Result<(), Leave> {
        self.check(message.no_payload())?;
        if self.dfsm.members.lowest_node() != Some(from.node) {
            self.critical(format!("sync request from {from}, which is not the lowest node"));
        }
        self.info(format!("received sync request (epoch {})", message.epoch));
        self.dfsm.sender.epoch = message.epoch;
        self.forget_round();
        let state = self.dfsm.app.state(self.store);
        let extension = self.dfsm.app.extension();
        let frame = self.dfsm.sender.sync(self.now, SyncKind::State, extension, &state);
        self.out.push(Effect::Send(frame));
        Ok(())
    }

    fn state(&mut self, from: MemberId, message: &Sync<'_>) -> Result<(), Leave> {
        let Some(member) = self.dfsm.members.get_mut(from) else {
            self.critical(format!("received state for non-member {from}"));
            return Err(Leave);
        };
        if member.state.is_some() {
            self.critical(format!("received duplicate state for member {from}"));
            return Err(Leave);
        }
        member.state = Some(message.payload.to_vec());
        member.extension = message.base.extension;
        if self.dfsm.members.has_all_states() { self.all_states() } else { Ok(()) }
    }

    /// Everybody's state is there: the application decides who is synced.
    fn all_states(&mut self) -> Result<(), Leave> {
        self.info("received all states");
        self.dfsm.common = self.dfsm.members.common_extension();
        self.process_states()?;
        self.dfsm.members.drop_states();
        let synced = self.dfsm.members.local_member().is_some_and(|member| member.synced);
        self.become_mode(if synced { Mode::Synced } else { Mode::Update });
        if synced {
            self.dfsm.app.forget_round();
        }
        self.deliver_queue()
    }

    fn process_states(&mut self) -> Result<(), Leave> {
        let is_lowest = self.dfsm.is_lowest();
        let dfsm = &mut *self.dfsm;
        let (sender, out, common) = (&mut dfsm.sender, &mut self.out, dfsm.common);
        let mut port = Port { sender, out, now: self.now, is_lowest, common };
        dfsm.app.process_states(self.store, dfsm.members.list_mut(), &mut port)
    }

    /// The leader has sent all: this node is as the leader was, then follows what came meanwhile.
    fn update_complete(&mut self, message: &Sync<'_>) -> Result<(), Leave> {
        self.check(message.no_payload())?;
        self.with_port(|app, store, port| app.finish_resync(store, port))?;
        self.dfsm.app.forget_round();
        self.round_ended();
        self.become_mode(Mode::Synced);
        self.deliver_sync_queue()?;
        self.deliver_queue()
    }

    /// The others have been brought up to date.
    fn others_updated(&mut self, message: &Sync<'_>) -> Result<(), Leave> {
        self.check(message.no_payload())?;
        self.round_ended();
        self.deliver_queue()
    }

    fn round_ended(&mut self) {
        self.dfsm.members.all_synced();
        self.dfsm.verification.round_ended(self.now.uptime);
    }

    /// Asks all members to verify their data, if that is due.
    pub(super) fn request_verification(&mut self) {
        let dfsm = &mut *self.dfsm;
        if !A::VERIFIES || !dfsm.verification.is_due(self.now.uptime) {
            return;
        }
        if dfsm.mode != Mode::Synced || !dfsm.is_lowest() {
            return;
        }
        match dfsm.verification.ask() {
            Some(id) => {
                let payload = id.to_le_bytes();
                let kind = SyncKind::VerifyRequest;
                let frame = dfsm.sender.sync(self.now, kind, Extension::default(), &payload);
                self.out.push(Effect::Send(frame));
            }
            None => self.info("the last verify request did not come back yet - delay the next one"),
        }
    }

    fn verify_request(&mut self, from: MemberId, message: &Sync<'_>) -> Result<(), Leave> {
        let id = self.check(message.verify_request())?;
        if !A::VERIFIES {
            return Ok(());
        }
        let checksum = self.dfsm.app.checksum(self.store);
        self.dfsm.verification.save(id, message.epoch, checksum);
        if from == self.dfsm.sender.local {
            let payload = [id.to_le_bytes().as_slice(), &checksum].concat();
            let frame = self.dfsm.sender.sync(self.now, SyncKind::Verify, Extension::default(), &payload);
            self.out.push(Effect::Send(frame));
        }
        Ok(())
    }

    fn verify(&mut self, message: &Sync<'_>) -> Result<(), Leave> {
        if !A::VERIFIES {
            return Ok(());
        }
        let (id, theirs) = self.check(message.verify())?;
        match self.dfsm.verification.compare(id, message.epoch, theirs) {
            Verdict::Equal => self.info("data verification successful"),
            Verdict::NothingSaved => self.info("skip verification - no checksum saved"),
            Verdict::Different(theirs, ours) => {
                let (theirs, ours) = (first_long(&theirs), first_long(&ours));
                self.critical(format!("wrong checksum {theirs:016X} != {ours:016X} - restarting"));
                return Err(Leave);
            }
        }
        Ok(())
    }

    /// What was read, or the reason to leave.
    fn check<T>(&mut self, read: Result<T, WireError>) -> Result<T, Leave> {
        read.map_err(|error| {
            self.critical(error.to_string());
            Leave
        })
    }
}

fn first_long(checksum: &[u8; 32]) -> u64 {
    checksum.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}
