//! The ages of locks: since when this node has seen each lock with its present checksum. Ages are
//! of this node alone; they are neither stored nor exchanged.

use super::{Inode, MemDb, index};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a lock is held without renewal.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);

/// Since when each lock has been seen as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct LockAges(BTreeMap<Inode, Seen>);

#[derive(Debug, Clone)]
struct Seen {
    since: Duration,
    checksum: [u8; 32],
}

impl LockAges {
    /// Whether the lock has had this checksum for longer than a lock is held. If it is not known
    /// with this checksum, its age starts now.
    pub(super) fn expired(&mut self, inode: Inode, checksum: &[u8; 32], now: Duration) -> bool {
        match self.0.get(&inode) {
            Some(seen) if seen.checksum == *checksum => now.saturating_sub(seen.since) > LOCK_TIMEOUT,
            _ => {
                self.restart(inode, *checksum, now);
                false
            }
        }
    }

    /// The lock was taken or renewed now.
    pub(super) fn restart(&mut self, inode: Inode, checksum: [u8; 32], now: Duration) {
        self.0.insert(inode, Seen { since: now, checksum });
    }

    /// The entry is gone.
    pub(super) fn forget(&mut self, inode: Inode) {
        self.0.remove(&inode);
    }

    /// The locks whose age is known.
    pub(super) fn known(&self) -> impl Iterator<Item = Inode> {
        self.0.keys().copied()
    }

    /// The ages of all locks in a tree that was just loaded: they start now.
    pub(super) fn rebuild(db: &MemDb, now: Duration) -> Self {
        let locks = db.resolve(b"priv/lock").into_iter().flat_map(|dir| db.children_of(dir));
        let seen = |entry| Seen { since: now, checksum: index::entry_checksum(entry) };
        Self(locks.filter(|entry| entry.is_dir()).map(|entry| (entry.inode, seen(entry))).collect())
    }
}
