//! Pending changes: proposed to the group and not delivered back yet. One table with one deadline for each change.
//! Every change leaves the table exactly once: with its outcome, at its deadline, or when the group is left for good.
//!
//! After one timeout, new changes fail immediately. Every 10 s one change is sent as a probe, with a timeout of 2 s.
//! Any message from the group ends this state.

use super::{ChangeCallback, EngineError};
use crate::clock::Clock;
use crate::dfsm::{SendError, Ticket};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Time from submit until a change fails with ETIMEDOUT.
pub const PENDING_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two probes while the group does not respond.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Table of pending changes. Time comes in as a value, so the simulation of clusters uses this table, too.
#[derive(Debug)]
pub struct PendingTable<P> {
    pending: BTreeMap<Ticket, Entry<P>>,
    last_ticket: u64,
    stall: Option<Stall>,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry<P> {
    pending: P,
    registered: Duration,
    deadline: Duration,
}

/// The group does not respond.
#[derive(Debug)]
struct Stall {
    /// Uptime at which the first change that failed was registered.
    since: Duration,
    next_probe: Duration,
}

/// Reason why the table does not accept a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The group does not respond, and no probe is due.
    Stalled,
    /// The group was left for good.
    Closed,
}

impl<P> Default for PendingTable<P> {
    fn default() -> Self {
        Self { pending: BTreeMap::new(), last_ticket: 0, stall: None, is_closed: false }
    }
}

impl<P> PendingTable<P> {
    /// Adds a change. Returns its ticket, and the uptime at which it times out.
    ///
    /// # Errors
    /// The change is returned with the reason.
    pub fn register(&mut self, pending: P, now: Duration) -> Result<(Ticket, Duration), (P, Rejection)> {
        if self.is_closed {
            return Err((pending, Rejection::Closed));
        }
        let timeout = match &mut self.stall {
            None => PENDING_TIMEOUT,
            Some(stall) if now < stall.next_probe => return Err((pending, Rejection::Stalled)),
            Some(stall) => {
                stall.next_probe = now + PROBE_INTERVAL;
                PROBE_TIMEOUT
            }
        };
        let deadline = now + timeout;
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.pending.insert(ticket, Entry { pending, registered: now, deadline });
        Ok((ticket, deadline))
    }

    /// Removes and returns a change; `None` if it left the table before.
    pub fn complete(&mut self, ticket: Ticket) -> Option<P> {
        self.pending.remove(&ticket).map(|entry| entry.pending)
    }

    /// Removes and returns all changes whose deadline passed. The second value is true if they are the first
    /// ones that fail since the group responded.
    pub fn take_expired(&mut self, now: Duration) -> (Vec<P>, bool) {
        let expired: Vec<(Ticket, Duration)> = self
            .pending
            .iter()
            .filter(|(_, entry)| entry.deadline <= now)
            .map(|(ticket, entry)| (*ticket, entry.registered))
            .collect();
        let since = expired.iter().map(|(_, registered)| *registered).min();
        let is_first = since.is_some_and(|since| self.start_stall(since, now));
        (expired.into_iter().filter_map(|(ticket, _)| self.complete(ticket)).collect(), is_first)
    }

    /// The earliest deadline, as an uptime.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.pending.values().map(|entry| entry.deadline).min()
    }

    /// The change could not be sent. Returns true for the first failure since the group responded.
    pub fn on_send_failed(&mut self, ticket: Ticket, now: Duration) -> bool {
        let since = self.pending.get(&ticket).map_or(now, |entry| entry.registered);
        self.start_stall(since, now)
    }

    fn start_stall(&mut self, since: Duration, now: Duration) -> bool {
        let is_first = self.stall.is_none();
        self.stall.get_or_insert(Stall { since, next_probe: now + PROBE_INTERVAL });
        is_first
    }

    /// Called for each message from the group. Returns the length of the stall that it ends.
    pub fn on_group_active(&mut self, now: Duration) -> Option<Duration> {
        self.stall.take().map(|stall| now.saturating_sub(stall.since))
    }

    /// Removes and returns all changes. From now on the table accepts none.
    pub fn close(&mut self) -> Vec<P> {
        self.is_closed = true;
        std::mem::take(&mut self.pending).into_values().map(|entry| entry.pending).collect()
    }
}

/// A change that waits for its delivery.
pub(super) struct PendingChange {
    pub(super) callback: ChangeCallback,
    /// After its delivery it also waits for its commit.
    pub(super) requires_commit: bool,
}

/// The table of an engine, and the thread that watches its deadlines.
pub struct PendingChanges {
    clock: Clock,
    state: Mutex<State>,
    /// The table was closed, or a deadline is earlier than the watching thread's wake-up time.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    table: PendingTable<PendingChange>,
    /// Wake-up time of the watching thread; `None` while it runs.
    sleeps_until: Option<Duration>,
}

impl PendingChanges {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a change. Returns its ticket and deadline, or `None` if it failed and its callback was called.
    pub(super) fn register(&self, change: PendingChange) -> Option<(Ticket, Duration)> {
        let mut state = self.lock();
        match state.table.register(change, self.clock.uptime()) {
            Ok((ticket, deadline)) => {
                if state.sleeps_until.is_some_and(|until| until > deadline) {
                    self.changed.notify_all();
                }
                Some((ticket, deadline))
            }
            Err((change, rejection)) => {
                drop(state);
                let error = match rejection {
                    Rejection::Stalled => EngineError::TimedOut,
                    Rejection::Closed => SendError::NotMember.into(),
                };
                (change.callback)(Err(error));
                None
            }
        }
    }

    /// Removes and returns a change, for its callback; `None` if it timed out.
    pub(super) fn complete(&self, ticket: Ticket) -> Option<PendingChange> {
        self.lock().table.complete(ticket)
    }

