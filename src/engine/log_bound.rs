//! Bound of the write-ahead log (WAL): decides when it is checkpointed, and how. A pure state machine: lengths and
//! uptimes come in as values. [`super::checkpoints`] carries out its decisions.
//!
//! A *passive* checkpoint runs beside commits. It copies most pages, but cannot finish while commits are made. Only
//! a *restart* copies all frames between two commits, so that a new log begins. A restart that is due stays due until
//! it succeeds, on whichever path commits are made.

use std::time::Duration;

/// Length at which the log must be restarted, unless other programs prevent it.
pub(super) const LOG_BYTES_MAX: u64 = 4 << 20;

/// Smallest limit on the log's length, on a file system with almost no free space. A restart syncs twice, so it must
/// not follow every commit.
const LOG_BYTES_MIN: u64 = 64 << 10;

/// A restart, which also syncs the log, is due when no commit was made for this long.
const IDLE: Duration = Duration::from_secs(5);

/// A restart is due this long after the first commit since the last restart.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Time between two attempts at a restart that is blocked or fails.
const RETRY: Duration = Duration::from_secs(1);

/// State of one log.
#[derive(Debug, Default)]
pub(super) struct LogBound {
    log_bytes: u64,
    free_bytes: u64,
    /// Uptime of the first commit since the last restart.
    first_commit: Option<Duration>,
    /// The last restart left the log's file as it was.
    is_file_kept: bool,
    last_commit: Duration,
    /// A passive checkpoint was requested since the last restart.
    is_passive_requested: bool,
    obstacle: Option<Obstacle>,
}

/// Restarts are blocked by another program, or fail.
#[derive(Debug)]
struct Obstacle {
    since: Duration,
    retry_at: Duration,
    is_reported: bool,
}

/// The step that a commit makes necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before [`LogBound::due`].
    Nothing,
    /// A passive checkpoint.
    Passive,
    /// A restart before the next commit.
    Restart,
}

impl LogBound {
    /// A commit was made. Each commit must be reported, with the length of the log after it and the free space of
    /// its file system.
    pub(super) fn on_commit(&mut self, log_bytes: u64, free_bytes: u64, now: Duration) -> Step {
        (self.log_bytes, self.free_bytes, self.last_commit) = (log_bytes, free_bytes, now);
        self.first_commit.get_or_insert(now);
        if self.obstacle.is_some() {
            return Step::Nothing;
        }
        if self.is_full() {
            return Step::Restart;
        }
        let wants_passive = log_bytes >= self.limit() / 2 && !self.is_passive_requested;
        self.is_passive_requested |= wants_passive;
        if wants_passive { Step::Passive } else { Step::Nothing }
    }

    /// Uptime at which a restart is due; `None` while the log is empty and its file truncated.
    pub(super) fn due(&self) -> Option<Duration> {
        let idle_at = self.last_commit + IDLE;
        let due = match self.first_commit {
            Some(_) if self.is_full() => self.last_commit,
            Some(first_commit) => idle_at.min(first_commit + AGE_MAX),
            None if self.is_file_kept => idle_at,
            None => return None,
        };
        Some(self.obstacle.as_ref().map_or(due, |obstacle| due.max(obstacle.retry_at)))
    }

    /// Returns true if a restart at this uptime keeps the length of the log's file, for further commits. An idle log
    /// and one without much free space beside it are truncated.
    pub(super) fn keeps_file(&self, now: Duration) -> bool {
        self.limit() == LOG_BYTES_MAX && now < self.last_commit + IDLE
    }

    /// A restart of this uptime succeeded. Returns the duration of the obstacle that ended, if it was reported.
    pub(super) fn on_restart(&mut self, now: Duration) -> Option<Duration> {
        let obstacle = self.obstacle.take();
        *self = Self {
            free_bytes: self.free_bytes,
            last_commit: self.last_commit,
            is_file_kept: self.keeps_file(now),
            ..Self::default()
        };
        obstacle.filter(|obstacle| obstacle.is_reported).map(|obstacle| now.saturating_sub(obstacle.since))
    }

    /// Another program blocked a restart. Returns true once, when that has to be reported: after the second attempt
    /// at a full log, or when the log has become old.
    pub(super) fn on_blocked(&mut self, now: Duration) -> bool {
        let (is_full, since) = (self.is_full(), self.set_obstacle(now));
        let is_lasting = now.saturating_sub(since) >= if is_full { RETRY } else { AGE_MAX };
        let Some(obstacle) = &mut self.obstacle else { return false };
        is_lasting && !std::mem::replace(&mut obstacle.is_reported, true)
    }

    /// A restart failed, which the caller reports.
    pub(super) fn on_failure(&mut self, now: Duration) {
        self.set_obstacle(now);
    }

    /// Length of the log at the last commit.
    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    fn set_obstacle(&mut self, now: Duration) -> Duration {
        let retry_at = now + RETRY;
        let obstacle = self.obstacle.get_or_insert(Obstacle { since: now, retry_at, is_reported: false });
        obstacle.retry_at = retry_at;
        obstacle.since
    }

    fn is_full(&self) -> bool {
        self.log_bytes >= self.limit()
    }

