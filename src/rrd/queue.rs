//! The queue between those who have RRD updates and the one thread that writes them. It is bounded
//! and drops the oldest; nobody who pushes waits for the writer.

use crate::status::RrdUpdate;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// Something was pushed, or the queue was closed.
    pushed: Condvar,
    /// The writer has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    updates: VecDeque<RrdUpdate>,
    /// Dropped since the queue was last empty.
    dropped: u64,
    closed: Closed,
    writer_ended: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Closed {
    #[default]
    Open,
    /// Nothing more is taken; what is there is still handed out.
    Draining,
    /// Nothing more is handed out either.
    Abandoned,
}

/// What the writer has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write(RrdUpdate),
    /// The writer has caught up after so many updates were dropped.
    Dropped(u64),
    End,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Queue {
        Queue { capacity, state: Mutex::default(), pushed: Condvar::new(), ended: Condvar::new() }
    }

    /// No invariant spans a panic: every change of the state is complete by itself.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, update: RrdUpdate) {
        let mut state = self.lock();
        if state.closed != Closed::Open || self.capacity == 0 {
            return;
        }
        if state.updates.len() >= self.capacity {
            state.updates.pop_front();
            state.dropped += 1;
        }
        state.updates.push_back(update);
        drop(state);
        self.pushed.notify_one();
    }

    /// Waits for work.
    pub(super) fn next(&self) -> Next {
        let idle = |state: &mut State| {
            state.updates.is_empty() && state.dropped == 0 && state.closed == Closed::Open
        };
        let mut state = self.pushed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.closed == Closed::Abandoned {
            return Next::End;
        }
        match state.updates.pop_front() {
            Some(update) => Next::Write(update),
            None if state.dropped > 0 => Next::Dropped(std::mem::take(&mut state.dropped)),
            None => Next::End,
        }
    }

    /// The writer's last call.
    pub(super) fn end(&self) {
        self.lock().writer_ended = true;
        self.ended.notify_all();
    }

    /// Takes nothing more and waits for the writer to end; false when it did not in time.
    pub(super) fn close(&self, patience: Duration) -> bool {
        self.lock().closed = Closed::Draining;
        self.pushed.notify_all();
        let running = |state: &mut State| !state.writer_ended;
        let (mut state, _) = self
            .ended
            .wait_timeout_while(self.lock(), patience, running)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.writer_ended {
            state.closed = Closed::Abandoned;
        }
        state.writer_ended
    }
}
