//! All rows of a database, sound or not: what is wrong with them, and where each entry is as far as that
//! can be said. It never changes them.

use super::Output;
use super::text::escape;
use crate::memdb::{Audit, EntryError, Finding, Inode, LoadError, MemDb, ROOT, Row};
use crate::store::{Reader, RowFault, StoreError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The rows of a database.
#[derive(Debug)]
pub(super) struct Table {
    /// By rising inode, as SQLite sorts them.
    pub rows: Vec<Row>,
    /// The rows that are none, with the reason.
    pub row_faults: Vec<(Inode, RowFault)>,
    /// What SQLite says when these are not all rows, as the file is damaged.
    pub damage: Option<String>,
}

/// One thing that is wrong with a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// A word for it.
    pub rule: &'static str,
    pub inodes: Vec<Inode>,
    pub text: String,
}

impl Table {
    /// Reads all rows, or all that can be read.
    pub fn read(reader: &Reader, output: &mut Output<'_>) -> Result<Self, StoreError> {
        let (mut rows, mut row_faults) = (Vec::new(), Vec::new());
        let damage = reader.readable_rows(|loose| {
            let inode = loose.row.inode;
            row_faults.extend(loose.faults.into_iter().map(|fault| (inode, fault)));
            rows.push(loose.row);
            output.step("reading rows", rows.len() as u64);
        })?;
        if damage.is_some() {
            rows.sort_by_key(|row| row.inode as i64);
            rows.dedup_by_key(|row| row.inode);
        }
        output.end_progress();
        Ok(Self { rows, row_faults, damage })
    }

    /// The rules of the tree on these rows.
    pub fn audit(&self) -> Audit {
        MemDb::audit(self.rows.iter().cloned())
    }

    /// All that is wrong: with the rows one by one, then with the tree that they should be.
    pub fn faults(&self, audit: &Audit) -> Vec<Fault> {
        let row_fault = |(inode, fault): &(Inode, RowFault)| {
            let rule = match fault {
                RowFault::Inode(_) => "row-inode",
                RowFault::OutOfRange { .. } => "row-range",
                RowFault::WrongType { .. } => "row-type",
            };
            Fault { rule, inodes: vec![*inode], text: fault.to_string() }
        };
        let finding = |finding: &Finding| Fault {
            rule: finding.rule(),
            inodes: finding.inodes(),
            text: finding.to_string(),
        };
        let damage = self.damage.iter().map(|text| {
            let text =
                format!("the file is damaged, only {} of its rows can be read: {text}", self.rows.len());
            Fault { rule: "unreadable", inodes: Vec::new(), text }
        });
        let rows = self.row_faults.iter().map(row_fault);
        let faulty: BTreeSet<Inode> = self.row_faults.iter().map(|(inode, _)| *inode).collect();
        let is_news = |finding: &&Finding| out_of_range(finding).is_none_or(|inode| !faulty.contains(&inode));
        let findings = audit.findings.iter().filter(is_news);
        damage.chain(rows).chain(findings.map(finding)).collect()
    }

    /// The row of the database's version.
    pub fn version_row(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.inode == ROOT)
    }

    /// Every row that stores an entry.
    pub fn entries(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.inode != ROOT)
    }

    /// Where each entry is.
    pub fn places(&self) -> Places<'_> {
        Places(self.entries().map(|row| (row.inode, row)).collect())
    }
}

/// The rows by inode, to say where an entry is in a tree that may have holes and circles.
pub(super) struct Places<'a>(BTreeMap<Inode, &'a Row>);

/// Longest path that is shown whole, in bytes. Without a limit the total length of the paths of a directory
/// chain would be quadratic.
const PATH_BYTES_MAX: usize = 1024;

