//! Coherence of the kernel's caches with the tree: the one place that decides what the kernel may cache, and what
//! must be invalidated after a change.
//!
//! **Invariant.** When a change has been applied, every page, attribute and name that the kernel holds is
//! either of the tree at that moment or later, or an invalidation of it is queued before any reply that reports the
//! change is sent. The reply to a local change of contents is sent after its own invalidation was carried out, so
//! its caller reads what it wrote.
//!
//! These facts about the kernel, 6.1 and later, are the ground for the rules:
//!
//! | fact | rule |
//! | --- | --- |
//! | A page is locked from the READ request to its reply, and an invalidation waits for that lock. | Invalidating after the change was applied leaves no older page, whenever its READ was answered. |
//! | A cached write changes its page before the WRITE request travels. A page that was complete is unlocked meanwhile: it can be dropped and filled with the state before the write. A page that was not is locked until the reply, and ends the request. | [`CacheRules::writers_bypass`]: in a group, descriptors opened for writing bypass the page cache. Their bytes travel in one request, and no page is locked or newer than the tree. |
//! | A reply with another size than the kernel's truncates and zeroes pages outside of the inode's lock. | The same rule: no page holds bytes that are still to be sent. |
//! | The kernel extends its own size by an append at the place where it expected it. It drops the answer to GETATTR if anything else of the file was invalidated meanwhile, and reads to the size of before then. | Before the reply to an append that landed behind that place, its last byte is stored in the kernel, which sets the size ([`Tail`]). |
//! | The kernel takes a larger size over before it drops the last page of before, whose rest is zero. | A reply with attributes of a file waits until the file's pages were invalidated ([`pending_pages`](super::pending_pages)). |
//! | Attributes of GETATTR, LOOKUP and READDIRPLUS are dropped when an invalidation came after their request; attributes of SETATTR are not. | [`CacheRules::setattr_expires`]: in a group, attributes in a reply to SETATTR expire immediately. |
//! | A write that bypasses the page cache leaves older pages of other descriptors there, and an append lands elsewhere than the kernel believes. | [`CacheRules::pages_before_reply`]: all pages of the file are invalidated before the reply. |
//! | Names, and attributes of inodes that are new to the kernel, are changed under the lock of their directory, which the invalidation of a name takes, too. | Names are invalidated under that lock, and attributes once more after it; see `fuse/invalidate.rs`. |
//! | The kernel fills one cached listing from several handles, and gives a handle names of before it was opened. | Listings are not cached; see `fs/listing.rs`. |
//!
//! On a node by itself the kernel makes all changes and sees them in its own order, so it caches writes as well.

use crate::memdb::{ByteRange, Inode, Invalidation, Stale};

/// How the kernel treats the contents of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// In the page cache, kept from one open to the next.
    Pages,
    /// Not at all: reads and writes of this descriptor are requests.
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
    /// The kernel may not rely on the attributes in a reply to SETATTR.
    pub setattr_expires: bool,
}

/// A file whose pages must be invalidated before a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StalePages {
    /// The file, by the kernel's number.
    pub ino: u64,
    /// Last byte of an append that landed behind the place where the kernel expected it.
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
    /// This mount makes all changes, so the kernel knows of all of them.
    pub const THIS_MOUNT: Self =
        Self { writers_bypass: false, pages_before_reply: false, setattr_expires: false };

    /// Other members of a group make changes, too.
    pub const GROUP: Self = Self { writers_bypass: true, pages_before_reply: true, setattr_expires: true };

    /// How the kernel treats a file of the database that is opened.
    pub(super) fn caching(self, writing: bool) -> Caching {
        if writing && self.writers_bypass { Caching::Bypass } else { Caching::Pages }
    }

    /// What must be invalidated after a write of this mount, whose reply need not wait for it. `expected` is the
    /// offset that the kernel sent, `landed` the one at which the bytes are.
    pub(super) fn after_write(self, inode: Inode, expected: u64, landed: u64) -> Vec<Invalidation> {
        // The kernel has the bytes in its page cache where it believed the end to be.
        let misplaced = !self.writers_bypass && expected != landed;
        let content = || Invalidation::of_reply(Stale::Content { inode, range: ByteRange::ALL });
        misplaced.then(content).into_iter().collect()
    }

    /// The last byte of a write of `length` bytes that landed behind the place where the kernel expected it.
    pub(super) fn tail(self, expected: u64, landed: u64, length: usize, last: Option<u8>) -> Option<Tail> {
        let byte = last.filter(|_| self.pages_before_reply && landed > expected)?;
        Some(Tail { offset: landed + length as u64 - 1, byte })
    }
}
