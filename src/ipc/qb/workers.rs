//! The threads of connections. A thread serves one connection at a time; a few that have served theirs
//! wait for the next, as to make and end a thread is a good part of the time of a connect. It knows
//! nothing of what they do.

use super::priority;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Stack of a thread; only what is used of it takes memory.
const STACK_SIZE: usize = 512 << 10;
/// Threads that wait for work.
const IDLE_MAX: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// Threads, as many as there is work.
#[derive(Default)]
pub(crate) struct Workers {
    state: Mutex<State>,
    /// Notified when there is work or an end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What idle threads are about to take.
    work: VecDeque<Work>,
    /// Threads that wait for it, those about to take it included.
    idle: usize,
    closed: bool,
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread do this, at once.
    ///
    /// # Errors
    /// If one is needed and cannot be made; then the work is dropped.
    pub(crate) fn run(self: &Arc<Self>, work: Work) -> io::Result<()> {
        let mut state = self.lock();
        if state.idle > state.work.len() {
            state.work.push_back(work);
            drop(state);
            self.changed.notify_one();
            return Ok(());
        }
        drop(state);
        let workers = Arc::clone(self);
        let thread = std::thread::Builder::new().name("ipc-client".into()).stack_size(STACK_SIZE);
        thread.spawn(move || workers.serve(work)).map(drop)
    }

    /// The life of a thread.
    fn serve(&self, first: Work) {
        priority::give_up();
        let mut work = first;
        loop {
            work();
            let mut state = self.lock();
            if state.closed || state.idle >= IDLE_MAX {
                return;
            }
            state.idle += 1;
            let nothing = |state: &mut State| state.work.is_empty() && !state.closed;
            let waited = self.changed.wait_while(state, nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            match state.work.pop_front() {
                Some(next) => work = next,
                None => return,
            }
        }
    }

    /// Ends the idle threads now, and the others after what they do.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::collections::BTreeSet;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::ThreadId;
    use std::time::Duration;

    /// Longer than anything takes that is not broken, on a busy machine.
    const LIMIT: Duration = Duration::from_secs(20);

    /// Has `count` threads work at the same time; which they were.
    fn work(workers: &Arc<Workers>, count: usize) -> BTreeSet<u64> {
        let (done, threads) = channel();
        let gates: Vec<_> = (0..count)
            .map(|_| {
                let (open, gate): (_, Receiver<()>) = channel();
                let done = done.clone();
                let work = move || {
                    done.send(std::thread::current().id()).unwrap();
                    // Until the other end is dropped.
                    let _ = gate.recv();
                };
                workers.run(Box::new(work)).unwrap();
                open
            })
            .collect();
        let ids: Vec<ThreadId> = threads.iter().take(count).collect();
        drop(gates);
        let number = |id: &ThreadId| {
            let text = format!("{id:?}");
            text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        ids.iter().map(number).collect()
    }

    fn wait_for_idle(workers: &Workers, count: usize) {
        let clock = Clock::start();
        loop {
            let idle = workers.lock().idle;
            if idle == count {
                return;
            }
            assert!(clock.uptime() < LIMIT, "{idle} threads wait for work, not {count}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn each_has_a_thread_and_some_are_used_again() {
        let workers = Arc::new(Workers::default());
        let first = work(&workers, 10);
        assert_eq!(first.len(), 10, "all at the same time");
        wait_for_idle(&workers, IDLE_MAX);
        let again = work(&workers, IDLE_MAX);
        assert!(again.is_subset(&first) && again.len() == IDLE_MAX);
        wait_for_idle(&workers, IDLE_MAX);
        workers.close();
        wait_for_idle(&workers, 0);
        work(&workers, 1);
        assert_eq!(workers.lock().idle, 0, "nobody waits after the end");
    }

    #[test]
    fn a_panic_ends_its_thread_only() {
        let workers = Arc::new(Workers::default());
        workers.run(Box::new(|| panic!("as the test wants"))).unwrap();
        assert_eq!(work(&workers, 3).len(), 3);
        wait_for_idle(&workers, 3);
        workers.close();
    }
}
