//! What can go wrong with an operation on the tree. Which errno that is stands in `errno.rs`.

use crate::engine::EngineError;

/// Why an operation on the tree failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// There is no such node, or no longer.
    #[error("no such file or directory")]
    NotFound,
    /// What the kernel found under a name has left the tree since: it is to look the name up again.
    #[error("replaced or removed in the meantime")]
    Stale,
    /// The name has more bytes than one can have.
    #[error("the name is too long")]
    NameTooLong,
    /// More bytes than one file can have.
    #[error("the file would be too large")]
    TooLarge,
    /// A directory is needed.
    #[error("not a directory")]
    NotDirectory,
    /// A file is needed.
    #[error("is a directory")]
    IsDirectory,
    /// The node is one that the daemon makes, and has no such operation.
    #[error("not possible with a generated node")]
    Generated,
    /// Written to, or cut, a generated file that can only be read.
    #[error("this generated file can only be read")]
    ReadOnlyText,
    /// Something else than `0` or `1` and a newline for `.debug`.
    #[error("only a line with 0 or 1 can be written here, at the start")]
    DebugValue,
    /// Modes come from the path; chmod may only ask for what is so anyway.
    #[error("the mode of this path cannot be changed")]
    FixedMode,
    /// Owners are the same for all nodes.
    #[error("the owner of this path cannot be changed")]
    FixedOwner,
    /// Without quorum nothing changes.
    #[error("no quorum")]
    NoQuorum,
    /// An operation that this file system does not have.
    #[error("not supported")]
    NotSupported,
    /// What the database said.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
