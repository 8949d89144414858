//! Fingerprint of an entry or of the tree, taken when a request starts to wait for a commit. After a resync it shows
//! whether the leader's tree contains the change of the request. Without a resync, the tree contains all earlier
//! changes.

use super::{Entry, Inode, MemDb, Name};

/// State of an entry or of the tree. It leaves out the contents of files, because version, writer and time identify
/// them in all trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    tree_generation: u64,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Tree,
    Entry(Inode, Option<EntryFingerprint>),
}

/// An entry as its last change left it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EntryFingerprint {
    parent: Inode,
    name: Name,
    version: u64,
    writer: u32,
    mtime: u32,
}

impl EntryFingerprint {
    fn of(entry: &Entry) -> Self {
        let Entry { parent, version, writer, mtime, .. } = *entry;
        Self { parent, name: entry.name.clone(), version, writer, mtime }
    }
}

impl MemDb {
    /// Fingerprint of all changes so far.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { tree_generation: self.tree_generation, scope: Scope::Tree }
    }

    /// Fingerprint of the changes of one entry so far, including its removal.
    pub fn fingerprint_of(&self, inode: Inode) -> Fingerprint {
        Fingerprint {
            tree_generation: self.tree_generation,
            scope: Scope::Entry(inode, self.get(inode).map(EntryFingerprint::of)),
        }
    }

    /// Returns true if this tree contains the changes up to the fingerprint. After a resync it
    /// returns true for an entry in the same state, and always false for the whole tree.
    pub fn still_contains(&self, fingerprint: &Fingerprint) -> bool {
        self.tree_generation == fingerprint.tree_generation
            || match &fingerprint.scope {
                Scope::Tree => false,
                Scope::Entry(inode, then) => self.get(*inode).map(EntryFingerprint::of) == *then,
            }
    }

    /// Number of resyncs that installed a leader's tree.
    pub fn tree_generation(&self) -> u64 {
        self.tree_generation
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
        db.install_leader_tree(&leader.index(), rows, NOW).expect("adds up");
    }

    #[test]
    fn later_changes_keep_earlier_ones_contained() {
        let mut db = MemDb::new();
        let made = apply(&mut db, 1, mkdir("made"));
        let fingerprints = [db.fingerprint(), db.fingerprint_of(made)];
        apply(&mut db, 2, Change::Delete { path: "made".into() });
        assert!(fingerprints.iter().all(|fingerprint| db.still_contains(fingerprint)));
    }

    #[test]
    fn resync_keeps_entries_with_the_same_state() {
        let mut db = MemDb::new();
        let [kept, gone] = ["kept", "gone"].map(|name| apply(&mut db, 1, mkdir(name)));
        apply(&mut db, 1, Change::Delete { path: "gone".into() });
        // Two parts of a cluster go on.
        let mut leader = db.clone();
        let ours = apply(&mut db, 1, mkdir("new"));
        let theirs = apply(&mut leader, 2, mkdir("new"));
        assert_eq!(ours, theirs);
        apply(&mut leader, 2, mkdir("more"));
        let [tree, kept, gone, ours] =
            [db.fingerprint(), db.fingerprint_of(kept), db.fingerprint_of(gone), db.fingerprint_of(ours)];
        become_that_of(&mut db, &mut leader);
        assert_eq!(
            [&tree, &kept, &gone, &ours].map(|fingerprint| db.still_contains(fingerprint)),
            [false, true, true, false]
        );
        assert!(db.still_contains(&db.fingerprint()) && db.still_contains(&db.fingerprint_of(theirs)));
    }

    #[test]
    fn resync_may_restore_a_removed_entry() {
        let mut db = MemDb::new();
        let file = apply(&mut db, 1, Change::Create { path: "file".into() });
        let mut leader = db.clone();
        apply(&mut db, 1, Change::Delete { path: "file".into() });
        for name in ["a", "b"] {
            apply(&mut leader, 2, mkdir(name));
        }
        let fingerprint = db.fingerprint_of(file);
        become_that_of(&mut db, &mut leader);
        assert!(!db.still_contains(&fingerprint));
        assert_eq!(db.verify(), Ok(()));
    }
}
