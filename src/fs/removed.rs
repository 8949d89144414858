//! Changes of open files that left the tree. They go on as on any file system, in memory only, until the last
//! close; nothing of them reaches the database.
//!
//! This holds for files that this kernel removed, and for files that were replaced by a rename on any node: stock
//! changes the new file then, which the descriptor does not mean. A change of a file that another node deleted
//! fails with ENOENT, as with stock.

use super::change::Write;
use super::handles::Removed;
use super::{Fs, FsError};
use crate::clock::UnixTime;
use crate::memdb::{Inode, MAX_FILE_SIZE};
use std::sync::Arc;

impl Fs {
    /// Writes to a removed file; returns the offset of the bytes.
    pub(super) fn write_removed(&self, inode: Inode, write: &Write) -> Result<u64, FsError> {
        let now = self.now();
        self.change_removed(inode, |removed| {
            let offset = if write.append { removed.content.len() as u64 } else { write.offset };
            let start = place(offset)?;
            let end = place(offset.saturating_add(write.data.len() as u64))?;
            let content = Arc::make_mut(&mut removed.content);
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(&write.data);
            removed.mtime = now;
            Ok(offset)
        })
    }

    /// Cuts or grows a removed file.
    pub(super) fn truncate_removed(&self, inode: Inode, size: u64) -> Result<(), FsError> {
        let now = self.now();
        self.change_removed(inode, |removed| {
            Arc::make_mut(&mut removed.content).resize(place(size)?, 0);
            removed.mtime = now;
            Ok(())
        })
    }

    /// Sets the time of a removed file.
    pub(super) fn touch_removed(&self, inode: Inode, mtime: UnixTime) -> Result<(), FsError> {
        self.change_removed(inode, |removed| {
            removed.mtime = mtime;
            Ok(())
        })
    }

    fn change_removed<T>(
        &self,
        inode: Inode,
        change: impl FnOnce(&mut Removed) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        self.handles.change_removed(inode, change).unwrap_or(Err(FsError::NotFound))
    }
}

/// A place in a file, if it is not behind the end of the longest one.
fn place(offset: u64) -> Result<usize, FsError> {
    match usize::try_from(offset) {
        Ok(place) if offset <= MAX_FILE_SIZE => Ok(place),
        Ok(_) | Err(_) => Err(FsError::TooLarge),
    }
}
