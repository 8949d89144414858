//! Keyed work queue with a bounded pool of threads. Work queued for one key is merged, and done by one thread
//! at a time; keys do not wait for one another while a thread is free. A thread is started when all others
//! are busy, so a lane without stalls has one.

use crate::fuse::reply::guarded;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Stack of a thread, in bytes: an invalidation needs little.
const STACK: usize = 256 << 10;

/// A queue and its threads. Clones are the same lane.
pub(super) struct Lane<K, J> {
    inner: Arc<Inner<K, J>>,
}

struct Inner<K, J> {
    /// Name of the threads.
    name: &'static str,
    threads_max: usize,
    /// Processes the work queued for a key.
    work: Box<dyn Fn(K, J) + Send + Sync>,
    state: Mutex<State<K, J>>,
    /// Signals queued work, or the stop of the lane.
    ready: Condvar,
    /// Signals finished work.
    finished: Condvar,
}

/// Invariant: a key in `queued` is either in `ready` or in `served`, and `ready` has no other keys.
struct State<K, J> {
    queued: HashMap<K, J>,
    ready: VecDeque<K>,
    served: HashSet<K>,
    threads: usize,
    /// Threads that wait for `Inner::ready`.
    idle: usize,
    stopped: bool,
}

impl<K, J> Clone for Lane<K, J> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, J> fmt::Debug for Lane<K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({})", self.inner.name)
    }
}

impl<K, J> Lane<K, J>
where
    K: Clone + Eq + Hash + Send + 'static,
    J: Default + Send + 'static,
{
    /// A lane without threads yet. `work` may block: it then holds one of at most `threads_max` threads.
    pub(super) fn new(
        name: &'static str,
        threads_max: usize,
        work: impl Fn(K, J) + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            queued: HashMap::new(),
            ready: VecDeque::new(),
            served: HashSet::new(),
            threads: 0,
            idle: 0,
            stopped: false,
        };
        let (work, state) = (Box::new(work), Mutex::new(state));
        let (ready, finished) = (Condvar::new(), Condvar::new());
        Self { inner: Arc::new(Inner { name, threads_max, work, state, ready, finished }) }
    }

    /// Starts the first thread of the lane.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub(super) fn start(&self) -> io::Result<()> {
        let mut state = self.inner.state();
        self.spawn(&mut state)
    }

    /// Lets `merge` add work to the queue of a key. Returns false, without adding, if the lane was stopped.
    /// Never blocks.
    pub(super) fn push(&self, key: K, merge: impl FnOnce(&mut J)) -> bool {
        let mut state = self.inner.state();
        if state.stopped {
            return false;
        }
        let is_new = !state.queued.contains_key(&key);
        merge(state.queued.entry(key.clone()).or_default());
        if is_new && !state.served.contains(&key) {
            state.ready.push_back(key);
            self.inner.ready.notify_one();
            if state.ready.len() > state.idle && state.threads < self.inner.threads_max {
                if let Err(error) = self.spawn(&mut state) {
                    // The existing threads process it later.
                    log::debug!(target: "fuse", "{}: no further thread: {error}", self.inner.name);
                }
            }
        }
        true
    }

    /// Blocks until no work is queued or running. Returns false on timeout.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let state = self.inner.state();
        let unfinished = |state: &mut State<K, J>| !state.queued.is_empty() || !state.served.is_empty();
        let waited = self.inner.finished.wait_timeout_while(state, timeout, unfinished);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Stops the lane; its threads exit after their current work. Returns the queued work.
    pub(super) fn stop(&self) -> Vec<J> {
        let mut state = self.inner.state();
        state.stopped = true;
        state.ready.clear();
        let queued = state.queued.drain().map(|(_, jobs)| jobs).collect();
        self.inner.ready.notify_all();
        self.inner.finished.notify_all();
        queued
    }

    fn spawn(&self, state: &mut State<K, J>) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let thread = thread::Builder::new().name(self.inner.name.to_owned()).stack_size(STACK);
        thread.spawn(move || inner.run())?;
        state.threads += 1;
        Ok(())
    }
}

