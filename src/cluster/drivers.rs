//! Drivers of the two groups: the database group works on the tree, the status group on the status. They carry out
//! the effects of the applications and complete local callers.

use super::config_file;
use super::cpg_group::GroupDriver;
use crate::cfs::{Cfs, GroupReport, News};
use crate::dcdb::wire::Request;
use crate::dcdb::{self, Dcdb, DcdbEffect};
use crate::dfsm::{App, Dfsm, Effect, Event, Now, SendError, Submission, Ticket};
use crate::engine::{Invalidate, Replica};
use crate::status_group::wire::Request as StatusRequest;
use crate::status_group::{StatusEffect, StatusGroup};
use std::path::PathBuf;
use std::sync::Arc;

/// Driver of the database group.
pub(super) struct DatabaseDriver {
    cfs: Arc<Cfs>,
    pub(super) replica: Replica,
    corosync_conf: PathBuf,
}

impl DatabaseDriver {
    pub(super) fn new(cfs: Arc<Cfs>, invalidate: Invalidate, corosync_conf: PathBuf) -> Self {
        let replica = Replica::new(Arc::clone(&cfs.engine), invalidate);
        Self { cfs, replica, corosync_conf }
    }

    /// Copies the database's `corosync.conf` to the host.
    pub(super) fn export_config(&self, reload: bool) {
        let name = dcdb::COROSYNC_CONF;
        let content = self.cfs.engine.read().resolve(name).and_then(|entry| entry.content().cloned());
        if let Some(content) = content {
            config_file::export(&content, &self.corosync_conf, reload);
        }
    }
}

impl GroupDriver<Dcdb> for DatabaseDriver {
    fn handle(&mut self, dfsm: &mut Dfsm<Dcdb>, event: Event<'_>, now: Now) -> Vec<Effect<Dcdb>> {
        self.replica.handle(dfsm, event, now)
    }

    fn submit(
        &mut self,
        dfsm: &mut Dfsm<Dcdb>,
        submission: Submission<Request>,
        now: Now,
    ) -> Vec<Effect<Dcdb>> {
        self.replica.submit(dfsm, submission, now)
    }

    fn effect(&mut self, effect: DcdbEffect) {
        match effect {
            DcdbEffect::Changed { ticket, applied, .. } => self.replica.changed(ticket, &applied),
            DcdbEffect::TreeReplaced { invalidations, .. } => self.replica.finish_resync(&invalidations),
            DcdbEffect::ExportConfig { changed_here } => self.export_config(changed_here),
        }
    }

    fn complete(&mut self, ticket: Ticket, result: Result<dcdb::Outcome, SendError>) {
        self.replica.complete(ticket, result);
    }

    fn on_group_active(&mut self) {
        self.replica.on_group_active();
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
        submission: Submission<StatusRequest>,
        now: Now,
    ) -> Vec<Effect<StatusGroup>> {
        dfsm.submit(submission, now, |app, request| self.cfs.with_status(|status| app.check(status, request)))
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

    fn complete(&mut self, _: Ticket, _: Result<<StatusGroup as App>::Outcome, SendError>) {
        // No caller waits for status messages.
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
        let mut tree = DatabaseDriver::new(Arc::clone(&node.cfs), Box::new(|_| {}), "/nonexistent".into());
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
