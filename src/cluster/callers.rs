//! Local callers who wait for their change to come back from the group. Each is answered exactly once:
//! by the cluster thread, or, when that does not get to it in time, by a thread that only looks at the
//! time. So nobody waits for ever, whatever corosync or the cluster thread does.
//!
//! Once a caller has waited in vain the others do not wait as long, one after the other: until something
//! is heard of the group they are refused at once, but for one now and then that tries.

use crate::clock::Clock;
use crate::dfsm::{ANSWER_TIMEOUT, SendError, Ticket};
use crate::engine::{ChangeCallback, EngineError};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// While the cluster does not answer: time between two who try.
const TRY_INTERVAL: Duration = Duration::from_secs(10);
/// How long such a caller waits.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// One who waits.
pub(super) struct Caller {
    pub(super) done: ChangeCallback,
    /// To be answered when the change is stored.
    pub(super) requires_commit: bool,
}

/// All who wait.
pub(super) struct Callers {
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<Ticket, (Caller, Duration)>,
    last_ticket: u64,
    stall: Option<Stall>,
    /// Until when [`Callers::watch`] sleeps, if it does.
    sleeps_until: Option<Duration>,
    /// Nobody will be answered by the group any more.
    closed: bool,
}

/// The cluster does not answer.
struct Stall {
    since: Duration,
    next_try: Duration,
}

impl Callers {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Lets a caller wait. None: it was answered already.
    pub(super) fn enter(&self, done: ChangeCallback, requires_commit: bool) -> Option<Ticket> {
        let now = self.clock.uptime();
        let mut state = self.lock();
        let refusal = if state.closed { Some(SendError::NotMember) } else { state.stalled(now) };
        if let Some(refusal) = refusal {
            drop(state);
            done(Err(EngineError::from(refusal)));
            return None;
        }
        let deadline = now + if state.stall.is_some() { TRY_TIMEOUT } else { ANSWER_TIMEOUT };
        state.last_ticket += 1;
        let ticket = Ticket(state.last_ticket);
        state.waiting.insert(ticket, (Caller { done, requires_commit }, deadline));
        if state.sleeps_until.is_some_and(|until| until > deadline) {
            self.changed.notify_all();
        }
        Some(ticket)
    }

    /// Whether somebody waits for this.
    pub(super) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.lock().waiting.contains_key(&ticket)
    }

    /// Who waits for this, to be answered.
    pub(super) fn take(&self, ticket: Ticket) -> Option<Caller> {
        self.lock().waiting.remove(&ticket).map(|(caller, _)| caller)
    }

    /// The group lives.
    pub(super) fn heard(&self) {
        let ended = self.lock().stall.take();
        if let Some(stall) = ended {
            let seconds = self.clock.uptime().saturating_sub(stall.since).as_secs();
            log::info!(target: "dcdb", "the cluster answers again, after {seconds} s");
        }
    }

    /// A change got no answer in time.
    pub(super) fn waited_in_vain(&self) {
        let now = self.clock.uptime();
        self.lock().begin_stall(now);
    }

    /// Answers those who have waited too long, until [`Callers::close`].
    pub(super) fn watch(&self) {
        let mut state = self.lock();
        while !state.closed {
            let now = self.clock.uptime();
            let late = state.take_late(now);
            if !late.is_empty() {
                state.begin_stall(now);
                drop(state);
                answer(late, SendError::TimedOut);
                state = self.lock();
                continue;
            }
            let until = state.waiting.values().map(|(_, deadline)| *deadline).min();
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

    /// Releases everybody, now and from now on.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let all = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        answer(all.into_values().map(|(caller, _)| caller).collect(), SendError::NotMember);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Why a new caller need not wait, if so.
    fn stalled(&mut self, now: Duration) -> Option<SendError> {
        let stall = self.stall.as_mut()?;
        if now < stall.next_try {
            return Some(SendError::TimedOut);
        }
        stall.next_try = now + TRY_INTERVAL;
        None
    }

    fn begin_stall(&mut self, now: Duration) {
        if self.stall.is_none() {
            self.stall = Some(Stall { since: now, next_try: now + TRY_INTERVAL });
            log::error!(
                target: "dcdb",
                "the cluster does not answer - is corosync running well? Changes are refused until it does; reading \
                 goes on"
            );
        }
    }

    fn take_late(&mut self, now: Duration) -> Vec<Caller> {
        let late = |(_, (_, deadline)): &(&Ticket, &(Caller, Duration))| *deadline <= now;
        let tickets: Vec<Ticket> = self.waiting.iter().filter(late).map(|(ticket, _)| *ticket).collect();
        let taken = tickets.iter().filter_map(|ticket| self.waiting.remove(ticket));
        taken.map(|(caller, _)| caller).collect()
    }
}

fn answer(callers: Vec<Caller>, why: SendError) {
    for caller in callers {
        (caller.done)(Err(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    type Answer = Result<crate::memdb::Applied, EngineError>;

    fn enter(callers: &Callers) -> (Option<Ticket>, Receiver<Answer>) {
        let (sender, receiver) = channel();
        let ticket = callers.enter(Box::new(move |answer| sender.send(answer).expect("heard")), false);
        (ticket, receiver)
    }

    fn late() -> Answer {
        Err(SendError::TimedOut.into())
    }

    #[test]
    fn who_waits_too_long_is_answered_and_who_comes_then_at_once() {
        let (clock, forward) = Clock::forwardable();
        let callers = Arc::new(Callers::new(clock));
        let (first, first_answer) = enter(&callers);
        let (second, second_answer) = enter(&callers);
        forward.by_seconds(ANSWER_TIMEOUT.as_secs() + 1);
        let watched = Arc::clone(&callers);
        let watcher = thread::spawn(move || watched.watch());
        assert_eq!(first_answer.recv(), Ok(late()));
        assert_eq!(second_answer.recv(), Ok(late()));
        for ticket in [first, second] {
            assert!(callers.take(ticket.expect("waited")).is_none(), "answered");
        }
        let (ticket, answer) = enter(&callers);
        assert_eq!((ticket, answer.try_recv()), (None, Ok(late())));
        // One may try after a while, and for a shorter time.
        forward.by_seconds(TRY_INTERVAL.as_secs() + 1);
        let (ticket, tried) = enter(&callers);
        assert!(ticket.is_some_and(|ticket| callers.is_waiting(ticket)));
        assert_eq!(enter(&callers).0, None);
        assert_eq!(tried.recv_timeout(TRY_TIMEOUT * 5), Ok(late()));
        // Something was heard.
        callers.heard();
        let (ticket, answer) = enter(&callers);
        let caller = callers.take(ticket.expect("waits")).expect("waits");
        (caller.done)(Err(EngineError::Storage));
        assert_eq!(answer.recv(), Ok(Err(EngineError::Storage)));
        let (_, answer) = enter(&callers);
        callers.close();
        assert_eq!(answer.recv(), Ok(Err(SendError::NotMember.into())));
        watcher.join().expect("ends");
        assert_eq!(enter(&callers).1.recv(), Ok(Err(SendError::NotMember.into())));
    }
}
