//! Drivers of the two groups: the database group works on the tree, the status group on the status. They carry out
//! the effects of the applications and complete local callers.

use super::callers::Callers;
use super::config_file;
use super::cpg_group::GroupDriver;
use crate::cfs::{Cfs, GroupReport, News};
use crate::dcdb::wire::Request;
use crate::dcdb::{self, Dcdb, DcdbEffect};
use crate::dfsm::{App, Dfsm, Effect, Event, Needs, Now, SendError, Ticket};
use crate::engine::Notify;
use crate::memdb::{MemDb, Touched};
use crate::status_group::wire::Request as StatusRequest;
use crate::status_group::{StatusEffect, StatusGroup};
use std::path::PathBuf;
use std::sync::Arc;

/// Tells the kernel of changes that it did not make itself.
pub type Changed = Box<dyn Fn(&[Touched]) + Send>;

/// Driver of the database group.
pub(super) struct DatabaseDriver {
    cfs: Arc<Cfs>,
    changed: Changed,
    corosync_conf: PathBuf,
    callers: Arc<Callers>,
    /// Of the change that was applied last, as long as it is not known whose it is.
    unclaimed: Vec<Touched>,
    /// The tree could not be worked on: the group must be left.
    pub(super) failed: bool,
}

impl DatabaseDriver {
    pub(super) fn new(
        cfs: Arc<Cfs>,
        changed: Changed,
        corosync_conf: PathBuf,
        callers: Arc<Callers>,
    ) -> Self {
        Self { cfs, changed, corosync_conf, callers, unclaimed: Vec::new(), failed: false }
    }

    /// Copies the database's `corosync.conf` to the driver.
    pub(super) fn export_config(&self, reload: bool) {
        let name = dcdb::COROSYNC_CONF;
        let content = self.cfs.engine.read().resolve(name).and_then(|entry| entry.content().cloned());
        if let Some(content) = content {
            config_file::export(&content, &self.corosync_conf, reload);
        }
    }

    /// Nobody here asked for the last change.
    fn changed_elsewhere(&mut self) {
        if !self.unclaimed.is_empty() {
            (self.changed)(&std::mem::take(&mut self.unclaimed));
        }
    }
}

impl GroupDriver<Dcdb> for DatabaseDriver {
    fn handle(&mut self, dfsm: &mut Dfsm<Dcdb>, event: Event<'_>, now: Now) -> Vec<Effect<Dcdb>> {
        let engine = &self.cfs.engine;
        let event = dfsm.prepare(event, now);
        let needs = event.needs();
        match needs {
            Needs::State => engine.prepare_index(),
            Needs::Checksum => engine.prepare_checksum(),
            Needs::Access | Needs::Copy => {}
        }
        let act = |tree: &mut MemDb, tell: Notify<'_>| {
            let effects = event.run(tree);
            for effect in &effects {
                match effect {
                    Effect::App(DcdbEffect::Changed { applied, .. }) => tell(&applied.touched),
                    Effect::App(DcdbEffect::Replaced { touched, .. }) => tell(touched),
                    _ => {}
                }
            }
            effects
        };
        let handled = if needs == Needs::Copy { engine.apply_on_copy(act) } else { engine.deliver(act) };
        handled.unwrap_or_else(|error| {
            if !std::mem::replace(&mut self.failed, true) {
                log::error!(target: "dcdb", "the database cannot follow the cluster: {error}");
            }
            Vec::new()
        })
    }

    fn submit(
        &mut self,
        dfsm: &mut Dfsm<Dcdb>,
        request: Request,
        ticket: Option<Ticket>,
        now: Now,
    ) -> Vec<Effect<Dcdb>> {
        dfsm.submit(request, ticket, now, |app, request| app.check(&self.cfs.engine.read(), request))
    }

    fn effect(&mut self, effect: DcdbEffect) {
        match effect {
            DcdbEffect::Changed { applied, .. } => {
                self.changed_elsewhere();
                self.unclaimed = applied.touched;
            }
            DcdbEffect::Replaced { touched, .. } => {
                self.changed_elsewhere();
                // Readers have the new tree already: caches must not keep it from them while it is stored.
                (self.changed)(&touched);
                if let Err(error) = self.cfs.engine.commit_blocking() {
                    log::error!(target: "dcdb", "the updates of the leader are not stored: {error}");
                    self.failed = true;
                }
            }
            DcdbEffect::ExportConfig { changed_here } => self.export_config(changed_here),
        }
    }

    fn answer(&mut self, ticket: Ticket, result: Result<dcdb::Outcome, SendError>) {
        if matches!(result, Err(SendError::TimedOut | SendError::SendFailed)) {
            self.callers.waited_in_vain();
        }
        // It may have been answered as too late; then its kernel has to be told of the change.
        let Some(caller) = self.callers.take(ticket) else { return };
        match result {
            Ok(Ok(applied)) => {
                // The caller's kernel knows, or is told by who answers it.
                self.unclaimed.clear();
                self.cfs.engine.answer_delivered(applied, caller.requires_commit, caller.done);
            }
            Ok(Err(dcdb::Refused::Change(error))) => (caller.done)(Err(error.into())),
            Ok(Err(refused)) => (caller.done)(Err(refused.into())),
            Err(abandoned) => (caller.done)(Err(abandoned.into())),
        }
    }

    fn settled(&mut self) {
        self.changed_elsewhere();
    }

    fn heard(&mut self) {
        self.callers.heard();
    }

    fn report(&self) -> &GroupReport {
        &self.cfs.groups.database
    }
}

