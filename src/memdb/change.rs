//! What can be asked of the tree and what comes of it: plain values, no rules (those are in
//! `apply.rs`) and no wire form.

use super::{Inode, Invalidation, TreePath};
use std::sync::Arc;

/// One change of the tree. Every variant but `Unlock` and `Entry` is also a message of stock's database group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes an empty file.
    Create { path: TreePath },
    /// Makes an empty directory; below `priv/lock` this takes a lock.
    Mkdir { path: TreePath },
    /// Puts `data` into a file at `at`, zero-filling a gap before it.
    Write { path: TreePath, at: WriteAt, data: Vec<u8> },
    /// Cuts or zero-fills a file to `size` bytes.
    Truncate { path: TreePath, size: u64 },
    /// Removes a file or an empty directory.
    Delete { path: TreePath },
    /// Moves a file or an empty directory, replacing a file or an empty directory at `to`.
    Rename { from: TreePath, to: TreePath },
    /// Sets a modification time; on a lock this renews it.
    SetMtime { path: TreePath, mtime: u32 },
    /// Removes a lock directory if it still has this checksum.
    Unlock { path: TreePath, checksum: [u8; 32] },
    /// Changes the entry with this inode, and never another one that took its path. With `place`, the entry must
    /// still be at this path; without, it may have moved.
    Entry { inode: Inode, place: Option<TreePath>, change: EntryChange },
}

/// Change of one existing entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryChange {
    /// As [`Change::Write`].
    Write { at: WriteAt, data: Arc<Vec<u8>> },
    /// As [`Change::Truncate`].
    Truncate { size: u64 },
    /// As [`Change::SetMtime`].
    SetMtime { mtime: u32 },
}

impl EntryChange {
    /// Converts to the change by path, which applies to any entry at `path`.
    pub fn at_path(self, path: TreePath) -> Change {
        match self {
            Self::Write { at, data } => Change::Write { path, at, data: Arc::unwrap_or_clone(data) },
            Self::Truncate { size } => Change::Truncate { path, size },
            Self::SetMtime { mtime } => Change::SetMtime { path, mtime },
        }
    }
}

/// Where a write lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAt {
    /// At this byte offset.
    Offset(u64),
    /// At the end the file has when the write is applied.
    End,
}

/// Who made a change and when: what the entry's `writer` and `mtime` become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Node id of the sender; 0 in local mode.
    pub writer: u32,
    /// Seconds since 1970.
    pub time: u32,
}

/// Whether the size of the whole database may refuse a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// A local caller asks: ENOSPC past the limit.
    Enforced,
    /// The cluster agreed on it: it must be applied.
    Agreed,
}

/// What an applied change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The entry that was made, written, moved or removed, or whose time was set.
    pub inode: Inode,
    /// Byte offset at which a write landed; 0 for all else.
    pub offset: u64,
    /// Everything that a cache above may hold and that is no longer true.
    pub invalidations: Vec<Invalidation>,
}

impl Applied {
    /// The outcome of a request that changed nothing.
    pub fn nothing(inode: Inode) -> Self {
        Self { inode, offset: 0, invalidations: Vec::new() }
    }
}
