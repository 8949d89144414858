//! Last change of each entry and of all entries below it, by which a repair chooses among duplicates.

use super::plan::Plan;
use crate::memdb::{Inode, ROOT};
use std::collections::BTreeMap;

/// Highest version in the subtree of each entry below the root. Orphans and loops are absent: they are fixed before
/// any duplicates are compared.
#[derive(Debug)]
pub(super) struct LastChanges(BTreeMap<Inode, u64>);

impl LastChanges {
    /// Visits each entry once: the subtrees of nested duplicates overlap, so one walk for each would cost the square
    /// of the depth.
    fn of(plan: &Plan) -> Self {
        let mut parents_first = vec![ROOT];
        let mut visited = 0;
        while let Some(directory) = parents_first.get(visited) {
            parents_first.extend(plan.children.get(directory).into_iter().flatten());
            visited += 1;
        }
        let mut latest: BTreeMap<Inode, u64> = BTreeMap::new();
        for inode in parents_first.into_iter().rev() {
            // Entries made by the plan do not count as changes of the directories above them.
            let Some(row) = plan.rows.get(&inode).filter(|_| !plan.made.contains(&inode)) else { continue };
            let below = latest.get(&inode).copied().unwrap_or(0);
            let own = below.max(row.version);
            latest.insert(inode, own);
            let above = latest.entry(row.parent).or_default();
            *above = own.max(*above);
        }
        Self(latest)
    }
}

impl Plan {
    /// Version of the last change in the subtree of `inode`, at the beginning of the round of fixes. Entries made by
    /// the plan count as later than all others.
    pub(super) fn last_change(&self, inode: Inode) -> u64 {
        if self.made.contains(&inode) {
            return u64::MAX;
        }
        let latest = self.latest.get_or_init(|| LastChanges::of(self));
        latest.0.get(&inode).copied().unwrap_or(0)
    }
}
