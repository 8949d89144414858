//! Files whose pages the kernel must drop before it learns of their new size.
//!
//! The kernel adopts a new size first and drops the old pages afterwards. A reader in between finds the new
//! size with the old last page, whose rest is zero bytes. So a reply with the attributes of such a file is
//! sent after its pages were invalidated.
//!
//! The range of each change is kept here, under the lock of the tree, and not only in the queue of invalidations: a
//! change can be noted before it is queued, and an invalidation that begins then must cover it.

use super::known::Known;
use super::{CacheRules, ino};
use crate::memdb::{ByteRange, Invalidation};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files that changed and whose pages are not invalidated yet.
#[derive(Debug, Default)]
pub(super) struct PendingPages {
    /// Changes by the kernel's inode number.
    changes: Mutex<Changes>,
    /// Length of the map, so that the common case takes no lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Changes {
    last: HashMap<u64, Changed>,
    made: u64,
}

/// Changes of a file.
#[derive(Debug, Clone, Copy)]
struct Changed {
    /// Number of the last change.
    number: u64,
    /// Bytes of all changes.
    range: ByteRange,
}

/// An invalidation under way: it covers the changes up to this one.
#[derive(Debug, Clone, Copy)]
pub struct Covered {
    ino: u64,
    changed: Option<Changed>,
}

impl Covered {
    /// Bytes to invalidate.
    pub fn range(&self) -> ByteRange {
        self.changed.map_or(ByteRange::NONE, |changed| changed.range)
    }
}

impl PendingPages {
    /// Notes the files of a change. Call this under the lock of the tree: a reader that sees the change then
    /// finds it noted.
    pub(super) fn note(&self, invalidations: &[Invalidation], known: &Known, rules: CacheRules) {
        if !rules.pages_before_reply {
            return;
        }
        for invalidation in invalidations {
            let Invalidation::Content { inode, range } = invalidation else { continue };
            let ino = ino::of_entry(*inode);
            if known.has_pages(ino) {
                let mut changes = self.lock();
                changes.made += 1;
                let number = changes.made;
                let changed = changes.last.entry(ino).or_insert(Changed { number, range: ByteRange::NONE });
                *changed = Changed { number, range: changed.range.join(*range) };
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
        Covered { ino, changed: self.lock().last.get(&ino).copied() }
    }

    /// Must be called after the invalidation. A change made meanwhile stays noted.
    pub(super) fn end(&self, covered: Covered) {
        let mut changes = self.lock();
        let number = |changed: Option<&Changed>| changed.map(|changed| changed.number);
        if covered.changed.is_some()
            && number(changes.last.get(&covered.ino)) == number(covered.changed.as_ref())
        {
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

    fn changed(inode: u64) -> [Invalidation; 1] {
        changed_at(inode, 0, 1)
    }

    fn changed_at(inode: u64, start: u64, end: u64) -> [Invalidation; 1] {
        let range = ByteRange { start, end: Some(end) };
        [Invalidation::Content { inode, range }]
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
        pending.note(&changed_at(5, 10, 20), &known, CacheRules::GROUP);
        let covered = pending.begin(5);
        pending.note(&changed_at(5, 40, 50), &known, CacheRules::GROUP);
        pending.end(covered);
        assert!(pending.contains(5));
        assert_eq!(covered.range(), ByteRange { start: 10, end: Some(20) });
        let covered = pending.begin(5);
        assert_eq!(covered.range(), ByteRange { start: 10, end: Some(50) });
        pending.end(covered);
        assert!(!pending.contains(5) && pending.begin(5).range().is_empty());
    }

    #[test]
    fn nothing_is_pending_on_a_node_by_itself() {
        let (pending, known) = (PendingPages::default(), Known::new(Clock::start()));
        known.note_pages(5);
        pending.note(&changed(5), &known, CacheRules::THIS_MOUNT);
        assert!(!pending.contains(5));
    }
}
