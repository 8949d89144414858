//! A connection to a service of corosync that comes and goes, and when to try again: every service is
//! connected at once, and after a failure or a loss when the last try is some seconds old.

use rust_corosync::CsError;
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

/// A connection that comes and goes.
pub(super) struct Link<C> {
    pub(super) connection: Option<C>,
    retry: Retry,
}

impl<C> Default for Link<C> {
    fn default() -> Self {
        Self { connection: None, retry: Retry::default() }
    }
}

impl<C> Link<C> {
    /// Connects if it is time to; says whether it did.
    pub(super) fn connect(
        &mut self,
        domain: &str,
        open: impl FnOnce() -> Result<C, CsError>,
        uptime: Duration,
    ) -> bool {
        if self.connection.is_some() || !self.retry.is_due(uptime) {
            return false;
        }
        match open() {
            Ok(connection) => {
                self.retry.succeeded();
                self.connection = Some(connection);
                true
            }
            Err(error) => {
                if self.retry.failed() {
                    log::error!(target: domain, "can't initialize service: {domain}_initialize failed: {error}");
                }
                false
            }
        }
    }

    /// When [`Link::connect`] is to be called at the latest; as an uptime.
    pub(super) fn due(&self) -> Duration {
        match self.connection {
            Some(_) => Duration::MAX,
            None => self.retry.due().unwrap_or_default(),
        }
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
