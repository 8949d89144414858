//! The hourly comparison of the members' data: the lowest node asks, everybody computes a checksum at
//! the same place in the order of messages, and compares it with that of who asked.

use super::wire::Epoch;
use std::time::Duration;

/// Time between two requests.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// What is known of the last request.
#[derive(Debug, Default)]
pub(super) struct Verification {
    /// The last request that this node sent.
    asked: u64,
    /// The last request that was delivered.
    id: u64,
    /// The round that request belongs to, and this node's checksum; void after a membership change.
    saved: Option<(Epoch, [u8; 32])>,
    last: Duration,
}

/// What a checksum of the asking node means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Equal,
    /// Theirs and ours.
    Different([u8; 32], [u8; 32]),
    /// Nothing to compare with.
    NothingSaved,
}

impl Verification {
    /// When the next request is due.
    pub(super) fn due(&self) -> Duration {
        self.last.saturating_add(PERIOD)
    }

    /// Whether an hour went by since the last time it had. True once for each hour.
    pub(super) fn hour_passed(&mut self, uptime: Duration) -> bool {
        let passed = uptime >= self.due();
        if passed {
            self.last = uptime;
        }
        passed
    }

    /// The number of a new request, unless one is on its way.
    pub(super) fn ask(&mut self) -> Option<u64> {
        if self.asked != self.id {
            return None;
        }
        self.asked = self.asked.wrapping_add(1);
        Some(self.asked)
    }

    /// The last request could not be sent: nothing is on its way.
    pub(super) fn not_sent(&mut self) {
        self.id = self.asked;
    }

    /// A request was delivered, and this is the checksum of this node's data.
    pub(super) fn save(&mut self, id: u64, epoch: Epoch, checksum: [u8; 32]) {
        self.id = id;
        self.saved = Some((epoch, checksum));
    }

    /// Compares with the checksum of who asked.
    pub(super) fn compare(&self, id: u64, epoch: Epoch, theirs: [u8; 32]) -> Verdict {
        match self.saved {
            Some((saved, ours)) if self.id == id && saved == epoch => {
                if ours == theirs {
                    Verdict::Equal
                } else {
                    Verdict::Different(theirs, ours)
                }
            }
            _ => Verdict::NothingSaved,
        }
    }

    /// The membership changed: checksums of before mean nothing, and no request is awaited.
    pub(super) fn void(&mut self) {
        self.id = self.asked;
        self.saved = None;
    }
}
