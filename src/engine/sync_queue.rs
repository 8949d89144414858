//! Group sync: syncs of the write-ahead log to the disk, and their waiters. All waiters that are queued when a sync
//! starts share it; a later one needs the next. Transactions that no caller waits for are synced after a delay.
//!
//! Commits neither wait for a sync nor start one. The log is the only file that is synced here; checkpoints sync the
//! database themselves, and report the transactions that they made durable.

use super::{CommitCallback, EngineError, OpenError};
use crate::clock::Clock;
use crate::store::{LogSync, Store};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longest time that a committed transaction stays unsynced if no caller waits for its sync.
pub const SYNC_DELAY: Duration = Duration::from_secs(10);

/// Queue of callers that wait for a sync, with the numbers of committed and of synced transactions.
#[derive(Debug)]
pub(super) struct SyncQueue {
    clock: Clock,
    delay: Duration,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiters: Vec<CommitCallback>,
    /// Transactions committed so far. The log as it was at the start counts as one.
    commits: u64,
    /// Number of transactions that are synced; the later ones up to `commits` are not.
    synced: u64,
    /// Uptime at which a sync starts without a waiter; `None` if all transactions are synced.
    sync_at: Option<Duration>,
    /// A sync failed. The kernel reports such an error once and drops the pages, so a later sync of the same pages
    /// proves nothing. Waiters fail, and no further sync is made.
    has_failed: bool,
    is_stopped: bool,
}

/// Work of the sync thread.
struct Work {
    waiters: Vec<CommitCallback>,
    /// Transactions that the sync covers.
    commits: u64,
    is_last: bool,
}

impl SyncQueue {
    pub(super) fn new(clock: Clock, delay: Duration) -> Self {
        let sync_at = Some(clock.uptime() + delay);
        let state = State { commits: 1, sync_at, ..State::default() };
        Self { clock, delay, state: Mutex::new(state), wake: Condvar::new() }
    }

