//! Late replies: replies that are sent from the tree before a change, and that the kernel caches after the
//! invalidation of this change.
//!
//! Until Linux 6.18 an invalidation of a name takes the lock of its directory, even if the kernel does not know
//! the name. The kernel has this lock during each lookup and listing, so the invalidation waits for late replies
//! ([`LateReplies::Locked`]). Later kernels take the lock only for a name that they know. There, and on all kernels
//! that can expire all names at once, this module remembers the names and nodes of recent replies
//! ([`LateReplies::Epoch`]). If the kernel does not know a name or node that was replied recently, the reply may be
//! late. Then a new epoch expires all names: a name has the epoch from before its request, so a late one is invalid
//! when the kernel uses it next.
//!
//! A new epoch does not expire the attributes that a late reply has for a new inode. The next lookup replaces them.
//! A program that opens the file with the late reply itself does no such lookup. So the attributes are invalidated
//! when that program opens the file, before the reply.

use crate::clock::Clock;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first version of the kernel's interface that can expire all names: Linux 6.16.
const EPOCH_MINOR: u32 = 44;

/// Rule for late replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateReplies {
    /// Invalidations of names wait for lookups in their directory.
    Locked,
    /// Names expire with their epoch.
    Epoch,
}

impl LateReplies {
    /// The rule for a kernel, by the version of its FUSE interface.
    pub fn of_kernel(major: u32, minor: u32) -> Self {
        if (major, minor) >= (7, EPOCH_MINOR) { Self::Epoch } else { Self::Locked }
    }
}

/// Longest time from reading the tree until the kernel has the reply in its caches. Replies are sent within
/// microseconds; the rest of this time is for a kernel and a daemon that get no processor.
const LATE_MAX: Duration = Duration::from_secs(300);
/// Number of replies remembered in each of two periods of [`LATE_MAX`]. If there are more, all replies count as
/// recent.
const REPLIES_MAX: usize = 1 << 16;
/// Time after a change until the kernel's older attributes have certainly expired. The kernel keeps attributes for
/// 300 s.
const LATE_NODE_AGE_MAX: Duration = Duration::from_secs(600);
/// Number of inodes with attributes of late replies above which those older than [`LATE_NODE_AGE_MAX`] are removed.
const LATE_NODES_MIN: usize = 1 << 10;

#[derive(Hash)]
enum Item<'a> {
    Name(u64, &'a [u8]),
    Node(u64),
}

/// Names and nodes of recent replies.
#[derive(Debug)]
pub(super) struct RecentReplies {
    clock: Clock,
    /// Only with [`LateReplies::Epoch`].
    is_used: AtomicBool,
    periods: Mutex<Periods>,
    /// Inodes whose attributes in the kernel may be of a late reply, with the uptime of the change.
    late_nodes: Mutex<HashMap<u64, Duration>>,
}

#[derive(Debug, Default)]
struct Periods {
    current: Replies,
    last: Replies,
    /// Uptime at which the current period began.
    began: Duration,
}

/// Replies of one period, by hash: a collision costs one unneeded epoch.
#[derive(Debug, Default)]
struct Replies {
    hashes: HashSet<u64>,
    is_full: bool,
}

impl Replies {
    fn insert(&mut self, hash: u64) {
        if self.hashes.len() < REPLIES_MAX {
            self.hashes.insert(hash);
        } else {
            self.is_full = true;
        }
    }

    fn take(&mut self, hash: u64) -> bool {
        self.hashes.remove(&hash) || self.is_full
    }
}

