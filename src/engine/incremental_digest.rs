//! Incremental digests. Hashing 128 MiB takes long. It is done in slices before the state machine needs the index or
//! the checksum under the tree's lock, and other threads get the lock between slices.

use super::Engine;
use crate::memdb::{PartialChecksum, PartialIndex};

impl Engine {
    /// Has the tree's checksum ready until the next change.
    pub fn prepare_checksum(&self) {
        let mut partial = PartialChecksum::default();
        while self.read().add_to_checksum(&mut partial) {}
        if let Ok(mut tree) = self.inner.write() {
            tree.prepare_checksum(partial);
        }
    }

    /// Has the digest of each entry ready until that changes. Those that are need no time.
    pub fn prepare_index(&self) {
        let mut partial = PartialIndex::default();
        loop {
            let goes_on = self.read().add_to_index(&mut partial);
            let Ok(mut tree) = self.inner.write() else { return };
            tree.prepare_index(&mut partial);
            if !goes_on {
                return;
            }
        }
    }
}
