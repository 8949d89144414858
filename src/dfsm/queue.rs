//! Messages that wait until they can be applied. It knows in which order they will be, not when.

use super::wire::MemberId;
use std::collections::VecDeque;

/// A message of the application as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) from: MemberId,
    pub(super) count: u64,
    pub(super) bytes: Vec<u8>,
    /// Others had it who are no members any more: they may have applied it.
    pub(super) is_shared: bool,
}

/// Both queues.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By the senders' counts, those with the same count by arrival: all members must have the same
    /// order, also when messages were sent again.
    messages: VecDeque<Queued>,
    /// What synced members have applied by now while this node waits for updates, by arrival.
    synced: VecDeque<Queued>,
}

impl Queue {
    /// Adds a message in the order of counts.
    pub(super) fn push(&mut self, message: Queued) {
        let at = self.messages.partition_point(|queued| queued.count <= message.count);
        self.messages.insert(at, message);
    }

    /// Adds a message in the order of arrival.
    pub(super) fn push_synced(&mut self, message: Queued) {
        self.synced.push_back(message);
    }

    /// Somebody who had all that is queued is no member any more.
    pub(super) fn parted(&mut self) {
        self.messages.iter_mut().for_each(|queued| queued.is_shared = true);
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn synced_len(&self) -> usize {
        self.synced.len()
    }

    /// Takes all messages; the queue is empty then.
    pub(super) fn take(&mut self) -> VecDeque<Queued> {
        std::mem::take(&mut self.messages)
    }

    /// Puts messages back that were taken and are still in order; none came meanwhile.
    pub(super) fn put_back(&mut self, messages: VecDeque<Queued>) {
        debug_assert!(self.messages.is_empty());
        self.messages = messages;
    }

    pub(super) fn pop_synced(&mut self) -> Option<Queued> {
        self.synced.pop_front()
    }

    pub(super) fn drop_synced(&mut self) {
        self.synced.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_first_then_arrival() {
        let mut queue = Queue::default();
        for (node, count) in [(2, 5), (1, 5), (3, 4), (1, 6), (2, 4)] {
            let from = MemberId { node, pid: 1 };
            queue.push(Queued { from, count, bytes: Vec::new(), is_shared: false });
        }
        let order: Vec<_> = queue.take().iter().map(|queued| (queued.count, queued.from.node)).collect();
        assert_eq!(order, [(4, 3), (4, 2), (5, 2), (5, 1), (6, 1)]);
        assert_eq!(queue.len(), 0);
    }
}
