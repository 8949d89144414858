//! States of a tree, in the order in which they were made.

use pmxcfs::memdb::MemDb;
use std::collections::HashMap;

/// Version, and digest over all rows.
type Digest = (u64, [u8; 32]);

/// States by number.
#[derive(Default)]
pub struct History {
    states: Vec<Digest>,
    numbers: HashMap<Digest, Vec<usize>>,
}

impl History {
    /// Adds the state of the tree, unless it is the last one; returns its number.
    pub fn add(&mut self, tree: &MemDb) -> usize {
        let digest = (tree.version(), tree.checksum());
        if self.states.last() != Some(&digest) {
            self.numbers.entry(digest).or_default().push(self.states.len());
            self.states.push(digest);
        }
        self.states.len() - 1
    }

    /// Number of the last state that equals this tree.
    pub fn last_number(&self, tree: &MemDb) -> Option<usize> {
        self.numbers.get(&(tree.version(), tree.checksum())).and_then(|numbers| numbers.last()).copied()
    }
}
