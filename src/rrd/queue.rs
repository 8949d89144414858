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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::RrdSchema;
    use std::thread;

    fn update(number: usize) -> RrdUpdate {
        let values = number.to_string().into_bytes();
        RrdUpdate { schema: RrdSchema::Vm, file: b"pve-vm-9.0/100".to_vec(), values }
    }

    #[test]
    fn the_oldest_are_dropped() {
        let queue = Queue::new(3);
        (0..10).for_each(|number| queue.push(update(number)));
        for number in 7..10 {
            assert_eq!(queue.next(), Next::Write(update(number)));
        }
        assert_eq!(queue.next(), Next::Dropped(7), "told once, when the writer has caught up");
        queue.push(update(10));
        assert_eq!(queue.next(), Next::Write(update(10)));
        thread::scope(|scope| {
            let ended = scope.spawn(|| {
                let next = queue.next();
                queue.end();
                next
            });
            assert!(queue.close(Duration::from_secs(20)));
            assert_eq!(ended.join().unwrap(), Next::End);
        });
    }

    #[test]
    fn a_closed_queue_is_drained_in_time_or_left() {
        let queue = Queue::new(10);
        (0..2).for_each(|number| queue.push(update(number)));
        thread::scope(|scope| {
            let left = scope.spawn(|| queue.close(Duration::from_millis(50)));
            assert!(!left.join().unwrap(), "nobody writes");
        });
        queue.push(update(2));
        assert_eq!(queue.next(), Next::End);

        let queue = Queue::new(10);
        (0..2).for_each(|number| queue.push(update(number)));
        thread::scope(|scope| {
            let closed = scope.spawn(|| queue.close(Duration::from_secs(20)));
            assert_eq!(queue.next(), Next::Write(update(0)));
            assert_eq!(queue.next(), Next::Write(update(1)));
            assert_eq!(queue.next(), Next::End);
            queue.end();
            assert!(closed.join().unwrap());
        });
    }

    #[test]
    fn a_queue_without_room_takes_nothing() {
        let queue = Queue::new(0);
        queue.push(update(0));
        queue.end();
        assert!(queue.close(Duration::ZERO));
        assert_eq!(queue.next(), Next::End);
    }
}
