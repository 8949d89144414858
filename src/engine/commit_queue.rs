//! Group commit queue: waiters for the next commit, its due time, and the commit permit. One thread at a time has
//! the permit. Nothing is committed here.

use super::CommitCallback;
use crate::clock::Clock;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time until the commit of a change without a waiter.
const COMMIT_DELAY: Duration = Duration::from_millis(50);

/// State of the queue and of the permit.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiters: Vec<CommitCallback>,
    /// Uptime at which to commit even if nobody waits.
    commit_at: Option<Duration>,
    /// Uptime at which the commit thread must restart the WAL.
    restart_at: Option<Duration>,
    /// The WAL is full: no caller commits before the commit thread has restarted it.
    is_log_full: bool,
    /// Until when the commit thread sleeps; None: until it is woken, or it does not sleep.
    sleeps_until: Option<Duration>,
    /// A thread has the permit.
    is_taken: bool,
    /// The commit thread has work and waits for the permit.
    is_permit_awaited: bool,
    phase: Phase,
}

/// Commit permit, released when dropped.
pub(super) struct CommitPermit<'a> {
    queue: &'a CommitQueue,
}

impl Drop for CommitPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.is_taken = false;
        let is_awaited =
            std::mem::take(&mut state.is_permit_awaited) || state.is_log_full || !state.waiters.is_empty();
        drop(state);
        if is_awaited {
            self.queue.wake.notify_one();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Running,
    /// One more commit is made, for all that wait until it begins.
    Stopping,
    /// Nobody will be answered any more.
    Stopped,
}

/// Next work of the commit thread.
pub(super) struct Work {
    /// To be answered after the commit. All that they wait for was applied before they came.
    pub waiters: Vec<CommitCallback>,
    /// The time for a commit has come.
    pub is_due: bool,
    /// The WAL must be restarted before the commit.
    pub is_restart_due: bool,
    /// There will be no more work.
    pub is_last: bool,
}

impl CommitQueue {
    /// Has `done` called after a commit that starts from now on; gives it back when none will.
    pub(super) fn wait(&self, done: CommitCallback) -> Result<(), CommitCallback> {
        let mut state = self.lock();
        if state.phase == Phase::Stopped {
            return Err(done);
        }
        state.waiters.push(done);
        let is_taken = state.is_taken;
        // Woken while the lock or the permit is taken, a commit thread would only block again.
        drop(state);
        if !is_taken {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes the permit if it is free and no waiter is queued for a commit.
    pub(super) fn try_acquire(&self) -> Option<CommitPermit<'_>> {
        let mut state = self.lock();
        if state.is_taken
            || state.is_permit_awaited
            || state.is_log_full
            || !state.waiters.is_empty()
            || state.phase != Phase::Running
        {
            return None;
        }
        state.is_taken = true;
        Some(CommitPermit { queue: self })
    }

    /// Something was applied that nobody waits for.
    pub(super) fn commit_soon(&self, clock: Clock) {
        self.commit_at(clock.uptime() + COMMIT_DELAY);
    }

    /// Sets the time for the next commit, unless one is set.
    pub(super) fn commit_at(&self, uptime: Duration) {
        let mut state = self.lock();
        if state.commit_at.is_none() {
            state.commit_at = Some(uptime);
            let wakes_itself = state.sleeps_until.is_some_and(|wakes_at| wakes_at <= uptime);
            drop(state);
            if !wakes_itself {
                self.wake.notify_one();
            }
        }
    }

    /// Has the commit thread restart the WAL at this uptime at the latest.
    pub(super) fn restart_by(&self, uptime: Duration) {
        let mut state = self.lock();
        // If that is too early, the commit thread finds out, and sets the next time.
        if state.restart_at.is_none() {
            state.restart_at = Some(uptime);
            let wakes_itself = state.sleeps_until.is_some_and(|wakes_at| wakes_at <= uptime);
            drop(state);
            if !wakes_itself {
                self.wake.notify_one();
            }
        }
    }

    /// Has the commit thread restart the WAL before the next commit. Requires the permit, whose release wakes the
    /// commit thread.
    pub(super) fn require_restart(&self) {
        let mut state = self.lock();
        (state.restart_at, state.is_log_full) = (Some(Duration::ZERO), true);
    }

    /// To be called before a commit takes what changed: whatever comes later sets the time anew.
    pub(super) fn commit_starts(&self) {
        self.lock().commit_at = None;
    }

    /// Blocks until there is work and the commit thread has the permit.
    ///
    /// Without anything to do it first sleeps for as long as a change may wait, since changes come in
    /// bursts, and a thread that wakes in time by itself need not be woken by each of them.
    pub(super) fn next(&self, clock: Clock) -> (Work, CommitPermit<'_>) {
        let mut state = self.lock();
        let mut lingers_until = Some(clock.uptime() + COMMIT_DELAY);
        loop {
            let now = clock.uptime();
            let is_due = state.commit_at.is_some_and(|at| at <= now);
            let is_restart_due = state.restart_at.is_some_and(|at| at <= now);
            let is_last = state.phase != Phase::Running;
            if is_due || is_restart_due || is_last || !state.waiters.is_empty() {
                if !state.is_taken {
                    state.is_taken = true;
                    let waiters = std::mem::take(&mut state.waiters);
                    if is_restart_due {
                        (state.restart_at, state.is_log_full) = (None, false);
                    }
                    let work = Work { waiters, is_due, is_restart_due, is_last };
                    return (work, CommitPermit { queue: self });
                }
                state.is_permit_awaited = true;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_permit_awaited = false;
            lingers_until = lingers_until.filter(|until| *until > now);
            let wakes_at = state.commit_at.or(lingers_until);
            state.sleeps_until = wakes_at.into_iter().chain(state.restart_at).min();
            state = match state.sleeps_until {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let waited = self.wake.wait_timeout(state, until.saturating_sub(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.sleeps_until = None;
        }
    }

    /// Asks for a last commit.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Running {
            state.phase = Phase::Stopping;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Whether [`CommitQueue::stop`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        self.lock().phase != Phase::Running
    }

    /// Takes nobody any more; returns who came too late.
    pub(super) fn finish(&self) -> Vec<CommitCallback> {
        let mut state = self.lock();
        state.phase = Phase::Stopped;
        std::mem::take(&mut state.waiters)
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
            .field("commit_at", &self.commit_at)
            .field("is_taken", &self.is_taken)
            .field("phase", &self.phase)
            .finish()
    }
}
