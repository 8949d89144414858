//! What a repair does, worked out on rows in memory: one fix for each finding of the audit, until it finds
//! nothing. Nothing is dropped: what cannot stay where it is goes to [`super::lost`], and each step says
//! why it was chosen. It never looks at a file.

use super::super::table::{Table, path_in, show_path};
use super::super::text::escape;
use super::latest::LastChanges;
use crate::memdb::{
    Finding, Inode, KIND_DIRECTORY, KIND_FILE, MemDb, NUMBER_MAX, ROOT, Row, VERSION_ROW_NAME,
};
use crate::store::RowFault;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

/// One step of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Step {
    pub inode: Inode,
    /// What is done.
    pub what: String,
    /// Why this and not something else.
    pub why: String,
}

/// The way from damaged rows to sound ones.
#[derive(Debug)]
pub(in super::super) struct Plan {
    pub steps: Vec<Step>,
    /// The rows as they are to be.
    pub(super) rows: BTreeMap<Inode, Row>,
    /// What is in each directory.
    pub(super) children: BTreeMap<Inode, BTreeSet<Inode>>,
    /// The database's version.
    pub(super) version: u64,
    pub(super) now: u32,
    /// Rows that are not as they were, and get a new version.
    pub(super) changed: BTreeSet<Inode>,
    /// Rows whose inode, parent or version was lowered; their order is unchanged.
    pub(super) renumbered: BTreeSet<Inode>,
    /// Rows that were made by the plan.
    pub(super) made: BTreeSet<Inode>,
    /// Rows that are to go, as another number stands for them.
    pub(super) deleted: BTreeSet<Inode>,
    /// The directory for what cannot stay, once it is known.
    pub(super) lost: Option<Inode>,
    /// The names in a directory, so that they are gathered once and not for each that comes there.
    pub(super) taken: (Inode, BTreeSet<Vec<u8>>),
    /// Last changes at the beginning of a round of fixes, computed at the first use.
    pub(super) latest: OnceCell<LastChanges>,
}

/// What to store.
#[derive(Debug)]
pub(in super::super) struct Repaired {
    pub steps: Vec<Step>,
    pub deleted: Vec<Inode>,
    /// The rows that are not as they were.
    pub changed: Vec<Row>,
    /// All rows as they are to be.
    pub all: Vec<Row>,
}

impl Plan {
    /// Works out how to repair a table. The error is the finding that no fix removes.
    pub fn of(table: &Table, now: u32) -> Result<Repaired, Finding> {
        let mut plan = Self {
            steps: Vec::new(),
            rows: table.rows.iter().map(|row| (row.inode, row.clone())).collect(),
            children: BTreeMap::new(),
            version: 0,
            now,
            changed: BTreeSet::new(),
            renumbered: BTreeSet::new(),
            made: BTreeSet::new(),
            deleted: BTreeSet::new(),
            lost: None,
            taken: (ROOT, BTreeSet::new()),
            latest: OnceCell::new(),
        };
        for row in table.entries() {
            plan.children.entry(row.parent).or_default().insert(row.inode);
        }
        if let Some(damage) = &table.damage {
            let number = table.rows.len();
            plan.step(ROOT, format!("a new file is made of the {number} rows that can be read"), damage);
        }
        let is_fresh = table.rows.is_empty();
        plan.fix_values(&table.row_faults);
        plan.fix_version_row(is_fresh);
        plan.fix_tree()?;
        Ok(plan.finish())
    }

    pub(super) fn step(&mut self, inode: Inode, what: String, why: &str) {
        self.steps.push(Step { inode, what, why: why.to_owned() });
    }

    /// Where an entry is now, for people.
    pub(super) fn shown(&self, inode: Inode) -> String {
        show_path(&path_in(inode, |inode| self.rows.get(&inode)))
    }

    /// The next number, of a version or an inode.
    pub(super) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Changes a row, which must be there.
    pub(super) fn change(&mut self, inode: Inode, change: impl FnOnce(&mut Row)) {
        let Some(row) = self.rows.get_mut(&inode) else { return };
        let parent = row.parent;
        change(row);
        let (moved, now_in) = (row.parent != parent, row.parent);
        self.changed.insert(inode);
        if moved && inode != ROOT {
            self.children.entry(parent).or_default().remove(&inode);
            self.children.entry(now_in).or_default().insert(inode);
        }
    }

    /// Adds an entry of the plan's own.
    pub(super) fn make(&mut self, inode: Inode, parent: Inode, name: &[u8], kind: u8) {
        let (version, writer, mtime) = (inode, 0, self.now);
        let row = Row { inode, parent, version, writer, mtime, kind, name: name.into(), data: None };
        self.rows.insert(inode, row);
        self.children.entry(parent).or_default().insert(inode);
        self.changed.insert(inode);
        self.made.insert(inode);
    }

