//! Log throttle by user: the first line of a user is logged, later ones are counted, and the count is logged
//! at the end of the interval. So a user can neither flood the log nor suppress lines of another.

use std::collections::BTreeMap;
use std::time::Duration;

/// Interval in which one line of a user is logged.
const INTERVAL: Duration = Duration::from_secs(60);
/// Most users that are counted separately; all others count as one.
const USERS_MAX: usize = 64;
/// Stands for all users beyond [`USERS_MAX`].
const OTHERS: u32 = u32::MAX;

/// Throttle for lines about users in one log.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    users: BTreeMap<u32, Suppressed>,
}

#[derive(Debug)]
struct Suppressed {
    /// Uptime of the last line.
    logged: Duration,
    count: u64,
}

impl Throttle {
    /// Returns whether to log a line about this user at `now`, an uptime; otherwise counts it.
    pub(crate) fn admit(&mut self, uid: u32, now: Duration) -> bool {
        let is_full = self.users.len() >= USERS_MAX && !self.users.contains_key(&uid);
        let uid = if is_full { OTHERS } else { uid };
        match self.users.get_mut(&uid) {
            Some(suppressed) => {
                suppressed.count += 1;
                false
            }
            None => {
                self.users.insert(uid, Suppressed { logged: now, count: 0 });
                true
            }
        }
    }

    /// Removes and returns the counts of finished intervals: users with their numbers of suppressed lines. A
    /// user without suppressed lines is forgotten.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<(u32, u64)> {
        let mut due = Vec::new();
        self.users.retain(|&uid, suppressed| {
            if now.saturating_sub(suppressed.logged) < INTERVAL {
                return true;
            }
            if suppressed.count > 0 {
                due.push((uid, suppressed.count));
            }
            let keep = suppressed.count > 0;
            *suppressed = Suppressed { logged: now, count: 0 };
            keep
        });
        due
    }

    /// Uptime at which the next interval ends.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.users.values().map(|suppressed| suppressed.logged + INTERVAL).min()
    }
}

/// Name of a user in a line about suppressed ones.
pub(crate) fn user(uid: u32) -> String {
    if uid == OTHERS { "other users".to_owned() } else { format!("user {uid}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn first_line_is_logged_and_the_rest_counted() {
        let mut throttle = Throttle::default();
        assert!(throttle.admit(5, at(0)));
        assert!((1..=50).all(|second| !throttle.admit(5, at(second))));
        assert!(throttle.admit(6, at(50)), "another user");
        assert_eq!((throttle.next_due(), throttle.take_due(at(59))), (Some(at(60)), vec![]));
        assert_eq!(throttle.take_due(at(60)), [(5, 50)]);
        assert!(!throttle.admit(5, at(61)), "at most one line in an interval");
        assert_eq!(throttle.take_due(at(120)), [(5, 1)]);
        assert_eq!(throttle.take_due(at(180)), []);
        assert_eq!(throttle.next_due(), None, "quiet users are forgotten");
        assert!(throttle.admit(5, at(181)));
    }

    #[test]
    fn many_users_count_as_one() {
        let mut throttle = Throttle::default();
        let logged = (1000..3000).filter(|&uid| throttle.admit(uid, at(0))).count();
        assert_eq!(logged, USERS_MAX + 1);
        let due = throttle.take_due(at(60));
        assert_eq!(due, [(OTHERS, 2000 - logged as u64)]);
        assert_eq!(user(OTHERS), "other users");
    }
}
