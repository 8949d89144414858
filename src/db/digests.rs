//! The digests by which members of a group compare their trees, ready when the group needs them under the
//! tree's lock. All contents are hashed for them, for which nobody is kept waiting here.

use super::Db;
use crate::memdb::{PartialChecksum, PartialIndex};

impl Db {
    /// Has the tree's checksum ready until the next change.
    pub fn prepare_checksum(&self) {
        let mut partial = PartialChecksum::default();
        while self.read().add_to_checksum(&mut partial) {}
        if let Ok(mut tree) = self.shared.write() {
            tree.prepare_checksum(partial);
        }
    }

    /// Has the digest of each entry ready until that changes. Those that are need no time.
    pub fn prepare_index(&self) {
        let mut partial = PartialIndex::default();
        loop {
            let goes_on = self.read().add_to_index(&mut partial);
            let Ok(mut tree) = self.shared.write() else { return };
            tree.prepare_index(&mut partial);
            if !goes_on {
                return;
            }
        }
    }
}
