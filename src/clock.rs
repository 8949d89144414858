//! The only place that reads a clock. Everything else is handed time as a value, so that the core
//! can be replayed: [`Clock::unix`] for what is stored, [`Clock::uptime`] for what is compared.

mod calendar;

pub use calendar::{utc, utc_for_name};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, as the database and the wire store them.
pub type UnixTime = u32;

/// A running clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    /// How far its uptime was put forward; None for a clock that cannot be.
    forward: Option<Forward>,
}

/// Puts the uptime of one clock forward, for who would otherwise have to wait to see what age does.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    seconds: &'static AtomicU64,
}

impl Forward {
    /// From now on the uptime is ahead by this much more.
    pub fn by_seconds(self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// A stored time as the standard library has it.
pub fn to_system(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.into())
}

/// A time as it is stored: whole seconds, of which the lower 32 bits are kept, as in stock. In times
/// before 1970 the nanoseconds must count away from it, as fuser makes them of the kernel's.
pub fn from_system(time: SystemTime) -> UnixTime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs() as UnixTime,
        Err(before) => (before.duration().as_secs() as UnixTime).wrapping_neg(),
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

impl Clock {
    /// A clock whose uptime starts now.
    pub fn start() -> Self {
        Self { origin: Instant::now(), forward: None }
    }

    /// As [`Clock::start`], with a hand on it. What the two share is never freed.
    pub fn forwardable() -> (Self, Forward) {
        let forward = Forward { seconds: Box::leak(Box::default()) };
        (Self { forward: Some(forward), ..Self::start() }, forward)
    }

    /// The wall clock. Times outside of 32 bits saturate, as they cannot be stored.
    pub fn unix(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime::try_from(since.as_secs()).unwrap_or(UnixTime::MAX)
    }

    /// Time since [`Clock::start`]; it never goes back, whatever an admin does to the wall clock.
    pub fn uptime(&self) -> Duration {
        let ahead = self.forward.map_or(0, |forward| forward.seconds.load(Ordering::Relaxed));
        self.origin.elapsed() + Duration::from_secs(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, from_system, to_system};
    use std::time::Duration;

    #[test]
    fn stored_times_go_round() {
        for time in [0, 1, 1_234_567_890, u32::MAX] {
            assert_eq!(from_system(to_system(time)), time);
        }
        assert_eq!(from_system(to_system(7) + Duration::from_millis(900)), 7);
    }

    #[test]
    fn times_that_cannot_be_stored_wrap() {
        let beyond = to_system(u32::MAX) + Duration::from_secs(3);
        assert_eq!(from_system(beyond), 2);
        assert_eq!(from_system(to_system(0) - Duration::from_secs(1)), u32::MAX);
        assert_eq!(from_system(to_system(0) - Duration::from_millis(5999)), u32::MAX - 4);
    }

    #[test]
    fn a_clock_is_put_forward() {
        let (clock, forward) = Clock::forwardable();
        let before = clock.uptime();
        forward.by_seconds(121);
        assert!(clock.uptime() >= before + Duration::from_secs(121));
    }
}
