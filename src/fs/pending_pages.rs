//! Files whose pages the kernel must drop before it learns of their new size.
//!
//! The kernel adopts a new size first and drops the old pages afterwards. A reader in between finds the new
//! size with the old last page, whose rest is zero bytes. So a reply with the attributes of such a file is
//! sent after its pages were invalidated.

use super::known::Known;
use super::{CacheRules, ino};
use crate::memdb::{Invalidation, Stale};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files that changed and whose pages are not invalidated yet.
#[derive(Debug, Default)]
pub(super) struct PendingPages {
    /// Number of the last change, by the kernel's inode number.
    changes: Mutex<Changes>,
    /// Length of the map, so that the common case takes no lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Changes {
    last: HashMap<u64, u64>,
    made: u64,
}

/// An invalidation under way: it covers the changes up to this one.
#[derive(Debug, Clone, Copy)]
pub struct Covered {
    ino: u64,
    change: Option<u64>,
}

impl PendingPages {
    /// Notes the files of a change. Call this under the lock of the tree: a reader that sees the change then
    /// finds it noted.
    pub(super) fn note(&self, invalidations: &[Invalidation], known: &Known, rules: CacheRules) {
        if !rules.pages_before_reply {
            return;
        }
        for invalidation in invalidations {
            let Stale::Content { inode, .. } = &invalidation.stale else { continue };
            let ino = ino::of_entry(*inode);
            if known.has_pages(ino) {
                let mut changes = self.lock();
                changes.made += 1;
                let made = changes.made;
                changes.last.insert(ino, made);
                self.count.store(changes.last.len(), Ordering::Release);
            }
        }
    }

    /// Whether a reply with this file's attributes must wait.
    pub(super) fn contains(&self, ino: u64) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().last.contains_key(&ino)
    }

    /// Must be called before the pages of a file are invalidated.
    pub(super) fn begin(&self, ino: u64) -> Covered {
        Covered { ino, change: self.lock().last.get(&ino).copied() }
    }

    /// Must be called after the invalidation. A change made meanwhile stays noted.
    pub(super) fn end(&self, covered: Covered) {
        let mut changes = self.lock();
        if covered.change.is_some() && changes.last.get(&covered.ino).copied() == covered.change {
            changes.last.remove(&covered.ino);
            self.count.store(changes.last.len(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::memdb::ByteRange;

    fn changed(inode: u64) -> [Invalidation; 1] {
        [Invalidation::of_reply(Stale::Content { inode, range: ByteRange::ALL })]
    }

    #[test]
    fn change_is_pending_until_invalidated() {
        let (pending, known) = (PendingPages::default(), Known::new(Clock::start()));
        known.note_pages(5);
        pending.note(&changed(5), &known, CacheRules::GROUP);
        pending.note(&changed(6), &known, CacheRules::GROUP);
        assert!(pending.contains(5));
        assert!(!pending.contains(6), "the kernel has no pages of it");
        let covered = pending.begin(5);
        assert!(pending.contains(5));
        pending.end(covered);
        assert!(!pending.contains(5));
    }

    #[test]
    fn change_during_invalidation_stays_pending() {
        let (pending, known) = (PendingPages::default(), Known::new(Clock::start()));
        known.note_pages(5);
        pending.note(&changed(5), &known, CacheRules::GROUP);
        let covered = pending.begin(5);
        pending.note(&changed(5), &known, CacheRules::GROUP);
        pending.end(covered);
        assert!(pending.contains(5));
        pending.end(pending.begin(5));
        assert!(!pending.contains(5));
    }

    #[test]
    fn nothing_is_pending_on_a_node_by_itself() {
        let (pending, known) = (PendingPages::default(), Known::new(Clock::start()));
        known.note_pages(5);
        pending.note(&changed(5), &known, CacheRules::THIS_MOUNT);
        assert!(!pending.contains(5));
    }
}