    pub(super) fn has_children(&self, inode: Inode) -> bool {
        self.children.get(&inode).is_some_and(|children| !children.is_empty())
    }

    /// Rows with values that no row can have are taken as the stock daemon takes them.
    fn fix_values(&mut self, faults: &[(Inode, RowFault)]) {
        for (inode, fault) in faults {
            match fault {
                RowFault::Inode(_) => continue,
                // These have more to them: a number of their own, or a parent that is found or not.
                RowFault::OutOfRange { column: "version" | "parent", .. } if *inode != ROOT => {}
                _ => {
                    let name = escape(self.rows.get(inode).map_or(&[], |row| &row.name));
                    let what =
                        format!("inode {inode} ('{name}'): the value is stored as the stock daemon reads it");
                    self.step(*inode, what, &fault.to_string());
                }
            }
            self.change(*inode, |_| {});
        }
    }

    /// The version row, and numbers that no database comes to.
    fn fix_version_row(&mut self, is_fresh: bool) {
        let possible = |number: u64| if number <= NUMBER_MAX { number } else { 0 };
        let entries = self.rows.values().filter(|row| row.inode != ROOT);
        let highest = entries.map(|row| possible(row.inode).max(possible(row.version))).max().unwrap_or(1);
        let stored = self.rows.get(&ROOT).cloned();
        let version = stored.as_ref().map_or(0, |row| possible(row.version));
        self.version = version.max(highest);
        if version < highest && !is_fresh {
            let what = format!("the database's version is {highest} instead of {version}");
            self.step(ROOT, what, "it is the highest that any entry has, and new ones get numbers above it");
        }
        let is_kind = |row: &Row| row.kind == KIND_FILE || row.kind == KIND_DIRECTORY && row.data.is_none();
        let sound = |row: &Row| *row.name == *VERSION_ROW_NAME && is_kind(row);
        match &stored {
            Some(row) if sound(row) => {}
            Some(_) => self.step(
                ROOT,
                "the version row is made as it must be".into(),
                "only its version tells anything",
            ),
            None if !is_fresh => self.step(ROOT, "a version row is made".into(), "there was none"),
            None => {}
        }
        let (writer, mtime) = stored.as_ref().map_or((0, self.now), |row| (row.writer, row.mtime));
        let (version, name) = (self.version, VERSION_ROW_NAME.into());
        let row =
            Row { inode: ROOT, parent: ROOT, version, writer, mtime, kind: KIND_FILE, name, data: None };
        if stored.is_some_and(|stored| !sound(&stored) || stored.version != version)
            || !self.rows.contains_key(&ROOT)
        {
            self.changed.insert(ROOT);
        }
        self.rows.insert(ROOT, row);
        self.fix_numbers();
        self.lower_numbers();
    }

    pub(super) fn change_version_row(&mut self, version: u64) {
        if let Some(row) = self.rows.get_mut(&ROOT) {
            row.version = version;
        }
    }

    /// One fix for each finding, the simplest kind first, until there are none.
    fn fix_tree(&mut self) -> Result<(), Finding> {
        loop {
            let findings = MemDb::audit(self.rows.values().cloned()).findings;
            let Some(first) = findings.iter().map(|finding| self.order(finding)).min() else { return Ok(()) };
            let steps = self.steps.len();
            self.latest = OnceCell::new();
            for finding in &findings {
                if self.order(finding) == first {
                    self.fix(finding);
                }
            }
            let version = self.version;
            self.change_version_row(version);
            if self.steps.len() == steps {
                return findings.into_iter().next().map_or(Ok(()), Err);
            }
        }
    }

    /// Gives each changed row a version of its own, as if each change had been made by the daemon.
    fn finish(mut self) -> Repaired {
        let is_entry = |inode: &Inode| *inode != ROOT && self.rows.contains_key(inode);
        let entries: Vec<Inode> = self.changed.iter().copied().filter(is_entry).collect();
        for inode in &entries {
            let is_numbered =
                self.made.contains(inode) && self.rows.get(inode).is_some_and(|row| row.version == *inode);
            if !is_numbered {
                let version = self.next_version();
                self.change(*inode, |row| row.version = version);
            }
        }
        if !entries.is_empty() {
            let (version, now) = (self.version, self.now);
            self.change(ROOT, |row| {
                row.version = version;
                row.writer = 0;
                row.mtime = now;
            });
        }
        let Self { steps, rows, changed, renumbered, deleted, .. } = self;
        let all: Vec<Row> = rows.into_values().collect();
        let is_other = |row: &&Row| changed.contains(&row.inode) || renumbered.contains(&row.inode);
        let changed = all.iter().filter(is_other).cloned().collect();
        Repaired { steps, deleted: deleted.into_iter().collect(), changed, all }
    }
}