impl RecentReplies {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            is_used: AtomicBool::new(false),
            periods: Mutex::default(),
            late_nodes: Mutex::default(),
        }
    }

    /// Sets the rule. Must be called before the first reply.
    pub(super) fn set_rule(&self, rule: LateReplies) {
        self.is_used.store(rule == LateReplies::Epoch, Ordering::Relaxed);
    }

    pub(super) fn rule(&self) -> LateReplies {
        if self.is_used() { LateReplies::Epoch } else { LateReplies::Locked }
    }

    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Notes a reply with a name in a directory, or the reply that there is none. Call this under the lock of the
    /// tree by which the reply was read.
    pub(super) fn note_name(&self, parent: u64, name: &[u8]) {
        self.note(&Item::Name(parent, name));
    }

    /// Notes a reply with the attributes of a node, under the lock of the tree.
    pub(super) fn note_node(&self, ino: u64) {
        self.note(&Item::Node(ino));
    }

    /// Returns true if a reply with this name may be late. Forgets the reply: call this after the change, and before the
    /// notification that covers all replies until then.
    pub(super) fn take_name(&self, parent: u64, name: &[u8]) -> bool {
        self.take(&Item::Name(parent, name))
    }

    /// As [`RecentReplies::take_name`], for the attributes of a node.
    pub(super) fn take_node(&self, ino: u64) -> bool {
        self.take(&Item::Node(ino))
    }

    /// Notes an inode whose attributes may be of a late reply.
    pub(super) fn note_late_node(&self, ino: u64) {
        let now = self.clock.uptime();
        let mut nodes = lock(&self.late_nodes);
        if nodes.len() >= LATE_NODES_MIN {
            nodes.retain(|_, changed| now.saturating_sub(*changed) < LATE_NODE_AGE_MAX);
        }
        nodes.insert(ino, now);
    }

    /// Returns true if the attributes of an inode may be of a late reply. Forgets the inode: the caller invalidates them.
    pub(super) fn take_late_node(&self, ino: u64) -> bool {
        self.is_used() && lock(&self.late_nodes).remove(&ino).is_some()
    }

    fn note(&self, item: &Item<'_>) {
        if self.is_used() {
            let hash = hash(item);
            self.periods().current.insert(hash);
        }
    }

    fn take(&self, item: &Item<'_>) -> bool {
        if !self.is_used() {
            return false;
        }
        let hash = hash(item);
        let mut periods = self.periods();
        let (current, last) = (periods.current.take(hash), periods.last.take(hash));
        current || last
    }

    /// The periods, after those that ended were dropped.
    fn periods(&self) -> MutexGuard<'_, Periods> {
        let now = self.clock.uptime();
        let mut periods = lock(&self.periods);
        let age = now.saturating_sub(periods.began);
        if age >= LATE_MAX {
            let ended = std::mem::take(&mut periods.current);
            periods.last = if age < 2 * LATE_MAX { ended } else { Replies::default() };
            periods.began = now;
        }
        periods
    }
}

fn hash(item: &Item<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    hasher.finish()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies() -> (RecentReplies, crate::clock::Forward) {
        let (clock, forward) = Clock::forwardable();
        let replies = RecentReplies::new(clock);
        replies.set_rule(LateReplies::Epoch);
        (replies, forward)
    }

    #[test]
    fn rule_follows_the_interface_version() {
        for (major, minor, rule) in [
            (7, 31, LateReplies::Locked),
            (7, 43, LateReplies::Locked),
            (7, 44, LateReplies::Epoch),
            (7, 45, LateReplies::Epoch),
            (8, 0, LateReplies::Epoch),
        ] {
            assert_eq!(LateReplies::of_kernel(major, minor), rule, "{major}.{minor}");
        }
    }

    #[test]
    fn reply_is_recent_once_and_for_a_while() {
        let (replies, forward) = replies();
        replies.note_name(1, b"f");
        replies.note_node(1);
        assert!(!replies.take_name(2, b"f") && !replies.take_name(1, b"g"));
        assert!(replies.take_name(1, b"f") && !replies.take_name(1, b"f"));
        assert!(replies.take_node(1) && !replies.take_node(1));
        replies.note_name(1, b"f");
        forward.by_seconds(LATE_MAX.as_secs() + 1);
        assert!(replies.take_name(1, b"f"), "of the period before");
        replies.note_name(1, b"f");
        forward.by_seconds(2 * LATE_MAX.as_secs() + 1);
        assert!(!replies.take_name(1, b"f"), "too old");
    }

    #[test]
    fn replies_without_number_all_count_as_recent() {
        let (replies, forward) = replies();
        (0..=REPLIES_MAX as u64).for_each(|ino| replies.note_node(ino));
        assert!(replies.take_node(REPLIES_MAX as u64) && replies.take_name(1, b"any"));
        assert!(lock(&replies.periods).current.hashes.len() <= REPLIES_MAX);
        forward.by_seconds(2 * LATE_MAX.as_secs() + 1);
        assert!(!replies.take_name(1, b"any"));
    }

    #[test]
    fn nothing_is_noted_where_the_directory_is_locked() {
        let (replies, _) = replies();
        replies.set_rule(LateReplies::Locked);
        replies.note_name(1, b"f");
        assert!(!replies.take_name(1, b"f") && lock(&replies.periods).current.hashes.is_empty());
    }

    #[test]
    fn late_nodes_are_forgotten_with_their_attributes() {
        let (replies, forward) = replies();
        (0..LATE_NODES_MIN as u64).for_each(|ino| replies.note_late_node(ino));
        forward.by_seconds(LATE_NODE_AGE_MAX.as_secs() + 1);
        replies.note_late_node(5000);
        assert_eq!(lock(&replies.late_nodes).len(), 1);
        assert!(replies.take_late_node(5000) && !replies.take_late_node(5000));
    }
}
