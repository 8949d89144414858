//! Pending sends: submissions that are not sent yet, and tickets of messages that are not delivered back yet.
//! A ticket leaves the table once. Only expiry of unsent submissions is handled here; callers keep their own
//! deadlines.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Identifies a submission whose outcome a caller waits for. The caller chooses a ticket that it is not using
/// at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A request of this node for the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission<R> {
    /// The request.
    pub request: R,
    /// `None` if no caller waits for the outcome.
    pub ticket: Option<Ticket>,
    /// Uptime from which the request must not be sent. It is then dropped, and its ticket gets no result.
    pub expires: Duration,
}

/// Reason why there is no outcome. The request may be carried out nevertheless, unless it was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("this node is not in the cluster's group; it joins again by itself")]
    NotMember,
    #[error("the cluster's group was left before the change came back")]
    Left,
    #[error("the cluster split while the change was under way; it may have been made")]
    Partitioned,
    #[error("the change could not be sent to the cluster")]
    SendFailed,
    #[error("the change does not fit into one message of the cluster; it was not made")]
    TooLong,
}

/// All pending sends.
#[derive(Debug)]
pub(super) struct PendingSends<R> {
    /// Oldest first.
    unsent: VecDeque<Submission<R>>,
    /// Tickets by the counts of their messages.
    sent: BTreeMap<u64, Ticket>,
}

impl<R> Submission<R> {
    /// A request without a waiting caller.
    pub fn unawaited(request: R) -> Self {
        Self { request, ticket: None, expires: Duration::MAX }
    }
}

impl<R> Default for PendingSends<R> {
    fn default() -> Self {
        Self { unsent: VecDeque::new(), sent: BTreeMap::new() }
    }
}

impl<R> PendingSends<R> {
    pub(super) fn push_unsent(&mut self, submission: Submission<R>) {
        self.unsent.push_back(submission);
    }

    pub(super) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    pub(super) fn pop_unsent(&mut self) -> Option<Submission<R>> {
        self.unsent.pop_front()
    }

    /// Notes that the message with this count was sent.
    pub(super) fn sent(&mut self, count: u64, ticket: Ticket) {
        self.sent.insert(count, ticket);
    }

    /// Removes and returns the ticket of the message with this count.
    pub(super) fn take(&mut self, count: u64) -> Option<Ticket> {
        self.sent.remove(&count)
    }

    /// Drops unsent submissions that expired.
    pub(super) fn drop_expired(&mut self, uptime: Duration) {
        self.unsent.retain(|submission| submission.expires > uptime);
    }

    /// Removes and returns all tickets; unsent submissions are dropped.
    pub(super) fn release(&mut self) -> Vec<Ticket> {
        let sent = std::mem::take(&mut self.sent).into_values();
        let unsent = std::mem::take(&mut self.unsent).into_iter().filter_map(|submission| submission.ticket);
        sent.chain(unsent).collect()
    }

    /// Uptime at which the first unsent submission expires.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.unsent.iter().map(|submission| submission.expires).min()
    }
}
