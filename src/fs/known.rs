//! Filter of names, nodes and pages that the kernel may have cached. Only these need invalidation, so changes
//! of other nodes in unused directories cost nothing. The filter has no false negatives. A false positive
//! costs one unneeded invalidation; they get more frequent as entries are added, and none is removed, because
//! the kernel does not report when it drops a name that does not exist.
//!
//! Each reply is noted under the lock of the tree by which it was read: a change is either later and finds it
//! noted, or earlier and contained in the reply.

use super::ROOT_INO;
use super::late_replies::RecentReplies;
use crate::clock::Clock;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the filter, 256 KiB of them: a node looks up some thousand new names a day, most of them temporary.
const BITS: u64 = 1 << 21;

/// The filter.
#[derive(Debug)]
pub(super) struct Known {
    words: Box<[AtomicU64]>,
    /// Replies that the kernel may not have cached yet.
    recent: RecentReplies,
}

#[derive(Hash)]
enum Item<'a> {
    Name(u64, &'a [u8]),
    Node(u64),
    Pages(u64),
}

impl Known {
    pub(super) fn new(clock: Clock) -> Self {
        let words = (0..BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Self { words, recent: RecentReplies::new(clock) }
    }

    /// Replies that the kernel may not have cached yet.
    pub(super) fn recent(&self) -> &RecentReplies {
        &self.recent
    }

    /// The kernel is told what this name in a directory means, or that there is none.
    pub(super) fn note_name(&self, parent: u64, name: &[u8]) {
        self.note(&Item::Name(parent, name));
        self.recent.note_name(parent, name);
    }

    /// The kernel is told the attributes of a node.
    pub(super) fn note_node(&self, ino: u64) {
        self.note(&Item::Node(ino));
        self.recent.note_node(ino);
    }

    /// The kernel gets contents of a file, which it may cache.
    pub(super) fn note_pages(&self, ino: u64) {
        self.note(&Item::Pages(ino));
    }

    /// Whether the kernel may have pages of a file.
    pub(super) fn has_pages(&self, ino: u64) -> bool {
        self.has(&Item::Pages(ino))
    }

    /// Whether the kernel may know what this name means.
    pub(super) fn has_name(&self, parent: u64, name: &[u8]) -> bool {
        self.has(&Item::Name(parent, name))
    }

    /// Whether the kernel may know attributes or contents of a node.
    pub(super) fn has_node(&self, ino: u64) -> bool {
        ino == ROOT_INO || self.has(&Item::Node(ino))
    }

    fn note(&self, item: &Item<'_>) {
        if let Some((word, bit)) = self.place(item) {
            // Most often it is there: then the word need not be taken from the other processors.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    fn has(&self, item: &Item<'_>) -> bool {
        self.place(item).is_none_or(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn place(&self, item: &Item<'_>) -> Option<(&AtomicU64, u64)> {
        let mut hasher = DefaultHasher::new();
        item.hash(&mut hasher);
        let at = hasher.finish() % BITS;
        let word = self.words.get(usize::try_from(at / 64).ok()?)?;
        Some((word, 1 << (at % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known() {
        let known = Known::new(Clock::start());
        for number in 0..20_000 {
            let name = format!("name {number}");
            known.note_name(number % 7, name.as_bytes());
            known.note_node(number);
            assert!(known.has_name(number % 7, name.as_bytes()));
            assert!(known.has_node(number));
        }
    }

    #[test]
    fn most_of_what_was_not_noted_is_not() {
        let known = Known::new(Clock::start());
        (0..20_000).for_each(|number| known.note_node(number));
        let taken_for_known = (20_000..40_000).filter(|number| known.has_node(*number)).count();
        assert!(taken_for_known < 400, "{taken_for_known} of 20000");
        assert!(!known.has_name(5, b"x") && known.has_node(ROOT_INO));
    }
}
