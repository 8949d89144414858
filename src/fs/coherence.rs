//! Coherence of the kernel's caches with the tree: decides which caches the kernel may use, and which
//! invalidations follow a change.
//!
//! **Invariant.** When a change has been applied, every page, attribute and name in the kernel is either from
//! the tree at that moment or later, or its invalidation is queued before any reply that reports the change.
//! A local change of contents is replied to after its own invalidation was sent, so its caller reads its own
//! write.
//!
//! The rules follow from these facts about the kernel, 6.1 and later:
//!
//! | fact | rule |
//! | --- | --- |
//! | A page is locked from the READ request to its reply, and an invalidation waits for that lock. | An invalidation after the change was applied leaves no older page of its range, whenever its READ was replied to. The range is that of the changed bytes; it begins in the old last page if the file grew. |
//! | A cached write changes its page before the WRITE request is sent. A complete page is unlocked meanwhile: it can be dropped and filled with the state before the write. An incomplete page stays locked until the reply, and ends the request. | [`CacheRules::writers_bypass`]: in a group, descriptors opened for writing bypass the page cache. Their bytes are sent in one request, and no page is locked or newer than the tree. |
//! | A reply with a size other than the kernel's truncates and zeroes pages without the inode's lock. | [`CacheRules::writers_bypass`]: no page contains bytes that are not sent yet. |
//! | After an append the kernel extends its size from the expected offset. It drops a reply to GETATTR if anything of the file was invalidated meanwhile, and then reads up to the old size. | Before the reply to an append that landed after the expected offset, the last byte is stored in the kernel, which sets the size ([`Tail`]). |
//! | The kernel adopts a larger size before it drops the old last page, whose rest is zero. | A reply with attributes of a file waits until the file's pages were invalidated ([`pending_pages`](super::pending_pages)). |
//! | Attributes of GETATTR, LOOKUP and READDIRPLUS are dropped when an invalidation came after their request; attributes of SETATTR are not. | [`CacheRules::setattr_expires`]: in a group, attributes in a reply to SETATTR expire immediately. |
//! | A write that bypasses the page cache leaves older pages of other descriptors there, and an append may land at another offset than the kernel expects. | [`CacheRules::pages_before_reply`]: the changed pages are invalidated before the reply. |
//! | Names, and attributes of inodes new to the kernel, are changed under the lock of their directory. Until Linux 6.18 an invalidation of a name takes this lock, too. | [`LateReplies::Locked`](super::LateReplies): names are invalidated under that lock, and attributes once more after it; see `fuse/invalidate.rs`. |
//! | Since Linux 6.19 an invalidation takes that lock only for a name that the kernel knows. Since 6.16 a name has the epoch from before its request. | [`LateReplies::Epoch`](super::LateReplies): if the kernel does not know a name or inode that was replied recently, a new epoch expires all names; see [`late_replies`](super::late_replies). |
//! | The kernel fills one cached listing from several handles, and returns names from before a handle was opened. | Listings are not cached; see `fs/listing.rs`. |
//!
//! On a node by itself all changes come through the kernel, which orders them itself. So it caches writes,
//! too.

use super::{Fs, ROOT_INO, entry_target, ino};
use crate::dcdb::wire::CHANGE_HEAD;
use crate::dfsm::wire::{NORMAL_BYTES_MAX, NORMAL_LEN};
use crate::memdb::{ByteRange, Inode, Invalidation, ROOT};
use std::collections::BTreeMap;

/// Caching of the contents of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// In the page cache, which is kept from one open to the next.
    Pages,
    /// Uncached: each read and write of this descriptor is a request.
    Bypass,
}

/// Longest write in a group, in bytes: 254 pages. They fit into one message beside its heads and the longest path that
/// a system call takes.
const GROUP_WRITE_BYTES_MAX: u32 =
    ((NORMAL_BYTES_MAX - NORMAL_LEN - CHANGE_HEAD - PATH_BYTES_MAX) / PAGE_BYTES * PAGE_BYTES) as u32;
/// Linux's `PATH_MAX`.
const PATH_BYTES_MAX: usize = 4096;
const PAGE_BYTES: usize = 4096;

/// The rules for the kernel's caches of one mount. They depend on the writers of the tree: this mount alone, or all
/// members of a process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheRules {
    /// Descriptors opened for writing bypass the page cache.
    pub writers_bypass: bool,
    /// The reply to a change of contents waits until the pages of the file are invalidated.
    pub pages_before_reply: bool,
    /// The kernel may not cache the attributes in a reply to SETATTR.
    pub setattr_expires: bool,
}

/// A file whose pages must be invalidated before a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StalePages {
    /// The file, by the kernel's number.
    pub ino: u64,
    /// Last byte of an append that landed after the offset that the kernel expected.
    pub tail: Option<Tail>,
}

/// The last byte of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Its offset in the file.
    pub offset: u64,
    pub byte: u8,
}

impl StalePages {
    pub(super) fn of(ino: u64) -> Self {
        Self { ino, tail: None }
    }
}

impl CacheRules {
    /// For a tree that only this mount changes: the kernel knows of all changes.
    pub const THIS_MOUNT: Self =
        Self { writers_bypass: false, pages_before_reply: false, setattr_expires: false };

    /// For a tree that other members of a group change, too.
    pub const GROUP: Self = Self { writers_bypass: true, pages_before_reply: true, setattr_expires: true };

    /// Longest write in one request, in bytes. The kernel splits a longer one, and one with more buffers than pages of
    /// this length: other members may append between the parts. In a group, a write must fit into one message of
    /// corosync beside heads and path.
    pub fn write_bytes_max(self) -> u32 {
        if self == Self::THIS_MOUNT { 1 << 20 } else { GROUP_WRITE_BYTES_MAX }
    }

