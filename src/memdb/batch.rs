//! What has to reach the disk: the rows of entries that changed since the last batch was taken.
//! A batch is always the complete step from one version to a later one.

use super::entry::KIND_FILE;
use super::{Entry, Inode, MemDb, Node, ROOT};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The name of the version row, which stands for the root.
pub const VERSION_ROW_NAME: &[u8] = b"__version__";

/// One row of the table, as it is read or written. Nothing in it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub inode: Inode,
    pub parent: Inode,
    pub version: u64,
    pub writer: u32,
    pub mtime: u32,
    /// 4 for a directory, 8 for a file and for the version row.
    pub kind: u8,
    pub name: Arc<[u8]>,
    /// The contents of a file; `None` when there are none.
    pub data: Option<Arc<Vec<u8>>>,
}

/// One transaction: first the deletions, then the rows, each inserted or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The version of the database once this is on disk.
    pub version: u64,
    /// Inodes that are gone. Some may never have been on disk.
    pub deleted: Vec<Inode>,
    /// Entries as they are at `version`; the first is the version row.
    pub rows: Vec<Row>,
}

/// Which rows on disk are no longer true.
#[derive(Debug, Clone, Default)]
pub(super) struct Dirty {
    /// Whether anything changed at all, the version row for one.
    version: bool,
    changed: BTreeSet<Inode>,
    deleted: BTreeSet<Inode>,
}

impl Row {
    pub(super) fn of(entry: &Entry) -> Self {
        let is_root = entry.inode == ROOT;
        Self {
            inode: entry.inode,
            parent: entry.parent,
            version: entry.version,
            writer: entry.writer,
            mtime: entry.mtime,
            kind: if is_root { KIND_FILE } else { entry.kind() },
            name: if is_root { VERSION_ROW_NAME.into() } else { entry.name.to_arc() },
            data: entry.content().filter(|content| !content.is_empty()).cloned(),
        }
    }
}

impl Dirty {
    /// Of a database that is not on disk yet.
    pub(super) fn fresh() -> Self {
        Self { version: true, ..Self::default() }
    }

    /// The database has a new version.
    pub(super) fn new_version(&mut self) {
        self.version = true;
    }

    /// The row of this entry changed.
    pub(super) fn change(&mut self, inode: Inode) {
        // Another member's tree may bring back what was deleted in this one.
        self.deleted.remove(&inode);
        self.changed.insert(inode);
    }

    /// The row of this entry is gone.
    pub(super) fn delete(&mut self, inode: Inode) {
        self.changed.remove(&inode);
        self.deleted.insert(inode);
    }

    pub(super) fn changed(&self) -> impl Iterator<Item = Inode> {
        self.changed.iter().copied()
    }

    pub(super) fn deleted(&self) -> impl Iterator<Item = Inode> {
        self.deleted.iter().copied()
    }
}

impl MemDb {
    /// Whether everything was taken for the disk.
    pub fn is_clean(&self) -> bool {
        !self.dirty.version
    }

    /// Everything that changed since the last batch; `None` when nothing did. File contents are
    /// shared, not copied.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.is_clean() {
            return None;
        }
        let dirty = std::mem::take(&mut self.dirty);
        let mut rows = Vec::with_capacity(dirty.changed.len() + 1);
        rows.push(Row::of(&self.root));
        for inode in dirty.changed {
            if let Some(entry) = self.entries.get_mut(&inode) {
                drop_slack(entry);
                rows.push(Row::of(entry));
            }
        }
        Some(Batch { version: self.root.version, deleted: dirty.deleted.into_iter().collect(), rows })
    }

    /// The whole tree as one batch, for a new database. Stored or not makes no difference, and does not change.
    pub fn whole(&self) -> Batch {
        let rows = std::iter::once(&self.root).chain(self.entries.values()).map(Row::of).collect();
        Batch { version: self.root.version, deleted: Vec::new(), rows }
    }

    /// Takes a batch back that did not reach the disk; the next one will hold its rows, as they
    /// are by then.
    pub fn put_back(&mut self, batch: Batch) {
        self.dirty.version = true;
        // Numbers are never reused: what is deleted stays so, unless another tree has it; and what is gone by
        // now was noted.
        let gone = batch.deleted.into_iter().filter(|inode| !self.entries.contains_key(inode));
        self.dirty.deleted.extend(gone);
        let alive = batch.rows.iter().map(|row| row.inode).filter(|inode| self.entries.contains_key(inode));
        self.dirty.changed.extend(alive);
    }

    /// Lets `copy`, which was made of this one and then changed, take its place, and hands this one out for it.
    /// What is not stored of this one, for one because a commit that had it failed meanwhile, is to be stored then.
    pub fn swap_in(&mut self, copy: &mut MemDb) {
        if let Some(unstored) = self.take_batch() {
            copy.put_back(unstored);
        }
        std::mem::swap(self, copy);
    }
}

/// Gives back what a file's buffer has over its length after it grew in steps. While others still
/// hold the bytes they keep the old buffer.
fn drop_slack(entry: &mut Entry) {
    let Node::File(content) = &mut entry.node else { return };
    if content.capacity() == content.len() {
        return;
    }
    match Arc::get_mut(content) {
        Some(bytes) => bytes.shrink_to_fit(),
        None => *content = Arc::new(content.as_slice().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{Change, Limits, Stamp};
    use std::time::Duration;

    fn mkdir(db: &mut MemDb, path: &str) {
        let change = Change::Mkdir { path: path.into() };
        db.apply(change, Stamp { writer: 1, time: 10 }, Limits::Agreed, Duration::ZERO).expect("applies");
    }

    #[test]
    fn what_comes_back_unstored_while_a_copy_is_changed_is_not_forgotten() {
        let mut db = MemDb::new();
        db.take_batch().expect("it is fresh");
        mkdir(&mut db, "a");
        let under_way = db.take_batch().expect("a is new");
        let mut copy = db.clone();
        mkdir(&mut copy, "b");
        db.put_back(under_way);
        db.swap_in(&mut copy);
        let names: Vec<_> =
            db.take_batch().expect("both are new").rows.into_iter().map(|row| row.name).collect();
        assert_eq!(names[1..].iter().map(|name| &**name).collect::<Vec<_>>(), [b"a", b"b"]);
        assert!(db.resolve(b"b").is_some() && copy.resolve(b"b").is_none());
    }
}