impl<K: Clone + Eq + Hash, J: Default> Inner<K, J> {
    fn state(&self) -> MutexGuard<'_, State<K, J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.state();
        loop {
            let next = state.ready.pop_front();
            let Some((key, jobs)) = next.and_then(|key| state.queued.remove_entry(&key)) else {
                if state.stopped {
                    return;
                }
                state.idle += 1;
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.served.insert(key.clone());
            drop(state);
            guarded("invalidation", || (self.work)(key.clone(), jobs));
            state = self.state();
            state.served.remove(&key);
            if state.queued.contains_key(&key) {
                state.ready.push_back(key);
            }
            self.finished.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lane;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    type Log = Receiver<(u32, Vec<u32>)>;

    /// A lane that reports each key as its work begins. Keys below 100 block until the test releases them
    /// once.
    fn lane(threads: usize) -> (Lane<u32, Vec<u32>>, Log, Sender<()>) {
        let (sender, log) = channel();
        let (release, held) = channel();
        let held = Arc::new(Mutex::new(held));
        let lane = Lane::new("test", threads, move |key, jobs| {
            sender.send((key, jobs)).expect("heard");
            if key < 100 {
                held.lock().expect("not poisoned").recv().expect("let go");
            }
        });
        (lane, log, release)
    }

    #[test]
    fn stalled_key_stalls_no_other() {
        let (lane, log, release) = lane(2);
        lane.push(1, |jobs| jobs.push(10));
        assert_eq!(log.recv_timeout(PATIENCE), Ok((1, vec![10])));
        for key in 100..120 {
            lane.push(key, |jobs| jobs.push(0));
            assert_eq!(log.recv_timeout(PATIENCE), Ok((key, vec![0])));
        }
        assert!(!lane.wait(SHORT), "one is held");
        release.send(()).expect("heard");
        assert!(lane.wait(PATIENCE));
    }

    #[test]
    fn jobs_of_a_served_key_wait_and_are_merged() {
        let (lane, log, release) = lane(4);
        lane.push(1, |jobs| jobs.push(10));
        assert_eq!(log.recv_timeout(PATIENCE), Ok((1, vec![10])));
        lane.push(1, |jobs| jobs.push(11));
        lane.push(1, |jobs| jobs.push(12));
        assert_eq!(log.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout), "one thread at a time");
        release.send(()).expect("heard");
        assert_eq!(log.recv_timeout(PATIENCE), Ok((1, vec![11, 12])));
        release.send(()).expect("heard");
        assert!(lane.wait(PATIENCE));
    }

    #[test]
    fn threads_are_bounded_and_nothing_is_lost() {
        let (lane, log, release) = lane(3);
        for key in 0..10 {
            lane.push(key, |jobs| jobs.push(key));
        }
        let mut begun: Vec<u32> = (0..3).map(|_| log.recv_timeout(PATIENCE).expect("begun").0).collect();
        assert_eq!(log.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout), "no fourth thread");
        for _ in 0..10 {
            release.send(()).expect("heard");
        }
        begun.extend((0..7).map(|_| log.recv_timeout(PATIENCE).expect("begun").0));
        begun.sort_unstable();
        assert_eq!(begun, (0..10).collect::<Vec<u32>>());
        assert!(lane.wait(PATIENCE));
    }

    #[test]
    fn panic_ends_with_its_key() {
        let (sender, log) = channel();
        let lane: Lane<u32, ()> = Lane::new("test", 1, move |key, ()| {
            assert_ne!(key, 1, "on purpose");
            sender.send(key).expect("heard");
        });
        for key in [1, 2, 1, 3] {
            lane.push(key, |()| ());
        }
        assert!(lane.wait(PATIENCE));
        assert_eq!(log.try_iter().collect::<Vec<u32>>(), [2, 3]);
    }

    #[test]
    fn stopped_lane_returns_what_was_queued() {
        let (lane, log, release) = lane(1);
        lane.push(1, |jobs| jobs.push(10));
        assert_eq!(log.recv_timeout(PATIENCE), Ok((1, vec![10])));
        lane.push(1, |jobs| jobs.push(11));
        lane.push(2, |jobs| jobs.push(20));
        let mut queued = lane.stop();
        queued.sort_unstable();
        assert_eq!(queued, [[11], [20]]);
        assert!(!lane.push(3, |jobs| jobs.push(30)));
        release.send(()).expect("heard");
        assert!(lane.wait(PATIENCE));
    }
}