    /// Caching of a file of the database that is opened.
    pub(super) fn caching(self, writing: bool) -> Caching {
        if writing && self.writers_bypass { Caching::Bypass } else { Caching::Pages }
    }

    /// Invalidations after a write of this mount that need not precede its reply. `expected` is the offset
    /// that the kernel sent, `landed` the offset of the bytes in the tree.
    pub(super) fn after_write(self, inode: Inode, expected: u64, landed: u64) -> Vec<Invalidation> {
        // The kernel put the bytes into its page cache at the offset that it expected.
        let misplaced = !self.writers_bypass && expected != landed;
        let content = || Invalidation::Content { inode, range: ByteRange::ALL };
        misplaced.then(content).into_iter().collect()
    }

    /// The last byte of a write of `length` bytes that landed after the offset that the kernel expected.
    pub(super) fn tail(self, expected: u64, landed: u64, length: usize, last: Option<u8>) -> Option<Tail> {
        let byte = last.filter(|_| self.pages_before_reply && landed > expected)?;
        Some(Tail { offset: landed + length as u64 - 1, byte })
    }
}

impl Fs {
    /// Returns true if the kernel may have cached a part of the tree that is invalid now. Removals always count: open
    /// descriptors may wait for them in [`Fs::settle`].
    pub fn may_be_cached(&self, invalidation: &Invalidation) -> bool {
        match invalidation {
            Invalidation::Entry { parent, name } => self.known.has_name(ino::of_entry(*parent), name),
            Invalidation::Content { inode, .. } | Invalidation::Attributes { inode } => {
                self.known.has_node(ino::of_entry(*inode))
            }
            Invalidation::Removed { .. } => true,
        }
    }

    /// Notes the removal of an inode. Returns the directory of a new entry that reuses its number, if there is one:
    /// the kernel gets it as another incarnation.
    pub fn note_removed(&self, inode: Inode) -> Option<Inode> {
        let directory = self.directory_of(inode)?;
        self.incarnations.next(ino::of_entry(inode));
        Some(directory)
    }

    /// Directory of an entry; `None` if it is not in the tree.
    pub fn directory_of(&self, inode: Inode) -> Option<Inode> {
        Some(self.cfs.engine.read().get(inode)?.parent)
    }

    /// Must be called after the kernel was notified of a removal.
    pub fn settle(&self, ino: u64) {
        if let Some(inode) = entry_target(ino) {
            self.handles.settle(inode);
        }
    }

    /// All nodes whose modes depend on quorum, by their directory.
    pub fn nodes_by_directory(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut nodes = BTreeMap::<u64, Vec<u64>>::new();
        let generated = (0..self.plugs.names().count()).map(ino::of_generated);
        nodes.entry(ROOT_INO).or_default().extend(generated);
        for entry in self.cfs.engine.read().all_entries().filter(|entry| entry.inode != ROOT) {
            let directory = nodes.entry(ino::of_entry(entry.parent)).or_default();
            directory.push(ino::of_entry(entry.inode));
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::fixture::Fixture;
    use crate::memdb::Name;

    fn content(inode: Inode) -> Invalidation {
        Invalidation::Content { inode, range: ByteRange::ALL }
    }

    fn entry(parent: Inode, name: &[u8]) -> Invalidation {
        let name = Name::new(name).expect("a name");
        Invalidation::Entry { parent, name }
    }

    #[test]
    fn parts_without_a_reply_are_not_cached() {
        let tree = Fixture::new();
        let (dir, file) = (tree.make("d/"), tree.make("d/f"));
        let attributes = Invalidation::Attributes { inode: file };
        let parts = [entry(dir, b"f"), entry(dir, b"new"), content(file), attributes];
        let cached = || parts.each_ref().map(|part| tree.fs.may_be_cached(part));
        assert_eq!(cached(), [false; 4]);
        // The kernel caches the absence of a name, too.
        tree.fs.lookup(dir, b"new").expect_err("not there");
        assert_eq!(cached(), [false, true, false, false]);
        let handle = tree.fs.opendir(dir).expect("there");
        tree.fs.readdir(dir, handle, 0, |_| false).expect("listed");
        assert_eq!(cached(), [true; 4]);
        assert!(!tree.fs.may_be_cached(&entry(dir, b"other")));
    }

    #[test]
    fn reused_number_is_another_incarnation() {
        let tree = Fixture::new();
        let (dir, file, other) = (tree.make("d/"), tree.make("d/f"), tree.make("g"));
        let incarnation = |ino| tree.fs.getattr(ino).expect("there").incarnation;
        assert_eq!((incarnation(file), incarnation(other)), (0, 0));
        assert_eq!((tree.fs.note_removed(file), tree.fs.note_removed(999)), (Some(dir), None));
        assert_eq!((incarnation(file), incarnation(other)), (1, 0));
    }

    #[test]
    fn every_node_is_listed_once() {
        let tree = Fixture::new();
        let (dir, file) = (tree.make("d/"), tree.make("d/f"));
        let nodes = tree.fs.nodes_by_directory();
        assert_eq!(nodes.get(&dir), Some(&vec![file]));
        let root = nodes.get(&ROOT_INO).expect("not empty");
        assert!(root.contains(&dir) && root.contains(&ino::of_generated(9)) && root.len() == 11);
    }

    #[test]
    fn write_in_a_group_fits_into_one_message() {
        assert_eq!(CacheRules::GROUP.write_bytes_max(), 254 * 4096);
    }
}
