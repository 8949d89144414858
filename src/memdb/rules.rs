//! Rules for one entry, the same for the disk, a leader, a member of the group, an import and a local caller.
//! An entry that passes can be stored, listed, sent and loaded again. Rules for several entries are in
//! `load.rs`.

use super::{Inode, KIND_DIRECTORY, KIND_FILE, Name, ROOT, Row};

/// Highest inode and version. It is below the highest integer of SQLite, to leave room for the numbers that a
/// repair adds; a sound database never reaches it.
pub const NUMBER_MAX: u64 = 1 << 62;
/// Highest version of a sound database. A database above it has less than 2^32 changes left, and is a finding of an
/// audit.
pub const SOUND_VERSION_MAX: u64 = NUMBER_MAX - (1 << 32);
/// Longest name, in bytes: the longest one that a kernel (from Linux 6.14 on) lets a stock node create.
pub const NAME_BYTES_MAX: usize = 4095;
/// Largest size of a file, in bytes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// Reason why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("inode {inode} is above the highest that an entry can have ({NUMBER_MAX})")]
    InodeRange { inode: Inode },
    #[error("inode {inode} has version {version}, above the highest that there can be ({NUMBER_MAX})")]
    VersionRange { inode: Inode, version: u64 },
    #[error("inode {inode} has unknown type {kind}")]
    UnknownType { inode: Inode, kind: u8 },
    #[error("directory inode {inode} contains data")]
    DirectoryWithData { inode: Inode },
    #[error("inode {inode} has {size} bytes, more than a file can hold ({MAX_FILE_SIZE})")]
    TooLarge { inode: Inode, size: u64 },
    #[error("inode {inode} has no name")]
    NoName { inode: Inode },
    #[error("inode {inode} has a name of {len} bytes, more than a name can have ({NAME_BYTES_MAX})")]
    NameTooLong { inode: Inode, len: usize },
    #[error("inode {inode} has a name that no entry can have: '{}'", name.escape_ascii())]
    BadName { inode: Inode, name: Vec<u8> },
}

impl EntryError {
    /// Inode of the entry.
    pub fn inode(&self) -> Inode {
        match *self {
            Self::InodeRange { inode }
            | Self::VersionRange { inode, .. }
            | Self::UnknownType { inode, .. }
            | Self::DirectoryWithData { inode }
            | Self::TooLarge { inode, .. }
            | Self::NoName { inode }
            | Self::NameTooLong { inode, .. }
            | Self::BadName { inode, .. } => inode,
        }
    }

    /// Identifier of the reason, for programs.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::InodeRange { .. } => "inode-range",
            Self::VersionRange { .. } => "version-range",
            Self::UnknownType { .. } => "unknown-type",
            Self::DirectoryWithData { .. } => "directory-with-data",
            Self::TooLarge { .. } => "too-large",
            Self::NoName { .. } => "no-name",
            Self::NameTooLong { .. } => "name-too-long",
            Self::BadName { .. } => "bad-name",
        }
    }
}

/// First rule that an entry breaks. The name of the root is ignored.
pub fn check_entry(row: &Row) -> Result<(), EntryError> {
    entry_errors(row).next().map_or(Ok(()), Err)
}

/// All rules that an entry breaks.
pub(super) fn entry_errors(row: &Row) -> impl Iterator<Item = EntryError> {
    [range_error(row), type_error(row), name_error(row)].into_iter().flatten()
}

fn range_error(row: &Row) -> Option<EntryError> {
    let Row { inode, version, .. } = *row;
    if inode > NUMBER_MAX {
        return Some(EntryError::InodeRange { inode });
    }
    (version > NUMBER_MAX).then_some(EntryError::VersionRange { inode, version })
}

fn type_error(row: &Row) -> Option<EntryError> {
    let Row { inode, kind, .. } = *row;
    let size = row.data.as_ref().map_or(0, |data| data.len() as u64);
    match kind {
        KIND_FILE if size > MAX_FILE_SIZE => Some(EntryError::TooLarge { inode, size }),
        KIND_FILE => None,
        KIND_DIRECTORY if size > 0 => Some(EntryError::DirectoryWithData { inode }),
        KIND_DIRECTORY => None,
        _ => Some(EntryError::UnknownType { inode, kind }),
    }
}

fn name_error(row: &Row) -> Option<EntryError> {
    let (inode, name) = (row.inode, &*row.name);
    if inode == ROOT || Name::is_valid(name) {
        return None;
    }
    Some(match name.len() {
        0 => EntryError::NoName { inode },
        len if len > NAME_BYTES_MAX => EntryError::NameTooLong { inode, len },
        _ => EntryError::BadName { inode, name: name.to_vec() },
    })
}
