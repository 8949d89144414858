//! Numbers by which the kernel knows nodes. Entries keep their database number, so that it means
//! the same entry for as long as the database lives; only the root, a possible entry 1 (which is
//! the kernel's root) and the generated nodes need others.

use crate::memdb::{Inode, ROOT};

/// The kernel's number of the root directory.
pub const ROOT_INO: u64 = 1;

/// First number of those that no entry ever has: numbers of entries count changes, from 1.
const RESERVED: u64 = 0x7FFF_FFFF_FFFF_FF00;
/// Stands for the entry whose own number is the kernel's root.
const ENTRY_ONE: u64 = RESERVED;
/// Number of the first generated node.
const GENERATED: u64 = RESERVED + 1;

/// What a number of the kernel means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An entry of the database, or its root.
    Entry(Inode),
    /// The generated node with this index.
    Generated(usize),
}

/// The kernel's number of an entry.
pub(crate) fn of_entry(inode: Inode) -> u64 {
    match inode {
        ROOT => ROOT_INO,
        ROOT_INO => ENTRY_ONE,
        other => other,
    }
}

/// The kernel's number of the generated node with this index.
pub(crate) fn of_generated(index: usize) -> u64 {
    GENERATED + index as u64
}

/// What a number of the kernel means.
pub(crate) fn target(ino: u64) -> Target {
    match ino {
        ROOT_INO => Target::Entry(ROOT),
        ENTRY_ONE => Target::Entry(ROOT_INO),
        // The index is not looked at before it is found to be that of a node.
        GENERATED.. => Target::Generated(usize::try_from(ino - GENERATED).unwrap_or(usize::MAX)),
        other => Target::Entry(other),
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOT_INO, Target, of_entry, of_generated, target};

    #[test]
    fn numbers_go_round() {
        for inode in [0, 1, 2, 3, 1 << 40, 0x7FFF_FFFF_FFFF_FEFF] {
            assert_eq!(target(of_entry(inode)), Target::Entry(inode), "{inode}");
        }
        for index in [0, 9, 200] {
            assert_eq!(target(of_generated(index)), Target::Generated(index));
        }
    }

    #[test]
    fn the_root_is_the_kernels_root() {
        assert_eq!(of_entry(0), ROOT_INO);
        assert_ne!(of_entry(1), ROOT_INO);
        assert_eq!(of_entry(2), 2);
    }
}
