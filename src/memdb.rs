//! The tree in memory: entries, the rules by which they change, the guest list, the counters of
//! watched paths, the ages of locks, and the digests by which nodes compare databases.
//!
//! It never does I/O: no file, clock, lock or thread. Time and node ids come in as values; what has
//! to reach the disk leaves as a [`Batch`]. The contract is that of the stock daemon's database,
//! except that every check is made before anything is changed.

mod change;

pub use change::{Applied, Change, Limits, Stamp, Touched, WriteAt};

/// Number of an entry. Never reused; rises with the database version.
pub type Inode = u64;

/// One path component.
pub type Name = std::sync::Arc<[u8]>;

/// A path within the tree, without a leading slash.
pub type TreePath = Vec<u8>;
