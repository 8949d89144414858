//! Path walks that the kernel repeats.
//!
//! An operation by path may reach this node after another member removed the inode that the path led to. ESTALE
//! makes the kernel walk the path once more, with a request for each name. If the new inode is removed, too, a
//! second ESTALE would reach the program. So the second time the operation gets its final result: it acts on the
//! file that its own walk found, or fails with ENOENT.
//!
//! The kernel sends the thread that makes a request. A thread is in its second walk if it got ESTALE within
//! [`WALK_TIME`] and, since then, looked up the inode, or got ESTALE for the same inode (of its working directory,
//! for example, which has no name to look up).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time from ESTALE to the end of the second walk.
const WALK_TIME: Duration = Duration::from_secs(1);
/// Threads to remember; the oldest walk is forgotten first.
const THREADS_MAX: usize = 256;
/// Inodes to remember of a walk: more than a path has names.
const NODES_MAX: usize = 4096;

/// A thread that makes requests, by the kernel's number; 0 for one of another process namespace.
pub type Thread = u32;

/// Second walks of all threads.
#[derive(Debug, Default)]
pub struct Walks {
    threads: Mutex<HashMap<Thread, Walk>>,
    /// Length of the map, so that the common case takes no lock.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Walk {
    began: Duration,
    nodes: Vec<u64>,
}

impl Walks {
    /// Notes that a walk of this thread found an inode.
    pub fn found(&self, thread: Thread, ino: u64) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(walk) = self.lock().get_mut(&thread) {
            if walk.nodes.len() < NODES_MAX {
                walk.nodes.push(ino);
            }
        }
    }

    /// Whether an operation of this thread on a removed inode gets its final result now. If not, it must fail with
    /// ESTALE, and the thread is in its second walk from now on. `now` is the uptime.
    pub fn is_final(&self, thread: Thread, ino: u64, now: Duration) -> bool {
        let mut threads = self.lock();
        threads.retain(|_, walk| now < walk.began + WALK_TIME);
        let is_final = threads.get(&thread).is_some_and(|walk| walk.nodes.contains(&ino));
        if !is_final {
            if threads.len() >= THREADS_MAX {
                let oldest = threads.iter().min_by_key(|(_, walk)| walk.began).map(|(thread, _)| *thread);
                oldest.map(|thread| threads.remove(&thread));
            }
            threads.insert(thread, Walk { began: now, nodes: vec![ino] });
        }
        self.count.store(threads.len(), Ordering::Relaxed);
        is_final
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Thread, Walk>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, THREADS_MAX, WALK_TIME, Walks};

    const NOW: Duration = Duration::from_secs(5);

    #[test]
    fn second_walk_of_the_thread_is_final() {
        let walks = Walks::default();
        walks.found(1, 20);
        assert!(!walks.is_final(1, 10, NOW), "first walk");
        walks.found(1, 20);
        assert!(!walks.is_final(2, 20, NOW), "another thread");
        assert!(walks.is_final(1, 20, NOW));
        assert!(walks.is_final(1, 10, NOW), "the same inode again");
        assert!(!walks.is_final(1, 30, NOW), "not found by the second walk");
    }

    #[test]
    fn walk_ends_after_its_time() {
        let walks = Walks::default();
        assert!(!walks.is_final(1, 10, NOW));
        walks.found(1, 20);
        assert!(!walks.is_final(1, 20, NOW + WALK_TIME));
    }

    #[test]
    fn walks_are_bounded() {
        let walks = Walks::default();
        for thread in 0..2 * THREADS_MAX as u32 {
            assert!(!walks.is_final(thread, 10, NOW + Duration::from_nanos(thread.into())));
        }
        assert_eq!(walks.lock().len(), THREADS_MAX);
        assert!(walks.is_final(2 * THREADS_MAX as u32 - 1, 10, NOW + Duration::from_millis(1)));
    }
}
