//! The one table from typed errors to errnos. An errno is protocol: Perl and C clients act on it.
//!
//! Each `match` is exhaustive, so a new error does not compile until its errno is chosen here.

/// A typed error that has an errno outside.
pub trait ToErrno {
    /// The positive errno a caller of the file system or of the IPC service sees.
    fn to_errno(&self) -> i32;
}
