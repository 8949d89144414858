//! What a request that waits remembers of the tree, to tell afterwards whether what it did is still there.
//! Changes follow one another, so it is, unless another member's tree took the place of this one meanwhile.

use super::{Entry, Inode, MemDb, Name};

/// What was there. It says nothing of the contents of files: no two trees have different contents with
/// the same version, writer and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    replaced: u64,
    of: Of,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Tree,
    Entry(Inode, Option<Stamped>),
}

/// An entry as its last change left it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamped {
    parent: Inode,
    name: Name,
    version: u64,
    writer: u32,
    mtime: u32,
}

impl Stamped {
    fn of(entry: &Entry) -> Self {
        let Entry { parent, version, writer, mtime, .. } = *entry;
        Self { parent, name: entry.name.clone(), version, writer, mtime }
    }
}

impl MemDb {
    /// Of all changes so far.
    pub fn trace(&self) -> Trace {
        Trace { replaced: self.replaced, of: Of::Tree }
    }

    /// Of the changes of one entry so far, its removal for one.
    pub fn trace_of(&self, inode: Inode) -> Trace {
        Trace { replaced: self.replaced, of: Of::Entry(inode, self.get(inode).map(Stamped::of)) }
    }

    /// Whether what was done then is part of this tree. If another took its place since, that is known of
    /// an entry that is as it was, and not of the whole tree.
    pub fn has(&self, trace: &Trace) -> bool {
        self.replaced == trace.replaced
            || match &trace.of {
                Of::Tree => false,
                Of::Entry(inode, then) => self.get(*inode).map(Stamped::of) == *then,
            }
    }

    /// How often another member's tree took the place of this one.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{Change, Limits, Row, Stamp, VERSION_ROW_NAME};
    use std::time::Duration;

    const NOW: Duration = Duration::ZERO;

    fn apply(db: &mut MemDb, writer: u32, change: Change) -> Inode {
        db.apply(change, Stamp { writer, time: 10 }, Limits::Agreed, NOW).expect("applies").inode
    }

    fn mkdir(path: &str) -> Change {
        Change::Mkdir { path: path.into() }
    }

    fn become_that_of(db: &mut MemDb, leader: &mut MemDb) {
        let rows: Vec<Row> = leader.snapshot_rows().collect();
        assert_eq!(*rows[0].name, *VERSION_ROW_NAME);
        db.apply_update(&leader.index(), rows, NOW).expect("adds up");
    }

    #[test]
    fn later_changes_do_not_undo_earlier_ones() {
        let mut db = MemDb::new();
        let made = apply(&mut db, 1, mkdir("made"));
        let traces = [db.trace(), db.trace_of(made)];
        apply(&mut db, 2, Change::Delete { path: "made".into() });
        assert!(traces.iter().all(|trace| db.has(trace)));
    }

    #[test]
    fn another_tree_has_what_it_has_as_it_was() {
        let mut db = MemDb::new();
        let [kept, gone] = ["kept", "gone"].map(|name| apply(&mut db, 1, mkdir(name)));
        apply(&mut db, 1, Change::Delete { path: "gone".into() });
        // Two parts of a cluster go on.
        let mut leader = db.clone();
        let ours = apply(&mut db, 1, mkdir("new"));
        let theirs = apply(&mut leader, 2, mkdir("new"));
        assert_eq!(ours, theirs);
        apply(&mut leader, 2, mkdir("more"));
        let [tree, kept, gone, ours] = [db.trace(), db.trace_of(kept), db.trace_of(gone), db.trace_of(ours)];
        become_that_of(&mut db, &mut leader);
        assert_eq!([&tree, &kept, &gone, &ours].map(|trace| db.has(trace)), [false, true, true, false]);
        assert!(db.has(&db.trace()) && db.has(&db.trace_of(theirs)));
    }

    #[test]
    fn what_was_removed_is_back() {
        let mut db = MemDb::new();
        let file = apply(&mut db, 1, Change::Create { path: "file".into() });
        let mut leader = db.clone();
        apply(&mut db, 1, Change::Delete { path: "file".into() });
        for name in ["a", "b"] {
            apply(&mut leader, 2, mkdir(name));
        }
        let trace = db.trace_of(file);
        become_that_of(&mut db, &mut leader);
        assert!(!db.has(&trace));
        assert_eq!(db.verify(), Ok(()));
    }
}
