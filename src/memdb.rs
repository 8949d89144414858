//! The tree in memory: entries, the rules by which they change, the guest list, the counters of
//! watched paths, the ages of locks, and the digests by which nodes compare databases.
//!
//! It never does I/O: no file, clock, lock or thread. Time and node ids come in as values; what has
//! to reach the disk leaves as a [`Batch`]. The contract is that of the stock daemon's database,
//! except that every check is made before anything is changed.

mod apply;
mod audit;
mod batch;
mod change;
mod entry;
mod error;
mod fingerprint;
mod guests;
mod index;
mod install;
mod invalidation;
mod load;
mod locks;
mod name;
mod path;
mod piecewise;
mod rules;
mod verify;
mod versions;

pub use audit::{Audit, Finding};
pub use batch::{Batch, Row, VERSION_ROW_NAME};
pub use change::{Applied, Change, EntryChange, Limits, Stamp, WriteAt};
pub use entry::{Children, Entry, KIND_DIRECTORY, KIND_FILE, Node};
pub use error::ChangeError;
pub use fingerprint::Fingerprint;
pub use guests::{Guest, GuestKind, Guests};
pub use index::{Index, IndexEntry, IndexError};
pub use install::InstallError;
pub use invalidation::{ByteRange, Invalidation, Removal};
pub use load::LoadError;
pub use name::Name;
pub use path::{GuestConfig, TreePath, is_openvz_script};
pub use piecewise::{PartialChecksum, PartialIndex};
pub use rules::{EntryError, MAX_FILE_SIZE, NAME_BYTES_MAX, NUMBER_MAX, SOUND_VERSION_MAX, check_entry};
pub use versions::PathVersions;

use batch::Dirty;
use locks::LockAges;
use piecewise::Prepared;
use std::collections::BTreeMap;
use std::time::Duration;

/// Number of an entry. Never reused; rises with the database version.
pub type Inode = u64;

/// The inode of the root directory. Its row in the database is the version row.
pub const ROOT: Inode = 0;
/// The block size that `statfs` shows, in bytes.
pub const BLOCK_SIZE: u64 = 4096;
/// How many blocks all files together may fill.
pub const BLOCKS: u64 = 32_768;
/// How many entries there may be, the root among them.
pub const FILES: u64 = 262_144;

/// The whole database in memory.
#[derive(Debug, Clone)]
pub struct MemDb {
    /// Its version, writer and mtime are those of the last change of the database.
    root: Entry,
    /// Every other entry. Invariant: an entry is listed under its name in the directory `parent`,
    /// and nowhere else.
    entries: BTreeMap<Inode, Entry>,
    /// Sum of the sizes of all files.
    bytes: u64,
    guests: Guests,
    versions: PathVersions,
    locks: LockAges,
    dirty: Dirty,
    /// Number of resyncs that installed a leader's tree.
    tree_generation: u64,
    prepared: Option<Prepared>,
}

/// What `statfs` shows as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Sum of all file sizes, in blocks of [`BLOCK_SIZE`], rounded up.
    pub blocks: u64,
    /// Number of entries; the root counts as one.
    pub entries: u64,
}

impl MemDb {
    /// A fresh database: only a root, version 1, to be written with the first batch.
    pub fn new() -> Self {
        Self {
            root: Entry::root(1, 0, 0),
            entries: BTreeMap::new(),
            bytes: 0,
            guests: Guests::default(),
            versions: PathVersions::default(),
            locks: LockAges::default(),
            dirty: Dirty::fresh(),
            tree_generation: 0,
            prepared: None,
        }
    }

    /// The number of the last change.
    pub fn version(&self) -> u64 {
        self.root.version
    }

    /// The root directory. Its attributes towards the kernel are constant, whatever its fields say.
    pub fn root(&self) -> &Entry {
        &self.root
    }

    /// The entry with this number.
    pub fn get(&self, inode: Inode) -> Option<&Entry> {
        if inode == ROOT { Some(&self.root) } else { self.entries.get(&inode) }
    }

    /// The entry called `name` in the directory `parent`; `None` too when that is no directory.
    pub fn lookup(&self, parent: Inode, name: &[u8]) -> Option<&Entry> {
        self.child(self.get(parent)?, name)
    }

    /// The entry at a path. As in stock, leading, trailing and doubled slashes do not matter, and
    /// the path `.` is the root (but `.` and `..` mean nothing within a longer one).
    pub fn resolve(&self, path: &[u8]) -> Option<&Entry> {
        if path == b"." { Some(&self.root) } else { self.walk(path) }
    }

    /// The entry at the end of these names; `.` is a name like any other, and never there.
    fn walk(&self, path: &[u8]) -> Option<&Entry> {
        path.split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(&self.root, |dir, name| self.child(dir, name))
    }

    /// Where an entry is.
    pub fn path_of(&self, inode: Inode) -> Option<TreePath> {
        let mut names = Vec::new();
        let mut entry = self.get(inode)?;
        while entry.inode != ROOT {
            names.push(&entry.name);
            entry = self.get(entry.parent)?;
        }
        Some(names.into_iter().rev().collect())
    }

    /// Every entry, the root first, by rising inode.
    pub fn all_entries(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.root).chain(self.entries.values())
    }

    /// Every entry as the row that stores it, by rising inode; the first is the version row.
    pub fn snapshot_rows(&self) -> impl Iterator<Item = Row> {
        self.all_entries().map(Row::of)
    }

    /// How full the database is. Kept up with each change.
    pub fn usage(&self) -> Usage {
        Usage { blocks: self.bytes.div_ceil(BLOCK_SIZE), entries: self.entries.len() as u64 + 1 }
    }

    /// The guests of the cluster, as their configuration files say.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The counters of the watched paths.
    pub fn versions(&self) -> &PathVersions {
        &self.versions
    }

    /// Goes up with each change that may alter the guest list or the contents of a guest's
    /// configuration: as long as it stays, what was derived from those is still true.
    pub fn guest_changes(&self) -> u64 {
        self.guests.version()
    }

    /// The checksum of one entry, by which a lock is told from a later one of the same name.
    pub fn entry_checksum(&self, inode: Inode) -> Option<[u8; 32]> {
        self.get(inode).map(index::entry_checksum)
    }

    /// The digests of all entries, to compare this database with another node's.
    pub fn index(&mut self) -> Index {
        index::index_of(self)
    }

    /// The checksum of the whole database, by which nodes verify each other.
    pub fn checksum(&self) -> [u8; 32] {
        self.prepared_checksum().unwrap_or_else(|| index::database_checksum(self))
    }

    /// Whether the lock directory at `path` has had this checksum for over 120 seconds, as far as
    /// this node saw. The first question about a lock, and one with another checksum than the last
    /// time, starts its age.
    pub fn lock_expired(&mut self, path: &TreePath, checksum: &[u8; 32], now: Duration) -> bool {
        if !path.is_below_lock_dir() {
            return false;
        }
        match self.resolve(path.as_bytes()) {
            Some(entry) if entry.is_dir() && index::entry_checksum(entry) == *checksum => {
                let inode = entry.inode;
                self.locks.expired(inode, checksum, now)
            }
            _ => false,
        }
    }

    fn child(&self, dir: &Entry, name: &[u8]) -> Option<&Entry> {
        self.entries.get(&dir.child_inode(name)?)
    }
}

impl Default for MemDb {
    fn default() -> Self {
        Self::new()
    }
}