    /// A checkpoint can need as much space as the log has: pages that are not in the file yet, or on file systems
    /// that copy on write all pages. So the log may be as long as the free space beside it.
    fn limit(&self) -> u64 {
        self.free_bytes.clamp(LOG_BYTES_MIN, LOG_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: u64 = 1 << 40;
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn log_of(log_bytes: u64) -> (LogBound, Step) {
        let mut bound = LogBound::default();
        let step = bound.on_commit(log_bytes, PLENTY, at(10));
        (bound, step)
    }

    #[test]
    fn empty_log_is_never_due() {
        let mut bound = LogBound::default();
        assert_eq!(bound.due(), None);
        bound.on_commit(KIB, PLENTY, at(10));
        assert_eq!(bound.on_restart(at(15)), None);
        assert_eq!(bound.due(), None);
    }

    #[test]
    fn half_full_log_requests_one_passive_checkpoint() {
        let (mut bound, step) = log_of(LOG_BYTES_MAX / 2 - 1);
        assert_eq!(step, Step::Nothing);
        let mut commit = |bytes| bound.on_commit(bytes, PLENTY, at(10));
        assert_eq!([commit(2 * MIB), commit(3 * MIB)], [Step::Passive, Step::Nothing]);
        bound.on_restart(at(10));
        assert_eq!(bound.on_commit(2 * MIB, PLENTY, at(10)), Step::Passive);
    }

    #[test]
    fn full_log_is_due_until_it_is_restarted() {
        let (mut bound, step) = log_of(LOG_BYTES_MAX);
        assert_eq!((step, bound.due()), (Step::Restart, Some(at(10))));
        // Any number of commits on other paths does not put it off.
        assert_eq!(bound.on_commit(LOG_BYTES_MAX + KIB, PLENTY, at(11)), Step::Restart);
        assert!(bound.due() <= Some(at(11)));
        bound.on_restart(at(11));
        assert_eq!(bound.due(), Some(at(16)), "its file is truncated when it is idle");
        bound.on_restart(at(16));
        assert_eq!(bound.due(), None);
    }

    #[test]
    fn free_space_bounds_the_log() {
        let mut bound = LogBound::default();
        assert_eq!(bound.on_commit(MIB - 1, MIB, at(1)), Step::Passive);
        assert_eq!(bound.on_commit(MIB, MIB, at(1)), Step::Restart);
        // Another program took the space meanwhile.
        assert_eq!(bound.on_commit(LOG_BYTES_MIN, 0, at(1)), Step::Restart);
        assert_eq!(bound.on_commit(LOG_BYTES_MIN - 1, 0, at(1)), Step::Nothing);
    }

    #[test]
    fn file_is_kept_while_it_is_used() {
        let (mut bound, _) = log_of(LOG_BYTES_MAX);
        assert!(bound.keeps_file(at(14)) && !bound.keeps_file(at(15)));
        bound.on_commit(KIB, LOG_BYTES_MAX - 1, at(20));
        assert!(!bound.keeps_file(at(20)));
    }

    #[test]
    fn idle_log_is_restarted_after_five_seconds() {
        let (mut bound, _) = log_of(KIB);
        assert_eq!(bound.due(), Some(at(15)));
        bound.on_commit(KIB, PLENTY, at(14));
        assert_eq!(bound.due(), Some(at(19)));
    }

    #[test]
    fn log_in_steady_use_is_restarted_each_minute() {
        let (mut bound, _) = log_of(KIB);
        for second in 11..70 {
            bound.on_commit(KIB, PLENTY, at(second));
        }
        assert_eq!(bound.due(), Some(at(70)));
    }

    #[test]
    fn blocked_restart_lets_commits_through_and_is_retried() {
        let (mut bound, _) = log_of(LOG_BYTES_MAX);
        assert!(!bound.on_blocked(at(10)), "the reader may have ended a moment later");
        assert_eq!(bound.on_commit(LOG_BYTES_MAX + KIB, PLENTY, at(10)), Step::Nothing);
        assert_eq!(bound.due(), Some(at(11)));
        assert!(bound.on_blocked(at(11)), "reported");
        assert!(!bound.on_blocked(at(12)), "reported once");
        assert_eq!(bound.on_restart(at(13)), Some(at(3)));
        assert_eq!(log_of(LOG_BYTES_MAX).0.on_restart(at(11)), None);
    }

    #[test]
    fn blocked_restart_of_a_short_log_is_reported_late() {
        let (mut bound, _) = log_of(KIB);
        assert!(!bound.on_blocked(at(15)) && !bound.on_blocked(at(16)));
        assert!(bound.on_blocked(at(15 + 60)));
    }

    #[test]
    fn failed_restart_is_retried_each_second() {
        let (mut bound, _) = log_of(LOG_BYTES_MAX);
        bound.on_failure(at(10));
        assert_eq!(bound.on_commit(2 * LOG_BYTES_MAX, PLENTY, at(10)), Step::Nothing);
        assert_eq!(bound.due(), Some(at(11)));
        assert_eq!(bound.on_restart(at(11)), None);
    }
}