/// Driver of the status group.
pub(super) struct StatusDriver {
    cfs: Arc<Cfs>,
}

impl StatusDriver {
    pub(super) fn new(cfs: Arc<Cfs>) -> Self {
        Self { cfs }
    }
}

impl GroupDriver<StatusGroup> for StatusDriver {
    fn handle(
        &mut self,
        dfsm: &mut Dfsm<StatusGroup>,
        event: Event<'_>,
        now: Now,
    ) -> Vec<Effect<StatusGroup>> {
        let (effects, is_news) = self.cfs.with_status(|status| {
            let before = status.cluster_info_version();
            let effects = dfsm.handle(status, event, now);
            (effects, status.cluster_info_version() != before)
        });
        if is_news {
            self.cfs.changes.note(News::Members);
        }
        effects
    }

    fn submit(
        &mut self,
        dfsm: &mut Dfsm<StatusGroup>,
        request: StatusRequest,
        ticket: Option<Ticket>,
        now: Now,
    ) -> Vec<Effect<StatusGroup>> {
        dfsm.submit(request, ticket, now, |app, request| {
            self.cfs.with_status(|status| app.check(status, request))
        })
    }

    fn effect(&mut self, effect: StatusEffect) {
        match effect {
            StatusEffect::Rrd { key, update } => self.cfs.write_rrd(&key, update),
            StatusEffect::ValueSet { node_id, key } => {
                let name = self.cfs.with_status(|status| status.node_name(node_id).map(str::to_owned));
                if let Some(name) = name {
                    self.cfs.note_status(&name, &key);
                }
            }
            StatusEffect::Logged(entry) => self.cfs.note_logged(&entry),
        }
    }

    fn answer(&mut self, _: Ticket, _: Result<<StatusGroup as App>::Outcome, SendError>) {
        // Nobody waits for status messages.
    }

    fn report(&self) -> &GroupReport {
        &self.cfs.groups.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cfs::testing::TestNode;
    use crate::dfsm::MemberId;
    use crate::dfsm::wire::{Base, Epoch, Extension, Sync};
    use std::time::Duration;

    #[test]
    fn verify_request_finds_a_prepared_checksum() {
        let node = TestNode::new();
        node.write("file", b"text");
        let callers = Arc::new(Callers::new(node.cfs.clock));
        let mut tree =
            DatabaseDriver::new(Arc::clone(&node.cfs), Box::new(|_| {}), "/nonexistent".into(), callers);
        let mut dfsm = Dfsm::new(Dcdb::new());
        let local = MemberId { node: 1, pid: 2 };
        let now = Now { unix: 0, uptime: Duration::ZERO };
        tree.handle(&mut dfsm, Event::Join(local), now);
        tree.handle(&mut dfsm, Event::Confchg { members: &[local], joined: true }, now);
        let mut verify = |epoch: Epoch| {
            let extension = Extension::default();
            let base = Base { kind: 5, subtype: 0, protocol_version: 1, time: 0, extension };
            let bytes = Sync { base, epoch, payload: &7u64.to_le_bytes() }.encode();
            tree.handle(&mut dfsm, Event::Deliver { from: local, bytes: &bytes }, now);
            node.cfs.engine.read().prepared_checksum()
        };
        assert_eq!(verify(Epoch::default()), None, "another round");
        let epoch = Epoch { counter: 1, time: 0, node: 1, pid: 2 };
        assert_eq!(verify(epoch), Some(node.cfs.engine.read().clone().checksum()));
    }
}
