//! What the kernel may know about a node: plain values, computed from an entry, a generated node or
//! a removed file that somebody still has open.

use crate::clock::UnixTime;
use crate::memdb::BLOCK_SIZE;

/// Unit of `st_blocks`, whatever the block size of the file system is.
const STAT_BLOCK_SIZE: u64 = 512;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// How long the kernel may rely on what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is told otherwise.
    UntilInvalidated,
    /// Not at all: it is another one at every look.
    Volatile,
}

/// The attributes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Number by which the kernel knows the node.
    pub ino: u64,
    /// Which entry under this number it is: counts up when a number comes to mean another entry.
    pub incarnation: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub permissions: u16,
    /// `st_nlink`.
    pub links: u32,
    /// Bytes.
    pub size: u64,
    /// atime, mtime and ctime.
    pub mtime: UnixTime,
    /// Group; the user is always root.
    pub gid: u32,
    /// How long this holds.
    pub lifetime: Lifetime,
}

impl Attr {
    /// `st_blocks`: the space in the database's blocks, in units of 512 bytes. Generated nodes take
    /// none.
    pub fn blocks(&self) -> u64 {
        match (self.kind, self.lifetime) {
            (Kind::File, Lifetime::UntilInvalidated) => {
                self.size.div_ceil(BLOCK_SIZE) * (BLOCK_SIZE / STAT_BLOCK_SIZE)
            }
            (Kind::File, Lifetime::Volatile) | (Kind::Directory | Kind::Symlink, _) => 0,
        }
    }
}

/// What statfs says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// Bytes of a block.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u64,
    /// Blocks not taken.
    pub blocks_free: u64,
    /// Most entries there can be.
    pub files: u64,
    /// Entries that can still be made.
    pub files_free: u64,
    /// Longest name, as stock says it.
    pub name_length: u32,
}

#[cfg(test)]
mod tests {
    use super::{Attr, Kind, Lifetime};

    fn sized(kind: Kind, size: u64) -> Attr {
        Attr {
            ino: 5,
            incarnation: 0,
            kind,
            permissions: 0o640,
            links: 1,
            size,
            mtime: 0,
            gid: 33,
            lifetime: Lifetime::UntilInvalidated,
        }
    }

    #[test]
    fn blocks_are_512_bytes_of_whole_4096() {
        for (size, blocks) in [(0, 0), (1, 8), (4096, 8), (4097, 16), (1 << 20, 2048)] {
            assert_eq!(sized(Kind::File, size).blocks(), blocks, "{size}");
        }
        assert_eq!(sized(Kind::Symlink, 9).blocks(), 0);
        let generated = Attr { lifetime: Lifetime::Volatile, ..sized(Kind::File, 5000) };
        assert_eq!(generated.blocks(), 0);
    }
}
