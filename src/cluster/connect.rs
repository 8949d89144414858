//! When to try again: every service of corosync is connected at once, and after a failure or a loss
//! when the last try is some seconds old.

use std::time::Duration;

/// Time between two tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The tries of one service.
#[derive(Debug, Default)]
pub(super) struct Retry {
    last: Option<Duration>,
    /// The last try failed and that was logged: the next failure of the same kind is not.
    complained: bool,
}

impl Retry {
    /// Whether to try now; if so the try counts as made.
    pub(super) fn is_due(&mut self, uptime: Duration) -> bool {
        let due = self.due().is_none_or(|due| due <= uptime);
        if due {
            self.last = Some(uptime);
        }
        due
    }

    /// When the next try is due; None for at once.
    pub(super) fn due(&self) -> Option<Duration> {
        self.last.map(|last| last + RETRY_INTERVAL)
    }

    /// Notes a failure; says whether it is news.
    pub(super) fn failed(&mut self) -> bool {
        !std::mem::replace(&mut self.complained, true)
    }

    /// Notes success.
    pub(super) fn succeeded(&mut self) {
        self.complained = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_is_at_once_the_next_after_the_interval() {
        let mut retry = Retry::default();
        let start = Duration::from_secs(100);
        assert!(retry.is_due(start));
        assert!(!retry.is_due(start + RETRY_INTERVAL / 2));
        assert!(retry.is_due(start + RETRY_INTERVAL));
        assert_eq!(retry.due(), Some(start + 2 * RETRY_INTERVAL));
    }

    #[test]
    fn a_failure_is_news_once_until_there_is_success() {
        let mut retry = Retry::default();
        assert!(retry.failed());
        assert!(!retry.failed());
        retry.succeeded();
        assert!(retry.failed());
    }
}