    /// Called for each message from the group.
    pub(super) fn on_group_active(&self) {
        let ended = self.lock().table.on_group_active(self.clock.uptime());
        if let Some(stalled) = ended {
            log::info!(target: "dcdb", "the cluster answers again, after {} s", stalled.as_secs());
        }
    }

    /// A change could not be sent.
    pub(super) fn on_send_failed(&self, ticket: Ticket) {
        let is_first = self.lock().table.on_send_failed(ticket, self.clock.uptime());
        log_stall(is_first);
    }

    /// Fails changes at their deadline, until [`PendingChanges::close`].
    pub fn watch(&self) {
        let mut state = self.lock();
        while !state.table.is_closed {
            let now = self.clock.uptime();
            let (expired, is_first) = state.table.take_expired(now);
            if !expired.is_empty() {
                drop(state);
                log_stall(is_first);
                fail_all(expired, &EngineError::TimedOut);
                state = self.lock();
                continue;
            }
            let until = state.table.next_deadline();
            state.sleeps_until = Some(until.unwrap_or(Duration::MAX));
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let waited = self.changed.wait_timeout(state, until.saturating_sub(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.sleeps_until = None;
        }
    }

    /// Fails all changes, now and from now on.
    pub fn close(&self) {
        let all = self.lock().table.close();
        self.changed.notify_all();
        fail_all(all, &SendError::NotMember.into());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The code under this lock leaves no half-changed state, even on a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PendingChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingChanges").field("pending", &self.lock().table.pending.len()).finish()
    }
}

fn log_stall(is_first: bool) {
    if is_first {
        log::error!(
            target: "dcdb",
            "the cluster does not answer - is corosync running well? Changes are refused until it does; reading \
             goes on"
        );
    }
}

fn fail_all(changes: Vec<PendingChange>, error: &EngineError) {
    for change in changes {
        (change.callback)(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::Applied;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    type Answer = Result<Applied, EngineError>;

    fn register(changes: &PendingChanges) -> (Option<Ticket>, Receiver<Answer>) {
        let (sender, receiver) = channel();
        let callback = Box::new(move |answer| sender.send(answer).expect("the test receives"));
        let registered = changes.register(PendingChange { callback, requires_commit: false });
        (registered.map(|(ticket, _)| ticket), receiver)
    }

    #[test]
    fn changes_expire_then_probes_go_out() {
        let (clock, forward) = Clock::forwardable();
        let changes = Arc::new(PendingChanges::new(clock));
        let (first, first_answer) = register(&changes);
        let (second, second_answer) = register(&changes);
        forward.by_seconds(PENDING_TIMEOUT.as_secs() + 1);
        let watched = Arc::clone(&changes);
        let watcher = thread::spawn(move || watched.watch());
        assert_eq!(first_answer.recv(), Ok(Err(EngineError::TimedOut)));
        assert_eq!(second_answer.recv(), Ok(Err(EngineError::TimedOut)));
        for ticket in [first, second] {
            assert!(changes.complete(ticket.expect("registered")).is_none(), "completed twice");
        }
        let (ticket, answer) = register(&changes);
        assert_eq!((ticket, answer.try_recv()), (None, Ok(Err(EngineError::TimedOut))));
        // A probe is due after a while, and has a shorter timeout.
        forward.by_seconds(PROBE_INTERVAL.as_secs() + 1);
        let (probe, probe_answer) = register(&changes);
        assert!(probe.is_some());
        assert_eq!(register(&changes).0, None);
        assert_eq!(probe_answer.recv_timeout(PROBE_TIMEOUT * 5), Ok(Err(EngineError::TimedOut)));
        changes.on_group_active();
        let (ticket, answer) = register(&changes);
        let change = changes.complete(ticket.expect("registered")).expect("pending");
        (change.callback)(Err(EngineError::Storage));
        assert_eq!(answer.recv(), Ok(Err(EngineError::Storage)));
        let (_, answer) = register(&changes);
        changes.close();
        assert_eq!(answer.recv(), Ok(Err(SendError::NotMember.into())));
        watcher.join().expect("ends");
        assert_eq!(register(&changes).1.recv(), Ok(Err(SendError::NotMember.into())));
    }

    #[test]
    fn a_group_that_responds_ends_the_stall() {
        let seconds = Duration::from_secs;
        let mut table = PendingTable::default();
        let (ticket, deadline) = table.register('a', seconds(1)).expect("taken");
        assert_eq!((deadline, table.next_deadline()), (seconds(61), Some(seconds(61))));
        assert_eq!(table.take_expired(seconds(60)), (vec![], false));
        assert_eq!(table.take_expired(seconds(61)), (vec!['a'], true));
        assert_eq!(table.complete(ticket), None);
        assert_eq!(table.register('b', seconds(70)), Err(('b', Rejection::Stalled)));
        let (probe, _) = table.register('b', seconds(72)).expect("a probe is due");
        assert_eq!(table.take_expired(seconds(74)), (vec!['b'], false));
        assert!(!table.on_send_failed(probe, seconds(74)), "the stall is known");
        // The stall began with the change that failed first, not with its timeout.
        assert_eq!(table.on_group_active(seconds(75)), Some(seconds(74)));
        let (ticket, _) = table.register('c', seconds(80)).expect("taken");
        assert!(table.on_send_failed(ticket, seconds(85)));
        assert_eq!(
            (table.complete(ticket), table.on_group_active(seconds(86))),
            (Some('c'), Some(seconds(6)))
        );
        let (ticket, _) = table.register('d', seconds(91)).expect("taken");
        assert_eq!((table.complete(ticket), table.complete(ticket)), (Some('d'), None));
        assert_eq!(table.on_group_active(seconds(92)), None);
    }
}
