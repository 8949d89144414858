//! No acknowledged change is lost while a quorum survives.
//!
//! A change is safe once a majority of nodes has it, in memory or, where a daemon does not run, on
//! disk; it is no longer when crashes leave less than a majority. Never may a change be dropped for a
//! database that knows less. It may only be dropped in a fork: for a database that knows changes of
//! which the loser knows nothing.
//!
//! A fork needs a reason, and the protocol, which is stock's, knows these:
//!
//! - A node crashes, or falls behind.
//! - A group goes on that is no majority itself: quorum counts nodes, whether their daemons are in the
//!   group or not.
//! - Less than a majority was told: when a ring breaks, what was on its way reaches those who stay
//!   together, and only afterwards do they hear of the break. Delivery is agreed, not safe.
//! - Less than a majority was synced: a leader goes on while the others wait for its updates.

use super::Complaint;
use crate::node::{ChangeId, Contents};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub struct History {
    majority: usize,
    /// Whether the faults of this run can lead to forks at all.
    forks_allowed: bool,
    /// Whether anything is promised in this run.
    promises: bool,
    acknowledged: BTreeSet<ChangeId>,
    safe: BTreeSet<ChangeId>,
    excused: BTreeSet<ChangeId>,
    /// In how many forks something was dropped.
    pub forks: usize,
    /// How many holders each change has.
    holders: BTreeMap<ChangeId, usize>,
}

impl History {
    pub fn new(nodes: u32, forks_allowed: bool, promises: bool) -> Self {
        Self {
            majority: nodes as usize / 2 + 1,
            forks_allowed,
            promises,
            acknowledged: BTreeSet::new(),
            safe: BTreeSet::new(),
            excused: BTreeSet::new(),
            forks: 0,
            holders: BTreeMap::new(),
        }
    }

    /// A client was told that its change was made.
    pub fn acknowledged(&mut self, change: ChangeId) {
        self.acknowledged.insert(change);
    }

    /// Whether a majority has the change, and nothing excuses its loss.
    pub fn is_safe(&self, change: ChangeId) -> bool {
        self.promises && self.safe.contains(&change) && !self.excused.contains(&change)
    }

    /// How many acknowledged changes must not be lost.
    pub fn held_to(&self) -> usize {
        self.acknowledged.iter().filter(|change| self.is_safe(**change)).count()
    }

    /// Whether nothing happened that excuses a fork.
    pub fn excuses_nothing(&self) -> bool {
        self.promises && !self.forks_allowed
    }

    /// A node that has these changes now applied one, as do so many members of the group who are synced and
    /// were told of what made it apply it: a message, the end of a round, a change of the membership.
    pub fn applied(&mut self, change: ChangeId, contents: &Contents, members: usize) {
        if members < self.majority {
            self.forks_allowed = true;
            self.excused.extend(self.safe.difference(contents).copied());
        }
        self.held(change);
    }

    /// One more node has the change.
    fn held(&mut self, change: ChangeId) {
        let holders = self.holders.entry(change).or_default();
        *holders += 1;
        if *holders >= self.majority {
            self.safe.insert(change);
        }
    }

    /// A node has `after` in place of `before`, because a leader has.
    pub fn replaced(&mut self, before: &Contents, after: &Contents) -> Result<(), Complaint> {
        let lost: Vec<ChangeId> = before.difference(after).copied().collect();
        let gained: Vec<ChangeId> = after.difference(before).copied().collect();
        for change in &gained {
            self.held(*change);
        }
        self.drop_holders(&lost);
        if lost.is_empty() {
            return Ok(());
        }
        let safe: Vec<ChangeId> = lost.iter().copied().filter(|change| self.is_safe(*change)).collect();
        if !safe.is_empty() && gained.is_empty() {
            return Err(format!("{safe:?} were dropped for a database that knows less"));
        }
        if !gained.is_empty() {
            self.forks += 1;
            if !self.forks_allowed {
                return Err(format!("a fork without a reason: {lost:?} were dropped for {gained:?}"));
            }
        }
        self.excused.extend(safe);
        Ok(())
    }

    /// A daemon stopped: of what it had, only what was on disk is left.
    pub fn crashed(&mut self, memory: &Contents, disk: &Contents) {
        let lost: Vec<ChangeId> = memory.difference(disk).copied().collect();
        self.drop_holders(&lost);
        for change in lost {
            if self.holders.get(&change).is_none_or(|holders| *holders < self.majority) {
                self.excused.insert(change);
            }
        }
    }

    fn drop_holders(&mut self, changes: &[ChangeId]) {
        for change in changes {
            if let Some(holders) = self.holders.get_mut(change) {
                *holders -= 1;
            }
        }
    }

    /// The cluster is healed, and this is what it has.
    pub fn healed(&self, contents: &Contents) -> Result<(), Complaint> {
        let lost = self.acknowledged.difference(contents).find(|change| self.is_safe(**change));
        match lost {
            Some(change) => Err(format!("{change:?} was acknowledged and is lost")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pmxcfs::dfsm::MemberId;
    use std::rc::Rc;

    fn contents(nodes: &[u32]) -> Contents {
        Rc::new(nodes.iter().map(|node| change(*node)).collect())
    }

    fn change(node: u32) -> ChangeId {
        (MemberId { node, pid: 1 }, 1)
    }

    /// Of three nodes the first two have one change, and the third, told with so many, another one.
    fn fork(members: usize) -> History {
        let mut history = History::new(3, false, true);
        for node in [1, 2] {
            history.applied(change(1), &contents(&[node]), 2);
        }
        history.applied(change(3), &contents(&[3]), members);
        history
    }

    #[test]
    fn a_fork_needs_a_reason_and_then_has_one() {
        let (ours, theirs) = (contents(&[1]), contents(&[3]));
        let complaint = fork(2).replaced(&ours, &theirs).expect_err("a majority applied both");
        assert!(complaint.contains("a fork without a reason"), "{complaint}");
        // What is dropped need not be safe.
        assert!(fork(2).replaced(&theirs, &ours).is_err());
        let mut history = fork(1);
        history.replaced(&ours, &theirs).expect("a minority went on by itself");
        assert_eq!(history.forks, 1);
        assert!(!history.excuses_nothing() && !history.is_safe(change(1)));
    }

    #[test]
    fn whatever_happened_nothing_is_dropped_for_less() {
        for members in [1, 2] {
            let mut history = History::new(3, true, true);
            for _ in 0..2 {
                history.applied(change(1), &contents(&[1]), members);
            }
            let complaint = history.replaced(&contents(&[1]), &contents(&[])).expect_err("it is safe");
            assert!(complaint.contains("knows less"), "{complaint}");
        }
    }
}
