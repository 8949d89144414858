//! Pending sends: requests that are not sent yet, and the tickets of messages that are not delivered back yet. Every
//! ticket leaves it exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Names who waits for an answer. The caller chooses it, and must not use it twice at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Why there is no result. What was asked for may happen nevertheless, unless it was not sent.
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
    #[error("the cluster did not answer in time")]
    TimedOut,
}

/// All who wait.
#[derive(Debug)]
pub(super) struct PendingSends<R> {
    /// Not sent yet, oldest first.
    held: VecDeque<Unsent<R>>,
    /// Sent: the message's count, who waits for it, and how long.
    sent: BTreeMap<u64, (Ticket, Duration)>,
}

#[derive(Debug)]
pub(super) struct Unsent<R> {
    pub(super) request: R,
    pub(super) ticket: Option<(Ticket, Duration)>,
}

impl<R> Default for PendingSends<R> {
    fn default() -> Self {
        Self { held: VecDeque::new(), sent: BTreeMap::new() }
    }
}

impl<R> PendingSends<R> {
    pub(super) fn hold(&mut self, request: R, ticket: Option<(Ticket, Duration)>) {
        self.held.push_back(Unsent { request, ticket });
    }

    pub(super) fn held_len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn next_held(&mut self) -> Option<Unsent<R>> {
        self.held.pop_front()
    }

    pub(super) fn sent(&mut self, count: u64, ticket: (Ticket, Duration)) {
        self.sent.insert(count, ticket);
    }

    /// Who waits for the message with this count; nobody does any more then.
    pub(super) fn take(&mut self, count: u64) -> Option<Ticket> {
        self.sent.remove(&count).map(|(ticket, _)| ticket)
    }

    /// Everybody whose deadline passed. What was not sent will not be.
    pub(super) fn late(&mut self, uptime: Duration) -> Vec<Ticket> {
        let late = |&(_, deadline): &(Ticket, Duration)| deadline <= uptime;
        let mut tickets: Vec<Ticket> =
            self.sent.values().filter(|waiter| late(waiter)).map(|(ticket, _)| *ticket).collect();
        self.sent.retain(|_, waiter| !late(waiter));
        tickets
            .extend(self.held.iter().filter_map(|held| held.ticket.filter(late)).map(|(ticket, _)| ticket));
        self.held.retain(|held| !held.ticket.as_ref().is_some_and(late));
        tickets
    }

    /// Everybody; all is forgotten.
    pub(super) fn release(&mut self) -> Vec<Ticket> {
        let sent = std::mem::take(&mut self.sent).into_values();
        let held = std::mem::take(&mut self.held).into_iter().filter_map(|held| held.ticket);
        sent.chain(held).map(|(ticket, _)| ticket).collect()
    }

    /// The first deadline.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let held = self.held.iter().filter_map(|held| held.ticket);
        self.sent.values().copied().chain(held).map(|(_, deadline)| deadline).min()
    }
}
