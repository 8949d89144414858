//! Why a change is refused. Each error says which path; the errno of each is in [`crate::errno`].

use super::{GuestKind, Inode, MAX_FILE_SIZE, NAME_BYTES_MAX, TreePath};
use std::sync::Arc;

/// A change that was refused. The tree is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The entry, or the directory it should be in, is not there.
    #[error("{path}: no such file or directory")]
    NotFound { path: TreePath },
    /// The entry with this inode was removed, or moved while the change travelled.
    #[error("inode {inode}: was removed, replaced or moved")]
    Replaced { inode: Inode },
    /// What should be the parent directory is a file.
    #[error("{path}: is a file where a directory is needed")]
    NotDirectory { path: TreePath },
    /// A write to a directory.
    #[error("{path}: is a directory and cannot be written")]
    IsDirectory { path: TreePath },
    /// No entry can be called this.
    #[error("{path}: this name cannot be used")]
    BadName { path: TreePath },
    /// The name exceeds the longest possible name.
    #[error("a name of {len} bytes is longer than any can be ({NAME_BYTES_MAX})")]
    NameTooLong { len: usize },
    /// The name is taken.
    #[error("{path}: exists already")]
    Exists { path: TreePath },
    /// The guest's number is taken by a guest elsewhere.
    #[error("{path}: guest {vmid} exists already as {} on node {node}", kind.as_str())]
    GuestExists { path: TreePath, vmid: u32, kind: GuestKind, node: Arc<str> },
    /// The directory is not empty.
    #[error("{path}: directory is not empty")]
    NotEmpty { path: TreePath },
    /// The root can be neither removed, nor moved, nor replaced.
    #[error("the root directory cannot be removed, moved or replaced")]
    Root,
    /// Locks are not moved: their age hangs on the path.
    #[error("{path}: is a lock and cannot be moved")]
    LockMoved { path: TreePath },
    /// A renewal with an older time, or a request for expiry of a lock that is still held.
    #[error("{path}: is a lock that is still held")]
    LockHeld { path: TreePath },
    /// A renewal by another node than the holder.
    #[error("{path}: is a lock of node {holder} and can only be renewed by it")]
    LockForeign { path: TreePath, holder: u32 },
    /// The lock that was to be removed is gone, or is another by now.
    #[error("{path}: is not the lock that expired")]
    LockChanged { path: TreePath },
    /// A directory would be inside itself.
    #[error("{from}: cannot be moved into itself, to {to}")]
    IntoItself { from: TreePath, to: TreePath },
    /// The file would be longer than a file can be.
    #[error("{path}: {end} bytes are more than a file can hold ({MAX_FILE_SIZE})")]
    TooLarge { path: TreePath, end: u64 },
    /// All files together would fill more than the database can hold.
    #[error("{path}: the database is full (128 MiB); remove files that are not needed")]
    NoSpace { path: TreePath },
    /// There are as many entries as there can be.
    #[error("{path}: the database holds the most entries it can (262144); remove some")]
    NoInodes { path: TreePath },
    /// The database version is the highest possible one. Only a damaged database reaches it.
    #[error(
        "database version {version} is the last that there can be; stop the daemon and run 'pmxcfs-db repair --apply' \
         on the database"
    )]
    LastVersion { version: u64 },
}
