//! What is known outside of the cluster thread of this node's part in the two process groups. The thread
//! writes it down here; nobody else changes it, and nothing is decided by it.

use crate::clock::UnixTime;
use crate::counts::Count;
use crate::dfsm::wire::Epoch;
use crate::dfsm::{MemberId, Mode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Both groups. Nothing is in them on a node by itself.
#[derive(Debug, Default)]
pub struct Groups {
    /// The group of the database.
    pub database: GroupReport,
    /// The group of the status.
    pub status: GroupReport,
}

/// What is told of a group.
#[derive(Debug, Default)]
pub struct GroupReport {
    state: Mutex<Option<GroupState>>,
    /// Messages that corosync took.
    pub sent: Count,
    /// Messages that were delivered, this node's own included.
    pub delivered: Count,
    /// Rounds of synchronisation that this node finished.
    pub syncs: Count,
    backlog: AtomicU64,
}

/// Where a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// What this node does in it.
    pub mode: Mode,
    /// When it began to.
    pub since: UnixTime,
    /// The round of synchronisation.
    pub epoch: Epoch,
    /// The processes in it, and whether each has what the group has.
    pub members: Vec<(MemberId, bool)>,
}

impl GroupReport {
    /// As it was told last; None before the group was first joined.
    pub fn state(&self) -> Option<GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages of this node that corosync has not taken yet.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Notes how many messages wait to be sent.
    pub fn set_backlog(&self, messages: usize) {
        self.backlog.store(messages as u64, Ordering::Relaxed);
    }

    /// Notes where the group is now.
    pub fn tell(&self, mode: Mode, now: UnixTime, epoch: Epoch, members: Vec<(MemberId, bool)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.as_ref().map(|state| (state.mode, state.since));
        let since = before.filter(|(before, _)| *before == mode).map_or(now, |(_, since)| since);
        if mode == Mode::Synced && before.map(|(mode, _)| mode) != Some(Mode::Synced) {
            self.syncs.one();
        }
        *state = Some(GroupState { mode, since, epoch, members });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_lasts_from_when_it_began() {
        let report = GroupReport::default();
        assert_eq!(report.state(), None);
        let (epoch, member) = (Epoch::default(), MemberId { node: 1, pid: 2 });
        report.tell(Mode::StartSync, 10, epoch, vec![(member, false)]);
        report.tell(Mode::Synced, 11, epoch, vec![(member, true)]);
        report.tell(Mode::Synced, 15, epoch, vec![(member, true)]);
        let state = report.state().expect("told");
        assert_eq!((state.mode, state.since, report.syncs.get()), (Mode::Synced, 11, 1));
        assert_eq!(state.members, [(member, true)]);
        report.tell(Mode::Leave, 20, epoch, Vec::new());
        report.tell(Mode::Synced, 25, epoch, Vec::new());
        assert_eq!((report.state().expect("told").since, report.syncs.get()), (25, 2));
    }
}
