//! The only place that reads a clock. Everything else is handed time as a value, so that the core
//! can be replayed: [`Clock::unix`] for what is stored, [`Clock::uptime`] for what is compared.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, as the database and the wire store them.
pub type UnixTime = u32;

/// A running clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

impl Clock {
    /// A clock whose uptime starts now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The wall clock. Times outside of 32 bits saturate, as they cannot be stored.
    pub fn unix(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime::try_from(since.as_secs()).unwrap_or(UnixTime::MAX)
    }

    /// Time since [`Clock::start`]; it never goes back, whatever an admin does to the wall clock.
    pub fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }
}
