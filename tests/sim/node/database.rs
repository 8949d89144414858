//! The database group of a node: what is done with the effects of its state machine.

use super::{Answer, Bug, ChangeId, Contents, Node, Process, Seen};
use crate::corosync::Group;
use crate::world::World;
use pmxcfs::dcdb::wire::Request;
use pmxcfs::dcdb::{Dcdb, DcdbEffect};
use pmxcfs::dfsm::wire::{Epoch, Message, SyncKind};
use pmxcfs::dfsm::{App, Effect, Event, Frame, MemberId, Mode, Needs, Purpose, SendError, Submission};
use std::rc::Rc;

/// Long work on the tree is announced, so that a driver can prepare.
fn check_needs(needs: Needs, effect: &Effect<Dcdb>) {
    let needed = match effect {
        Effect::App(DcdbEffect::TreeReplaced { .. }) => Needs::Copy,
        Effect::Send(Frame { purpose: Purpose::Sync(SyncKind::State), .. }) => Needs::State,
        Effect::Send(Frame { purpose: Purpose::Sync(SyncKind::Verify), .. }) => Needs::Checksum,
        _ => return,
    };
    assert_eq!(needs, needed, "{effect:?} was not announced");
}

impl Node {
    pub(super) fn dcdb_event(&mut self, event: Event<'_>, world: &mut World) -> Vec<Seen> {
        let now = self.now(world);
        let Process { dcdb, db, .. } = self.process.as_mut().expect("runs");
        let event = dcdb.prepare(event, now);
        let needs = event.needs();
        let effects = match needs {
            Needs::Copy => {
                let mut copy = db.clone();
                let effects = event.run(&mut copy);
                db.swap_in(&mut copy);
                effects
            }
            Needs::Access | Needs::State | Needs::Checksum => event.run(db),
        };
        for effect in &effects {
            check_needs(needs, effect);
        }
        self.dcdb_effects(effects, world)
    }

    pub(super) fn dcdb_request(&mut self, submission: Submission<Request>, world: &mut World) -> Vec<Seen> {
        let now = self.now(world);
        let Process { dcdb, db, .. } = self.process.as_mut().expect("runs");
        let effects = dcdb.submit(submission, now, |app, request| app.check(db, request));
        self.dcdb_effects(effects, world)
    }

