//! Trees of extreme shapes as rows of a table, for tests and benchmarks of algorithms over the whole tree.

use pmxcfs::memdb::{Inode, KIND_DIRECTORY, KIND_FILE, ROOT, Row, VERSION_ROW_NAME};
use std::sync::Arc;

/// Directories per directory of [`Shape::Bushy`], and files in each.
const BRANCHES: u64 = 16;

/// Shape of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All entries are directories in the root.
    Flat,
    /// A chain: each directory contains the next one.
    Deep,
    /// One directory with all files.
    Wide,
    /// Directories with 16 directories and 16 files each.
    Bushy,
    /// All entries are guests of one node.
    Guests,
    /// All entries are locks.
    Locks,
}

impl Shape {
    pub const ALL: [Self; 6] = [Self::Flat, Self::Deep, Self::Wide, Self::Bushy, Self::Guests, Self::Locks];

    /// Rows of a tree with `entries` entries, including the root, by rising inode.
    pub fn rows(self, entries: u64) -> Vec<Row> {
        let mut rows = vec![row(ROOT, ROOT, KIND_FILE, VERSION_ROW_NAME, entries)];
        rows.extend((1..entries).map(|inode| {
            let (parent, kind) = self.place(inode);
            row(inode, parent, kind, self.name(inode).as_bytes(), inode)
        }));
        rows
    }

    fn name(self, inode: Inode) -> String {
        match (self, inode) {
            (Self::Guests, 1) => "nodes".to_owned(),
            (Self::Guests, 2) => "n1".to_owned(),
            (Self::Guests, 3) => "qemu-server".to_owned(),
            (Self::Guests, _) => format!("{inode}.conf"),
            (Self::Locks, 1) => "priv".to_owned(),
            (Self::Locks, 2) => "lock".to_owned(),
            _ => format!("e{inode}"),
        }
    }

    /// The parent and the type of an entry.
    fn place(self, inode: Inode) -> (Inode, u8) {
        match self {
            Self::Flat => (ROOT, KIND_DIRECTORY),
            Self::Deep => (inode - 1, KIND_DIRECTORY),
            Self::Wide if inode == 1 => (ROOT, KIND_DIRECTORY),
            Self::Wide => (1, KIND_FILE),
            Self::Guests if inode <= 3 => (inode - 1, KIND_DIRECTORY),
            Self::Guests => (3, KIND_FILE),
            Self::Locks => (inode.min(3) - 1, KIND_DIRECTORY),
            Self::Bushy => {
                // Entries come in blocks of 32: the 16 directories and the 16 files of one directory.
                let (block, at) = ((inode - 1) / (2 * BRANCHES), (inode - 1) % (2 * BRANCHES));
                let parent = match block {
                    0 => ROOT,
                    _ => {
                        let directory = block - 1;
                        1 + directory / BRANCHES * 2 * BRANCHES + directory % BRANCHES
                    }
                };
                (parent, if at < BRANCHES { KIND_DIRECTORY } else { KIND_FILE })
            }
        }
    }
}

fn row(inode: Inode, parent: Inode, kind: u8, name: &[u8], version: u64) -> Row {
    let is_file = kind == KIND_FILE && inode != ROOT;
    let data = is_file.then(|| Arc::new(inode.to_le_bytes().to_vec()));
    Row { inode, parent, version, writer: 1, mtime: 1_700_000_000, kind, name: name.into(), data }
}
