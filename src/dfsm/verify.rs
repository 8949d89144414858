//! Verification, the comparison of the members' data: the lowest node sends a request, all members compute a
//! checksum when it is delivered, so at the same place in the order of messages, and compare it with the
//! requester's. Members verify once an hour, as stock does, and twice soon after a round of synchronisation: a
//! change of the membership is the moment at which they can begin to differ.

use super::wire::Epoch;
use std::time::Duration;

/// Time between two requests.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// Times of the two requests after the end of a round. The second one finds what was on its way during the round.
const AFTER_ROUND: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// What is known of the last request.
#[derive(Debug, Default)]
pub(super) struct Verification {
    /// The last request that this node sent.
    asked: u64,
    /// The last request that was delivered.
    id: u64,
    /// The round that request belongs to, and this node's checksum; void after a membership change.
    saved: Option<(Epoch, [u8; 32])>,
    /// Uptime of the last request that was due.
    last: Duration,
    /// Uptime at which the last round ended, and the number of requests since that were due.
    after_round: Option<(Duration, usize)>,
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
    /// Uptime at which the next request is due.
    pub(super) fn due(&self) -> Duration {
        let after_round = self.after_round.and_then(|(ended, made)| Some(ended + *AFTER_ROUND.get(made)?));
        self.last.saturating_add(PERIOD).min(after_round.unwrap_or(Duration::MAX))
    }

    /// Whether a request is due. True once for each.
    pub(super) fn is_due(&mut self, uptime: Duration) -> bool {
        let is_due = uptime >= self.due();
        if is_due {
            self.last = uptime;
        }
        if let Some((ended, made)) = &mut self.after_round {
            *made = AFTER_ROUND.iter().filter(|after| *ended + **after <= uptime).count();
        }
        is_due
    }

    /// A round of synchronisation ended: all members are synced.
    pub(super) fn round_ended(&mut self, uptime: Duration) {
        self.after_round = Some((uptime, 0));
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
        self.after_round = None;
    }
}