    fn dcdb_effects(&mut self, effects: Vec<Effect<Dcdb>>, world: &mut World) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut applied = None;
        let mut failed = Vec::new();
        let mut leaving = false;
        for effect in effects {
            match effect {
                Effect::Send(frame) => {
                    let fails = world.send_failures != 0 && world.rng.one_in(world.send_failures);
                    if leaving {
                        continue;
                    }
                    if fails {
                        leaving =
                            matches!(frame.purpose, Purpose::Sync(kind) if kind != SyncKind::VerifyRequest);
                        failed.push(frame.purpose);
                    } else {
                        self.note_sent(&frame, world);
                        world.send(Group::Dcdb, self.running().id, frame.to_vec());
                    }
                }
                Effect::Mode(mode) => {
                    self.mode_changed(Group::Dcdb, mode, world);
                    if mode == Mode::StartSync && !world.slow_disk {
                        seen.extend(self.commit());
                    }
                }
                Effect::Left => self.left(Group::Dcdb, world),
                Effect::Log(level, text) => seen.push(Seen::Log(Group::Dcdb, level, text)),
                Effect::Answer { ticket, result } => {
                    // What changes nothing is nobody's change: the one before may be of who does not wait any more.
                    let is_change = matches!(&result, Ok(Ok(applied)) if !applied.invalidations.is_empty());
                    let change = applied.take().filter(|_| is_change);
                    let pending = &mut self.running().pending;
                    if matches!(result, Err(SendError::SendFailed)) {
                        pending.on_send_failed(ticket, world.time);
                    }
                    let Some(ticket) = pending.complete(ticket) else { continue };
                    let result = result.map_err(Into::into);
                    seen.extend(self.answer(Answer { ticket, result, change }, world));
                }
                Effect::App(effect) => seen.extend(self.dcdb_effect(effect, &mut applied, world)),
            }
        }
        if seen.iter().any(|one| matches!(one, Seen::TreeReplaced { .. })) {
            // The contract: it is stored before anything else is handled.
            seen.extend(self.commit());
        }
        for purpose in failed {
            seen.extend(self.dcdb_event(Event::SendFailed(purpose), world));
        }
        seen
    }

    /// Remembers what a message asks for, and what a database consists of that is told to others.
    fn note_sent(&mut self, frame: &Frame, world: &mut World) {
        let bytes = frame.to_vec();
        let id = self.running().id;
        match Message::decode(&bytes, Dcdb::PROTOCOL_VERSION).expect("ours are well-formed") {
            Message::Normal(normal) => {
                let base = normal.base;
                // Damaged ones that were queued are sent again as they are.
                if let Ok(request) = Request::decode(base.subtype, base.extension, normal.payload) {
                    world.asked.push(((id, normal.count), request));
                }
            }
            Message::Sync(sync) if sync.base.kind == SyncKind::State as u16 => {
                let contents = Rc::clone(&self.running().contents);
                world.known.push((id, sync.epoch, contents));
            }
            Message::Sync(_) => {}
        }
    }

    fn dcdb_effect(
        &mut self,
        effect: DcdbEffect,
        applied: &mut Option<ChangeId>,
        world: &mut World,
    ) -> Option<Seen> {
        let process = self.process.as_mut().expect("runs");
        match effect {
            DcdbEffect::Changed { by, count, .. } => {
                let id = (by, count);
                Rc::make_mut(&mut process.contents).insert(id);
                *applied = (by == process.id).then_some(id);
                // Who is not synced yet keeps it for later, and that may never be.
                let synced = process.dcdb.members().iter().filter(|member| member.synced);
                let members = synced.filter(|member| process.told.contains(&member.id)).count();
                Some(Seen::Applied { change: id, members })
            }
            DcdbEffect::TreeReplaced { leader, .. } => {
                let told = |(id, epoch, _): &&(MemberId, Epoch, Contents)| {
                    *id == leader && Some(*epoch) == process.epoch
                };
                // Only damaged messages can make a leader of who told nothing.
                let after = world.known.iter().find(told).map(|(_, _, contents)| Rc::clone(contents));
                let after = after.unwrap_or_default();
                let before = std::mem::replace(&mut process.contents, Rc::clone(&after));
                Some(Seen::TreeReplaced { before, after })
            }
            DcdbEffect::ExportConfig { .. } => None,
        }
    }

    /// Passes an answer on, or keeps it until the change is on disk.
    fn answer(&mut self, mut answer: Answer, world: &mut World) -> Option<Seen> {
        if self.bug == Some(Bug::LosesAnswers) && world.rng.one_in(50) {
            return None;
        }
        if let Ok(Err(refused)) = &answer.result {
            let fine = match refused {
                pmxcfs::dcdb::Refused::Change(pmxcfs::memdb::ChangeError::GuestExists { .. }) => {
                    self.bug == Some(Bug::GuestExistsIsFine)
                }
                pmxcfs::dcdb::Refused::Change(pmxcfs::memdb::ChangeError::Exists { path }) => {
                    self.bug == Some(Bug::LockHeldIsFine) && path.lock_name().is_some()
                }
                _ => false,
            };
            if fine {
                answer.change = Some((self.running().id, u64::MAX - answer.ticket.0));
                answer.result = Ok(Ok(pmxcfs::memdb::Applied::nothing(0)));
            }
        }
        let process = self.running();
        let durable = process.durable.remove(&answer.ticket);
        match &answer.result {
            Ok(Ok(applied)) if durable => {
                let fingerprint = process.db.fingerprint_of(applied.inode);
                process.uncommitted.push((answer, fingerprint));
                None
            }
            _ => Some(Seen::Answered(answer)),
        }
    }
}
