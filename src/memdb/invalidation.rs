//! Invalidations: parts of the tree that caches above it must drop after a change. The same type is used from the
//! tree to the kernel. It is a plain value and knows nothing of the caches.

use super::{Inode, Name};
use std::sync::Arc;

/// A part of the tree that changed: caches above the tree must drop their copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// In directory `parent`, `name` appeared, vanished, or now means another inode. So did the listing.
    Entry { parent: Inode, name: Name },
    /// Bytes of a file, and its attributes.
    Content { inode: Inode, range: ByteRange },
    /// Attributes only (mtime, mode).
    Attributes { inode: Inode },
    /// An inode was removed. Contains its last state for open descriptors; `content` is `None` for a directory.
    /// `private`: its path was private.
    Removed { inode: Inode, content: Option<Arc<Vec<u8>>>, mtime: u32, private: bool, removal: Removal },
}

/// How an inode left the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Its name was removed, or a resync installed a tree without it.
    Deleted,
    /// Another entry was renamed over it: its name has existed all the time.
    Replaced,
}

/// Range of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Byte after the last one; `None` for all bytes from `start` on, beyond the old and new end.
    pub end: Option<u64>,
}

impl ByteRange {
    /// All bytes of a file.
    pub const ALL: Self = Self { start: 0, end: None };
    /// No byte.
    pub const NONE: Self = Self { start: 0, end: Some(0) };

    /// Returns true if there is no byte in the range.
    pub fn is_empty(&self) -> bool {
        self.end.is_some_and(|end| end <= self.start)
    }

    /// The smallest range that contains both.
    pub fn join(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let end = self.end.zip(other.end).map(|(one, two)| one.max(two));
        Self { start: self.start.min(other.start), end }
    }

    /// Whether a byte is in the range.
    pub fn contains(&self, byte: u64) -> bool {
        self.start <= byte && self.end.is_none_or(|end| byte < end)
    }

    /// Bytes that change when `written` bytes are put at `offset` into a file that has `old_size` bytes before and
    /// `new_size` bytes after: including the zeroes of a gap and truncated bytes.
    pub(super) fn of_write(offset: u64, written: u64, old_size: u64, new_size: u64) -> Self {
        if new_size < old_size {
            // A truncate writes nothing. The range after the end may be extended with other bytes later.
            return Self { start: new_size.min(offset), end: None };
        }
        Self { start: offset.min(old_size), end: Some((offset + written).max(new_size.min(offset))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_a_write_covers_gap_and_truncation() {
        let range = |start, end| ByteRange { start, end };
        for (offset, written, old_size, new_size, expected) in [
            (2, 3, 10, 10, range(2, Some(5))),
            (2, 3, 4, 5, range(2, Some(5))),
            (8, 2, 5, 10, range(5, Some(10))),
            (10, 0, 10, 10, range(10, Some(10))),
            (3, 0, 10, 3, range(3, None)),
            (10, 0, 3, 10, range(3, Some(10))),
        ] {
            assert_eq!(ByteRange::of_write(offset, written, old_size, new_size), expected);
        }
        assert!(range(5, Some(7)).contains(5) && !range(5, Some(7)).contains(7));
        assert!(ByteRange::ALL.contains(u64::MAX));
    }

    #[test]
    fn joined_range_contains_both() {
        let range = |start, end| ByteRange { start, end };
        for (one, two, joined) in [
            (range(2, Some(5)), range(8, Some(9)), range(2, Some(9))),
            (range(2, Some(5)), range(3, None), range(2, None)),
            (range(7, Some(7)), range(3, Some(4)), range(3, Some(4))),
            (ByteRange::NONE, range(7, None), range(7, None)),
            (ByteRange::NONE, ByteRange::NONE, ByteRange::NONE),
        ] {
            assert_eq!((one.join(two), two.join(one)), (joined, joined));
        }
        assert!(ByteRange::NONE.is_empty() && !ByteRange::ALL.is_empty());
    }
}
