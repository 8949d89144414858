//! Installs the leader's tree in a resync: from the local tree and the rows that the leader sent. If the result is not
//! the leader's tree, nothing changes.

use super::batch::VERSION_ROW_NAME;
use super::load::{check_version_row, entry_of};
use super::{ByteRange, Entry, Index, Inode, Invalidation, LoadError, MemDb, ROOT, Removal, Row};
use std::collections::BTreeMap;
use std::time::Duration;

/// Cause for which the leader's tree was not installed. The local tree is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the updated database has version 0")]
    NoVersion,
    #[error("inode {inode} was updated but is not in the leader's index")]
    Unwanted { inode: Inode },
    #[error("the updated database is not the leader's (version {version}, {entries} entries)")]
    Different { version: u64, entries: usize },
}

impl MemDb {
    /// Makes this tree the one with the leader's index: removes entries that are not in the index, inserts the rows
    /// (the root as inode 0), and keeps all others with their digests. Returns the invalidations.
    ///
    /// # Errors
    /// A row is invalid, or the resulting tree would not have exactly the leader's index. The tree is then unchanged.
    pub fn install_leader_tree(
        &mut self,
        leader: &Index,
        rows: impl IntoIterator<Item = Row>,
        now: Duration,
    ) -> Result<Vec<Invalidation>, InstallError> {
        let mut root = Entry::root(self.root.version, self.root.writer, self.root.mtime);
        let mut fresh: BTreeMap<Inode, Entry> = BTreeMap::new();
        for row in rows {
            if row.inode == ROOT {
                let row = check_version_row(Row { name: VERSION_ROW_NAME.into(), ..row }, &mut Err)?;
                root = Entry::root(row.version, row.writer, row.mtime);
            } else {
                fresh.insert(row.inode, entry_of(row, &mut Err)?);
            }
        }
        if root.version == 0 {
            return Err(InstallError::NoVersion);
        }
        let wanted = |inode: &Inode| leader.entries.binary_search_by_key(inode, |entry| entry.inode).is_ok();
        if let Some(&inode) = fresh.keys().find(|inode| !wanted(inode)) {
            return Err(InstallError::Unwanted { inode });
        }

        let mut dirty = self.dirty.clone();
        dirty.new_version();
        let mut entries = BTreeMap::new();
        for (&inode, entry) in &self.entries {
            if wanted(&inode) {
                entries.insert(inode, entry.unlinked());
            } else {
                dirty.delete(inode);
            }
        }
        fresh.keys().for_each(|&inode| dirty.change(inode));
        let invalidations = self.invalidations_of(&entries, &fresh);
        entries.append(&mut fresh);

        let mut versions = self.versions.clone();
        versions.count_all();
        let mut updated = Self::assemble(root, entries, now, &self.guests, versions, &mut Err)?;
        updated.check_versions(&mut Err)?;
        updated.dirty = dirty;
        updated.tree_generation = self.tree_generation + 1;
        if updated.index() != *leader {
            let (version, entries) = (updated.version(), updated.entries.len() + 1);
            return Err(InstallError::Different { version, entries });
        }
        *self = updated;
        Ok(invalidations)
    }

