//! What can go wrong with the file, in words for an admin: what was tried, on which file, why it
//! failed, and what to do about it.

use super::rows::type_name;
use rusqlite::ErrorCode;
use rusqlite::types::Type;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A failed action on the database file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unable to {action} database '{}': {fault}", path.display())]
pub struct StoreError {
    /// The database file.
    pub path: PathBuf,
    /// What was tried.
    pub action: Action,
    /// Why it failed.
    pub fault: Fault,
}

impl StoreError {
    pub(super) fn new(path: &Path, action: Action, fault: Fault) -> Self {
        Self { path: path.to_owned(), action, fault }
    }
}

/// What was tried with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Open,
    Read,
    Write,
    Checkpoint,
    Sync,
    Close,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write to",
            Self::Checkpoint => "move the log into",
            Self::Sync => "sync the log of",
            Self::Close => "close",
        })
    }
}

/// Why it failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("another program holds a lock on it; find that program with 'fuser -v' and stop it")]
    Locked,
    #[error("no space left on its file system; free some space there")]
    Full,
    #[error("the file or its file system is read-only; make it writable (see 'dmesg' for the cause)")]
    ReadOnly,
    #[error("the file is damaged ({0}); restore a copy, or see what 'pmxcfs-db check' finds")]
    Corrupt(String),
    #[error("the file is not an SQLite database; move it away or restore a copy")]
    NotADatabase,
    #[error("No such file or directory; check the path")]
    Missing,
    #[error("it is a directory; name the database file in it")]
    IsDirectory,
    #[error("no permission; run this as root, or on a copy of your own")]
    NoPermission,
    #[error("the file is empty; there is nothing in it to read or repair")]
    Empty,
    #[error("there is no table 'tree' in it; this is no database of pmxcfs")]
    NoTable,
    #[error(
        "its table has the columns ({columns}), which this program does not know; use the program that made it"
    )]
    Schema {
        /// The columns it has.
        columns: String,
    },
    #[error("a transaction of another program was cut off ('{}' is beside it); open the file with sqlite3 once to end it", journal.display())]
    HotJournal {
        /// What SQLite keeps the transaction in.
        journal: PathBuf,
    },
    #[error(
        "a program has it open ('fuser -v' shows it), but its log '{}' was deleted; stop that program first",
        log.display()
    )]
    LogMissing {
        /// Path of the log.
        log: PathBuf,
    },
    #[error("'tree' is a {kind} there, not a table; this is no database of pmxcfs")]
    NotATable {
        /// What it is instead.
        kind: String,
    },
    #[error("its file system allows no write-ahead log (journal mode '{mode}'); use a local one")]
    NoLog {
        /// The journal mode that SQLite chose instead.
        mode: String,
    },
    #[error("{0}; 'pmxcfs-db repair' shows what can be done, or restore a copy of the file")]
    Row(#[from] RowFault),
    #[error("the log beside it was removed; copy the tree, then stop the daemon and restore the copy")]
    LogRemoved,
    #[error("{0}; check the disk (see 'dmesg')")]
    Io(String),
    #[error("{0}")]
    Other(String),
}

/// A row that cannot be an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RowFault {
    #[error("a row has {0} as its inode, which is no inode number")]
    Inode(String),
    #[error("inode {inode}: {column} is {value}, which is out of range")]
    OutOfRange { inode: u64, column: &'static str, value: i64 },
    #[error("inode {inode}: {column} is {found}, not {wanted}")]
    WrongType { inode: u64, column: &'static str, wanted: &'static str, found: &'static str },
}

impl RowFault {
    pub(super) fn wrong_type(inode: u64, column: &'static str, wanted: &'static str, found: Type) -> Self {
        Self::WrongType { inode, column, wanted, found: type_name(found) }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        let rusqlite::Error::SqliteFailure(cause, _) = error else {
            return Self::Other(text);
        };
        match cause.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                Self::Locked
            }
            ErrorCode::DiskFull => Self::Full,
            // The log's index could not be extended.
            ErrorCode::SystemIoFailure if cause.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
                Self::Full
            }
            ErrorCode::SystemIoFailure => Self::Io(text),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::ReadOnly,
            ErrorCode::DatabaseCorrupt => Self::Corrupt(text),
            ErrorCode::NotADatabase => Self::NotADatabase,
            _ => Self::Other(text),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::NoPermission,
            io::ErrorKind::IsADirectory => Self::IsDirectory,
            _ => Self::Other(error.to_string()),
        }
    }
}
