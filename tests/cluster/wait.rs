//! Waiting for conditions.

use std::time::{Duration, Instant};

/// Nothing here takes this long, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What another node did is seen here this soon, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(5);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(3);

/// Waits for a condition; a test that waits in vain fails with its name.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(PATIENCE, condition), "waited in vain until {what}");
}

/// Waits for what must not take long.
#[track_caller]
pub fn soon(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(SOON, condition), "not seen soon: {what}");
}

/// Whether a condition was met in time.
pub fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}