    /// What changes for caches when of all entries these are kept and these come anew.
    fn invalidations_of(
        &self,
        kept: &BTreeMap<Inode, Entry>,
        fresh: &BTreeMap<Inode, Entry>,
    ) -> Vec<Invalidation> {
        let place = |entry: &Entry| Invalidation::Entry { parent: entry.parent, name: entry.name.clone() };
        let mut invalidations = Vec::new();
        for (inode, old) in self.entries.iter().filter(|(inode, _)| !kept.contains_key(inode)) {
            invalidations.push(place(old));
            let content = old.content().cloned();
            invalidations.push(Invalidation::Removed {
                inode: *inode,
                content,
                mtime: old.mtime,
                private: old.private,
                removal: Removal::Deleted,
            });
        }
        for (&inode, new) in fresh {
            match self.entries.get(&inode) {
                Some(old) if old.is_dir() == new.is_dir() => {
                    if (old.parent, &old.name) != (new.parent, &new.name) {
                        invalidations.extend([place(old), place(new)]);
                    }
                    let is_dir = new.is_dir();
                    invalidations.push(if is_dir {
                        Invalidation::Attributes { inode }
                    } else {
                        Invalidation::Content { inode, range: ByteRange::ALL }
                    });
                }
                // Another kind of thing under the same number.
                Some(old) => {
                    let content = old.content().cloned();
                    invalidations.extend([place(old), place(new)]);
                    invalidations.push(Invalidation::Removed {
                        inode,
                        content,
                        mtime: old.mtime,
                        private: old.private,
                        removal: Removal::Deleted,
                    });
                }
                None => invalidations.push(place(new)),
            }
        }
        invalidations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{Change, Limits, Stamp, WriteAt};

    const NOW: Duration = Duration::ZERO;

    fn apply(db: &mut MemDb, change: Change) {
        let stamp = Stamp { writer: 1, time: 10 };
        db.apply(change, stamp, Limits::Agreed, NOW).expect("applies");
    }

    fn write(path: &str, data: &str) -> Change {
        Change::Write { path: path.into(), at: WriteAt::Offset(0), data: data.into() }
    }

    /// A database, and what became of it elsewhere: something gone, made, moved, and changed.
    fn behind_and_leader() -> (MemDb, MemDb) {
        let mut db = MemDb::new();
        for path in ["d", "e"] {
            apply(&mut db, Change::Mkdir { path: path.into() });
        }
        for path in ["d/gone", "d/moved", "same", "storage.cfg"] {
            apply(&mut db, Change::Create { path: path.into() });
        }
        let behind = db.clone();
        apply(&mut db, Change::Delete { path: "d/gone".into() });
        apply(&mut db, Change::Rename { from: "d/moved".into(), to: "e/moved".into() });
        apply(&mut db, Change::Mkdir { path: "nodes".into() });
        apply(&mut db, Change::Mkdir { path: "nodes/n1".into() });
        apply(&mut db, Change::Mkdir { path: "nodes/n1/lxc".into() });
        apply(&mut db, Change::Create { path: "nodes/n1/lxc/100.conf".into() });
        apply(&mut db, write("storage.cfg", "x"));
        (behind, db)
    }

    fn all_rows(db: &MemDb) -> Vec<Row> {
        let root =
            |row: Row| if row.inode == ROOT { Row { name: (*b"").into(), kind: 4, ..row } } else { row };
        db.snapshot_rows().map(root).collect()
    }

    /// Only what differs, as a leader sends it.
    fn difference(from: &mut MemDb, to: &mut MemDb) -> Vec<Row> {
        let (ours, theirs) = (from.index(), to.index());
        let lacks = |row: &Row| {
            let wanted = theirs.entries.iter().find(|entry| entry.inode == row.inode);
            !ours.entries.iter().any(|entry| Some(entry) == wanted)
        };
        all_rows(to).into_iter().filter(lacks).collect()
    }

    #[test]
    fn becomes_the_leaders() {
        let (mut db, mut leader) = behind_and_leader();
        db.take_batch();
        let rows = difference(&mut db, &mut leader);
        let index = leader.index();
        assert_eq!(rows.len(), 7, "the root, three directories, a guest, a moved and a written file");
        db.install_leader_tree(&index, rows, NOW).expect("adds up");
        assert!(db.all_entries().eq(leader.all_entries()));
        assert_eq!(db.verify(), Ok(()));
        assert!(db.guests().get(100).is_some());
        assert_eq!(db.versions().get("storage.cfg"), Some(3), "made, then replaced with all others");

        let batch = db.take_batch().expect("is to be stored");
        let changed: Vec<Inode> = batch.rows.iter().map(|row| row.inode).collect();
        assert_eq!((batch.version, batch.deleted), (leader.version(), vec![4]));
        assert_eq!(changed, [0, 5, 7, 10, 11, 12, 13]);
    }

    #[test]
    fn what_was_not_stored_yet_is_not_forgotten() {
        let (mut db, mut leader) = behind_and_leader();
        let rows = difference(&mut db, &mut leader);
        let index = leader.index();
        db.install_leader_tree(&index, rows, NOW).expect("adds up");
        let batch = db.take_batch().expect("is to be stored");
        let stored = MemDb::load(batch.rows, NOW).expect("loads");
        assert!(stored.all_entries().eq(leader.all_entries()));
    }

    #[test]
    fn nothing_changes_when_it_does_not_add_up() {
        let (mut db, mut leader) = behind_and_leader();
        let index = leader.index();
        let rows = difference(&mut db, &mut leader);
        let before = db.clone();
        let mut refuse = |rows: Vec<Row>| {
            let refused = db.install_leader_tree(&index, rows, NOW).expect_err("does not add up");
            assert!(db.all_entries().eq(before.all_entries()) && db.versions() == before.versions());
            assert_eq!(db.verify(), Ok(()));
            refused
        };
        for lost in 0..rows.len() {
            let mut rows = rows.clone();
            rows.remove(lost);
            refuse(rows);
        }
        let other = |change: &dyn Fn(&mut Row)| {
            let mut rows = rows.clone();
            change(rows.last_mut().expect("is there"));
            rows
        };
        assert!(matches!(refuse(other(&|row| row.version += 1)), InstallError::Different { .. }));
        assert!(matches!(refuse(other(&|row| row.parent = 99)), InstallError::Load(_)));
        assert!(matches!(refuse(other(&|row| row.name = (*b"..").into())), InstallError::Load(_)));
        assert_eq!(refuse(other(&|row| row.inode = 99)), InstallError::Unwanted { inode: 99 });
        let behind = rows.iter().skip(1).map(|row| row.version).max().expect("some") - 1;
        let mut late = rows.clone();
        late[0].version = behind;
        let ahead = refuse(late);
        assert!(matches!(ahead, InstallError::Load(LoadError::VersionAhead { .. })), "{ahead}");
        let mut versionless = rows.clone();
        versionless[0].version = 0;
        assert_eq!(refuse(versionless), InstallError::NoVersion);
    }
}