/// The path of an entry in rows that may have gaps and loops. A path that does not lead to the root, or is
/// too long, begins with `?` and the inode at which it ends.
pub(super) fn path_in<'a>(inode: Inode, row: impl Fn(Inode) -> Option<&'a Row>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut climbed = BTreeSet::new();
    let (mut at, mut length) = (inode, 0);
    let mut begin = None;
    while at != ROOT {
        match row(at) {
            Some(row) if length <= PATH_BYTES_MAX && climbed.insert(at) => {
                length += row.name.len() + 1;
                names.push(&*row.name);
                at = row.parent;
            }
            _ => {
                begin = Some(format!("?{}", at as i64).into_bytes());
                break;
            }
        }
    }
    let begin = begin.iter().map(Vec::as_slice);
    begin.chain(names.into_iter().rev()).collect::<Vec<_>>().join(&b'/')
}

/// A path for people.
pub(super) fn show_path(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { escape(path) }
}

/// Inode of a finding about a number out of range. A negative number is also a finding about its row.
fn out_of_range(finding: &Finding) -> Option<Inode> {
    let Finding::Refused(LoadError::Entry(error)) = finding else { return None };
    matches!(error, EntryError::InodeRange { .. } | EntryError::VersionRange { .. }).then(|| error.inode())
}

impl Places<'_> {
    /// The path of an entry; see [`path_in`].
    pub fn path(&self, inode: Inode) -> Vec<u8> {
        path_in(inode, |inode| self.0.get(&inode).copied())
    }

    /// The same for people.
    pub fn shown(&self, inode: Inode) -> String {
        show_path(&self.path(inode))
    }
}

impl Fault {
    /// For programs.
    pub fn json(&self, places: &Places<'_>) -> Value {
        let paths: Vec<String> = self.inodes.iter().map(|&inode| places.shown(inode)).collect();
        let inodes: Vec<i64> = self.inodes.iter().map(|&inode| inode as i64).collect();
        json!({ "rule": self.rule, "inodes": inodes, "paths": paths, "text": self.text })
    }

    /// For people: what is wrong, and where the entries are.
    pub fn line(&self, places: &Places<'_>) -> String {
        let known = self.inodes.iter().filter(|&&inode| inode != ROOT);
        let paths: Vec<String> = known.map(|&inode| format!("'{}'", places.shown(inode))).collect();
        match paths.is_empty() {
            true => self.text.clone(),
            false => format!("{} [{}]", self.text, paths.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(Inode, Inode, &str)]) -> Table {
        let row = |&(inode, parent, name): &(Inode, Inode, &str)| Row {
            inode,
            parent,
            version: 1,
            writer: 0,
            mtime: 0,
            kind: 4,
            name: name.as_bytes().into(),
            data: None,
        };
        Table { rows: rows.iter().map(row).collect(), row_faults: Vec::new(), damage: None }
    }

    #[test]
    fn every_entry_has_a_place() {
        let table =
            table(&[(1, 0, "a"), (2, 1, "b"), (3, 9, "lost"), (4, 5, "c"), (5, 4, "d"), (6, 6, "self")]);
        let places = table.places();
        let shown: Vec<String> = (0..=7).map(|inode| places.shown(inode)).collect();
        assert_eq!(shown, ["/", "a", "a/b", "?9/lost", "?4/d/c", "?5/c/d", "?6/self", "?7"]);
    }

    #[test]
    fn long_path_begins_with_an_inode() {
        let names: Vec<String> = (1..=100).map(|inode| format!("{inode:099}")).collect();
        let chain: Vec<_> =
            (1..=100).map(|inode| (inode, inode - 1, names[inode as usize - 1].as_str())).collect();
        let table = table(&chain);
        let places = table.places();
        let depth = |inode| places.path(inode).split(|byte| *byte == b'/').count();
        // 11 names of 100 bytes each with their slash are above the limit.
        assert_eq!([1, 10, 11, 12, 100].map(depth), [1, 10, 11, 12, 12]);
        assert!(places.shown(100).starts_with(&format!("?89/{}", names[89])));
    }
}
