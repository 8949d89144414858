//! Numbers out of range, and numbers so high that a repair or the daemon would run out of them.

use super::plan::Plan;
use crate::dbtool::text::escape;
use crate::memdb::{Inode, NUMBER_MAX, ROOT, Row, SOUND_VERSION_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers up to this one stay when numbers are lowered.
const KEPT_MAX: u64 = NUMBER_MAX / 2;

impl Plan {
    /// Gives numbers in range to rows whose numbers are not.
    pub(super) fn fix_numbers(&mut self) {
        let impossible: Vec<Inode> = self.rows.range(NUMBER_MAX + 1..).map(|(&inode, _)| inode).collect();
        for inode in impossible {
            let Some(row) = self.rows.remove(&inode) else { continue };
            let number = self.next_version();
            self.deleted.insert(inode);
            self.children.entry(row.parent).or_default().remove(&inode);
            self.children.entry(row.parent).or_default().insert(number);
            let what = format!("'{}' gets inode {number} instead of {}", escape(&row.name), inode as i64);
            self.step(number, what, "no entry can have the other number");
            self.rows.insert(number, Row { inode: number, ..row });
            self.changed.insert(number);
            for child in self.children.get(&inode).cloned().unwrap_or_default() {
                self.change(child, |row| row.parent = number);
            }
        }
        let late: Vec<Inode> =
            self.rows.values().filter(|row| row.version > NUMBER_MAX).map(|row| row.inode).collect();
        for inode in late {
            let what = format!("inode {inode} ('{}') gets a new version", self.shown(inode));
            self.step(inode, what, "no entry can have the version it had");
            self.change(inode, |row| row.version = 0);
        }
        let version = self.version;
        self.change_version_row(version);
    }

    /// Lowers the numbers above [`KEPT_MAX`] if the version is not sound. The mapping is strictly increasing, so all
    /// numbers compare as before, and [`Plan::next_version`] stays in range.
    pub(super) fn lower_numbers(&mut self) {
        if self.version <= SOUND_VERSION_MAX {
            return;
        }
        let lowered = self.lowered();
        let map = |number: u64| lowered.get(&number).copied().unwrap_or(number);
        let (before, version) = (self.version, map(self.version));
        self.version = version;
        let what = format!(
            "the database's version is {version} instead of {before}, and all numbers above {KEPT_MAX} are lowered in their order"
        );
        self.step(ROOT, what, "few numbers, or none, would be left for changes");
        self.changed = self.changed.iter().map(|&inode| map(inode)).collect();
        self.made = self.made.iter().map(|&inode| map(inode)).collect();
        for (inode, row) in std::mem::take(&mut self.rows) {
            let (number, parent, version) = (map(inode), map(row.parent), map(row.version));
            if number != inode {
                let what = format!("'{}' gets inode {number} instead of {inode}", escape(&row.name));
                self.step(number, what, "its number is lowered");
                self.deleted.insert(inode);
            }
            if (number, parent, version) != (inode, row.parent, row.version) {
                self.renumbered.insert(number);
            }
            self.rows.insert(number, Row { inode: number, parent, version, ..row });
        }
        self.children = BTreeMap::new();
        for row in self.rows.values().filter(|row| row.inode != ROOT) {
            self.children.entry(row.parent).or_default().insert(row.inode);
        }
    }

    /// The lower number for each number above [`KEPT_MAX`]. Parents above the version stay: no entry ever had such a
    /// number.
    fn lowered(&self) -> BTreeMap<u64, u64> {
        let of_row = |row: &Row| [row.inode, row.parent, row.version];
        let numbers = self.rows.values().flat_map(of_row).filter(|&number| number <= self.version);
        let numbers: BTreeSet<u64> = numbers.chain([self.version]).collect();
        let kept = numbers.range(..=KEPT_MAX).next_back().copied().unwrap_or(ROOT);
        numbers.range(KEPT_MAX + 1..).copied().zip(kept + 1..).collect()
    }
}
