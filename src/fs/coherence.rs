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
//! | A page is locked from the READ request to its reply, and an invalidation waits for that lock. | An invalidation after the change was applied leaves no older page, whenever its READ was replied to. |
//! | A cached write changes its page before the WRITE request is sent. A complete page is unlocked meanwhile: it can be dropped and filled with the state before the write. An incomplete page stays locked until the reply, and ends the request. | [`CacheRules::writers_bypass`]: in a group, descriptors opened for writing bypass the page cache. Their bytes are sent in one request, and no page is locked or newer than the tree. |
//! | A reply with a size other than the kernel's truncates and zeroes pages without the inode's lock. | [`CacheRules::writers_bypass`]: no page contains bytes that are not sent yet. |
//! | After an append the kernel extends its size from the expected offset. It drops a reply to GETATTR if anything of the file was invalidated meanwhile, and then reads up to the old size. | Before the reply to an append that landed after the expected offset, the last byte is stored in the kernel, which sets the size ([`Tail`]). |
//! | The kernel adopts a larger size before it drops the old last page, whose rest is zero. | A reply with attributes of a file waits until the file's pages were invalidated ([`pending_pages`](super::pending_pages)). |
//! | Attributes of GETATTR, LOOKUP and READDIRPLUS are dropped when an invalidation came after their request; attributes of SETATTR are not. | [`CacheRules::setattr_expires`]: in a group, attributes in a reply to SETATTR expire immediately. |
//! | A write that bypasses the page cache leaves older pages of other descriptors there, and an append may land at another offset than the kernel expects. | [`CacheRules::pages_before_reply`]: all pages of the file are invalidated before the reply. |
//! | Names, and attributes of inodes new to the kernel, are changed under the lock of their directory. Until Linux 6.18 an invalidation of a name takes this lock, too. | [`LateReplies::Locked`](super::LateReplies): names are invalidated under that lock, and attributes once more after it; see `fuse/invalidate.rs`. |
//! | Since Linux 6.19 an invalidation takes that lock only for a name that the kernel knows. Since 6.16 a name has the epoch from before its request. | [`LateReplies::Epoch`](super::LateReplies): if the kernel does not know a name or inode that was replied recently, a new epoch expires all names; see [`late_replies`](super::late_replies). |
//! | The kernel fills one cached listing from several handles, and returns names from before a handle was opened. | Listings are not cached; see `fs/listing.rs`. |
//!
//! On a node by itself all changes come through the kernel, which orders them itself. So it caches writes,
//! too.

use crate::memdb::{ByteRange, Inode, Invalidation, Stale};

/// Caching of the contents of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// In the page cache, which is kept from one open to the next.
    Pages,
    /// Uncached: each read and write of this descriptor is a request.
    Bypass,
}

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

    /// Longest write in one request, in bytes. The kernel splits a longer one. In a group, a write must fit into
    /// one message of corosync beside heads and path. Both values divide the largest size of a file: a write
    /// that ends beyond it then lands in part, up to this size, as with stock.
    pub fn write_bytes_max(self) -> u32 {
        if self == Self::THIS_MOUNT { 1 << 20 } else { 1 << 19 }
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
        let content = || Invalidation::of_reply(Stale::Content { inode, range: ByteRange::ALL });
        misplaced.then(content).into_iter().collect()
    }

    /// The last byte of a write of `length` bytes that landed after the offset that the kernel expected.
    pub(super) fn tail(self, expected: u64, landed: u64, length: usize, last: Option<u8>) -> Option<Tail> {
        let byte = last.filter(|_| self.pages_before_reply && landed > expected)?;
        Some(Tail { offset: landed + length as u64 - 1, byte })
    }
}
