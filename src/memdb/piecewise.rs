//! The digests of a large tree, computed piece by piece: who has the tree behind a lock lets others in
//! between. A change meanwhile makes what was computed void, and it is computed as ever when it is needed.

use super::{Entry, Inode, MemDb, ROOT, index};
use sha2::{Digest, Sha256};

/// How many bytes make a piece. To hash them takes a fraction of a millisecond.
const PIECE: u64 = 256 << 10;

/// What an entry counts for beside its contents.
const ENTRY: u64 = 128;

/// A tree that does not change, and how far it is done.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Generation and version of the tree; `None` before the first piece.
    of: Option<(u64, u64)>,
    next: Inode,
    is_over: bool,
}

/// The checksum of the whole, as far as it is computed.
#[derive(Debug, Clone, Default)]
pub struct PartialChecksum {
    progress: Progress,
    sha: Sha256,
}

/// Digests of entries that had none, as far as they are computed.
#[derive(Debug, Clone, Default)]
pub struct PartialIndex {
    progress: Progress,
    digests: Vec<(Inode, [u8; 32])>,
}

/// The checksum of a version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prepared {
    version: u64,
    checksum: [u8; 32],
}

impl Progress {
    /// Lets `act` see the entries of the next piece, in order, and count their bytes.
    fn go_on(&mut self, db: &MemDb, mut act: impl FnMut(&Entry) -> u64) {
        if *self.of.get_or_insert(db.state()) != db.state() {
            self.is_over = true;
            return;
        }
        let mut left = PIECE;
        for entry in db.entries_from(self.next) {
            if left == 0 {
                self.next = entry.inode;
                return;
            }
            left = left.saturating_sub(act(entry));
        }
        self.is_over = true;
    }
}

impl MemDb {
    /// Computes a piece. Says whether another one follows.
    pub fn add_to_checksum(&self, partial: &mut PartialChecksum) -> bool {
        let PartialChecksum { progress, sha } = partial;
        progress.go_on(self, |entry| {
            index::add_entry(sha, entry);
            entry.size() + ENTRY
        });
        !progress.is_over
    }

    /// From now on, until something changes, [`MemDb::checksum`] is this, if it is the tree's and whole.
    pub fn prepare_checksum(&mut self, partial: PartialChecksum) {
        if self.is_all_in(&partial.progress) {
            let checksum = partial.sha.finalize().into();
            self.prepared = Some(Prepared { version: self.version(), checksum });
        }
    }

    /// The checksum, if it was prepared.
    pub(crate) fn prepared_checksum(&self) -> Option<[u8; 32]> {
        self.prepared.filter(|prepared| prepared.version == self.version()).map(|prepared| prepared.checksum)
    }

    /// Computes a piece of what [`MemDb::index`] lacks. Says whether another one follows.
    pub fn add_to_index(&self, partial: &mut PartialIndex) -> bool {
        let PartialIndex { progress, digests } = partial;
        progress.go_on(self, |entry| {
            if entry.digest.is_some() {
                return ENTRY;
            }
            digests.push((entry.inode, index::index_digest(entry)));
            entry.size() + ENTRY
        });
        !progress.is_over
    }

    /// Keeps the digests of the pieces since the last time, if the tree is still that they are of.
    pub fn prepare_index(&mut self, partial: &mut PartialIndex) {
        let digests = std::mem::take(&mut partial.digests);
        if partial.progress.of != Some(self.state()) {
            return;
        }
        for (inode, digest) in digests {
            let entry = if inode == ROOT { Some(&mut self.root) } else { self.entries.get_mut(&inode) };
            if let Some(entry) = entry {
                entry.digest = Some(Box::new(digest));
            }
        }
    }

    /// The same as long as nothing changes.
    fn state(&self) -> (u64, u64) {
        (self.tree_generation(), self.version())
    }

    fn is_all_in(&self, progress: &Progress) -> bool {
        progress.is_over && progress.of == Some(self.state())
    }

    fn entries_from(&self, inode: Inode) -> impl Iterator<Item = &Entry> {
        let root = (inode == ROOT).then_some(&self.root);
        root.into_iter().chain(self.entries.range(inode..).map(|(_, entry)| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{Change, Limits, Stamp, WriteAt};
    use std::time::Duration;

    fn apply(db: &mut MemDb, change: Change) {
        let stamp = Stamp { writer: 1, time: 10 };
        db.apply(change, stamp, Limits::Enforced, Duration::ZERO).expect("applies");
    }

    fn write(db: &mut MemDb, name: &str, len: usize) {
        let data = vec![len as u8; len];
        apply(db, Change::Write { path: name.into(), at: WriteAt::Offset(0), data });
    }

    /// Of several pieces, one of them a single file.
    fn large() -> MemDb {
        let mut db = MemDb::new();
        for (name, len) in [("a", 200_000), ("b", 100_000), ("c", 1 << 20), ("d", 0), ("e", 300_000)] {
            apply(&mut db, Change::Create { path: name.into() });
            write(&mut db, name, len);
        }
        db
    }

    #[test]
    fn a_checksum_in_pieces_is_the_checksum() {
        let mut db = large();
        let (checksum, mut partial, mut pieces) = (db.checksum(), PartialChecksum::default(), 1);
        while db.add_to_checksum(&mut partial) {
            pieces += 1;
        }
        assert_eq!((pieces, db.prepared_checksum()), (3, None));
        db.prepare_checksum(partial);
        assert_eq!((db.prepared_checksum(), db.checksum()), (Some(checksum), checksum));
        write(&mut db, "d", 1);
        assert_eq!(db.prepared_checksum(), None);
        assert_ne!(db.checksum(), checksum);
    }

    #[test]
    fn a_change_in_between_makes_it_void() {
        let mut db = large();
        let (mut partial, mut index) = (PartialChecksum::default(), PartialIndex::default());
        assert!(db.add_to_checksum(&mut partial) && db.add_to_index(&mut index));
        db.prepare_checksum(partial.clone());
        assert_eq!(db.prepared_checksum(), None, "it is not whole");
        write(&mut db, "a", 7);
        assert!(!db.add_to_checksum(&mut partial) && !db.add_to_index(&mut index));
        db.prepare_checksum(partial);
        db.prepare_index(&mut index);
        assert_eq!(db.prepared_checksum(), None);
        assert!(db.all_entries().all(|entry| entry.digest.is_none()));
        let mut other = MemDb::new();
        other.tree_generation += 1;
        let mut partial = PartialChecksum::default();
        while other.add_to_checksum(&mut partial) {}
        let mut replaced = MemDb::new();
        replaced.prepare_checksum(partial);
        assert_eq!(replaced.prepared_checksum(), None, "another tree of the same version");
    }

    #[test]
    fn an_index_in_pieces_is_the_index() {
        let (mut db, mut other) = (large(), large());
        let index = other.index();
        let mut partial = PartialIndex::default();
        while db.add_to_index(&mut partial) {
            db.prepare_index(&mut partial);
        }
        db.prepare_index(&mut partial);
        assert!(db.all_entries().all(|entry| entry.digest.is_some()));
        assert_eq!(db.verify(), Ok(()));
        assert_eq!(db.index(), index);
        let mut again = PartialIndex::default();
        assert!(!db.add_to_index(&mut again) && again.digests.is_empty());
    }
}