    /// A transaction was committed. To be called before its waiters can learn of it.
    pub(super) fn on_commit(&self) {
        let mut state = self.lock();
        state.commits += 1;
        if state.sync_at.is_none() && !state.has_failed {
            state.sync_at = Some(self.clock.uptime() + self.delay);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Calls `done` once every transaction committed so far is on the disk: in this thread if that is so already, else
    /// in the sync thread. Never blocks.
    pub(super) fn wait(&self, done: CommitCallback) {
        let mut state = self.lock();
        let outcome = if state.is_stopped {
            Err(EngineError::Closed)
        } else if state.has_failed {
            Err(EngineError::Storage)
        } else if state.synced == state.commits {
            Ok(())
        } else {
            state.waiters.push(done);
            drop(state);
            self.wake.notify_one();
            return;
        };
        drop(state);
        done(outcome);
    }

    /// Returns true if all transactions are synced.
    pub(super) fn is_synced(&self) -> bool {
        let state = self.lock();
        state.synced == state.commits
    }

    /// Blocks until a sync is due.
    fn next(&self) -> Work {
        let mut state = self.lock();
        loop {
            let now = self.clock.uptime();
            let is_due = state.sync_at.is_some_and(|at| at <= now);
            if is_due || state.is_stopped || !state.waiters.is_empty() {
                let waiters = std::mem::take(&mut state.waiters);
                return Work { waiters, commits: state.commits, is_last: state.is_stopped };
            }
            state = match state.sync_at {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let waited = self.wake.wait_timeout(state, at.saturating_sub(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The first so many transactions are synced.
    fn on_synced(&self, commits: u64) {
        let mut state = self.lock();
        state.synced = commits;
        // The oldest transaction that is left was committed after the sync started.
        let is_clean = state.synced == state.commits;
        state.sync_at = if is_clean { None } else { Some(self.clock.uptime() + self.delay) };
    }

    /// Returns the waiters that came during the sync that failed.
    fn on_failure(&self) -> Vec<CommitCallback> {
        let mut state = self.lock();
        (state.has_failed, state.sync_at) = (true, None);
        std::mem::take(&mut state.waiters)
    }

    fn stop(&self) {
        self.lock().is_stopped = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("State")
            .field("waiters", &self.waiters.len())
            .field("commits", &self.commits)
            .field("synced", &self.synced)
            .field("has_failed", &self.has_failed)
            .finish()
    }
}

/// The sync thread.
#[derive(Debug)]
pub(super) struct SyncThread {
    queue: Arc<SyncQueue>,
    thread: Option<JoinHandle<()>>,
}

impl SyncThread {
    pub(super) fn start(store: &Store, queue: Arc<SyncQueue>) -> Result<Self, OpenError> {
        let mut log = store.log_sync()?;
        let thread = thread::Builder::new().name("sync".to_owned());
        let shared = Arc::clone(&queue);
        let thread = thread.spawn(move || work(&shared, &mut log)).map_err(OpenError::Thread)?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Syncs all transactions, completes all waiters, and ends the thread. Later waiters fail.
    pub(super) fn stop(&mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take() {
            // It has no result; a panic was reported.
            let _ = thread.join();
        }
    }
}

fn work(queue: &SyncQueue, log: &mut LogSync) {
    loop {
        let Work { mut waiters, commits, is_last } = queue.next();
        let synced = log.run();
        match &synced {
            Ok(()) => queue.on_synced(commits),
            Err(error) => {
                waiters.extend(queue.on_failure());
                log::error!(
                    target: "database",
                    "{error}; fsync fails until pmxcfs is restarted, and a power failure may lose the latest changes"
                );
            }
        }
        for waiter in waiters {
            let outcome = if synced.is_ok() { Ok(()) } else { Err(EngineError::Storage) };
            if catch_unwind(AssertUnwindSafe(|| waiter(outcome))).is_err() {
                log::error!(target: "database", "a request failed while it was answered after a sync");
            }
        }
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, TryRecvError, channel};

    fn queue() -> SyncQueue {
        SyncQueue::new(Clock::start(), Duration::from_secs(60))
    }

    fn wait(queue: &SyncQueue) -> Receiver<Result<(), EngineError>> {
        let (sender, receiver) = channel();
        queue.wait(Box::new(move |outcome| sender.send(outcome).expect("the test receives")));
        receiver
    }

    #[test]
    fn waiter_during_sync_needs_next_sync() {
        let queue = queue();
        let first = [wait(&queue), wait(&queue)];
        let work = queue.next();
        assert_eq!(work.waiters.len(), 2, "both share the sync");
        queue.on_commit();
        let second = wait(&queue);
        queue.on_synced(work.commits);
        work.waiters.into_iter().for_each(|waiter| waiter(Ok(())));
        assert!(!queue.is_synced(), "the sync does not cover the commit beside it");
        assert!(first.iter().all(|reply| reply.try_recv() == Ok(Ok(()))));
        assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
        let work = queue.next();
        assert_eq!(work.waiters.len(), 1);
        queue.on_synced(work.commits);
        assert_eq!(wait(&queue).try_recv(), Ok(Ok(())), "nothing was committed since");
    }

    #[test]
    fn transaction_is_synced_after_delay() {
        let queue = SyncQueue::new(Clock::start(), Duration::from_millis(20));
        for _ in 0..3 {
            let start = queue.clock.uptime();
            queue.on_commit();
            let work = queue.next();
            queue.on_synced(work.commits);
            assert!(work.waiters.is_empty() && queue.lock().sync_at.is_none());
            // The log of the start is due first.
            assert!(queue.clock.uptime() - start >= Duration::from_millis(15));
        }
    }

    #[test]
    fn failed_sync_fails_later_waiters() {
        let queue = queue();
        let first = wait(&queue);
        let work = queue.next();
        let second = wait(&queue);
        let late = queue.on_failure();
        late.into_iter().chain(work.waiters).for_each(|waiter| waiter(Err(EngineError::Storage)));
        for reply in [first, second, wait(&queue)] {
            assert_eq!(reply.try_recv(), Ok(Err(EngineError::Storage)));
        }
    }

    #[test]
    fn stopped_queue_refuses_waiters() {
        let queue = queue();
        let early = wait(&queue);
        queue.stop();
        assert_eq!(wait(&queue).try_recv(), Ok(Err(EngineError::Closed)));
        let work = queue.next();
        assert!(work.is_last && work.waiters.len() == 1);
        assert_eq!(early.try_recv(), Err(TryRecvError::Empty), "it shares the last sync");
    }
}
