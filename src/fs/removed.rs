//! Changes of files that this kernel removed while somebody had them open: they go on as on any file
//! system, in memory only, until the last close. Nothing of them reaches the database.

use super::change::Write;
use super::handles::Removed;
use super::{Fs, FsError};
use crate::clock::UnixTime;
use crate::memdb::{Inode, MAX_FILE_SIZE};
use std::sync::Arc;

impl Fs {
    /// Writes to a removed file; gives how many bytes were taken.
    pub(super) fn write_removed(&self, inode: Inode, write: &Write) -> Result<usize, FsError> {
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
            Ok(write.data.len())
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
        self.handles.change_private(inode, change).unwrap_or(Err(FsError::NotFound))
    }
}

/// A place in a file, if it is not behind the end of the longest one.
fn place(offset: u64) -> Result<usize, FsError> {
    match usize::try_from(offset) {
        Ok(place) if offset <= MAX_FILE_SIZE => Ok(place),
        Ok(_) | Err(_) => Err(FsError::TooLarge),
    }
}
