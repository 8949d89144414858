//! A short wait before a long one. Putting a thread to sleep and waking it costs tens of microseconds on
//! each side of a connection, while the next message often comes within a few. So the processor is offered
//! to others for a while, and the ring looked at in between.

use super::ring::Ring;
use super::sem;

/// How the other end is waited for before the thread goes to sleep. Each time that was in vain it is left
/// out for longer, so that a client which asks now and then, or a service that takes its time, costs
/// nothing.
#[derive(Debug)]
pub(crate) struct Patience {
    /// How often not to wait from now on.
    skip: u32,
    /// How often it was left out last time.
    penalty: u32,
}

impl Patience {
    /// Some tens of microseconds.
    const YIELDS: u32 = 100;
    const PENALTY_MAX: u32 = 63;

    /// Has some, but leaves out the wait the first `skip` times.
    pub(crate) fn new(skip: u32) -> Self {
        Self { skip, penalty: 0 }
    }

    /// Waits for a moment; tells whether a message has come.
    pub(crate) fn linger(&mut self, messages: &Ring) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        for _ in 0..Self::YIELDS {
            if sem::is_open(messages.semaphore()) {
                self.penalty = 0;
                return true;
            }
            std::thread::yield_now();
        }
        self.penalty = (2 * self.penalty + 1).min(Self::PENALTY_MAX);
        self.skip = self.penalty;
        false
    }
}
