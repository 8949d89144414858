//! How much of what was sent has not come back, and whether more may be sent.

/// The library's call to send rings a bell, in a loop without end while corosync stands still and its
/// bell is full, which is after some 270 messages.
const MESSAGES_MAX: usize = 128;

/// What corosync takes faster than a member reads it piles up in front of that member, and corosync,
/// which comes before all other processes, keeps a processor busy with trying to hand it over.
const BYTES_MAX: usize = 384 << 10;

/// Messages under way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    messages: usize,
    bytes: usize,
}

impl InFlight {
    /// Whether there is room for a message of this length. For one there always is.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.messages == 0 || (self.messages < MESSAGES_MAX && self.bytes + len <= BYTES_MAX)
    }

    /// A message was sent.
    pub(super) fn sent(&mut self, len: usize) {
        self.messages += 1;
        self.bytes += len;
    }

    /// A message came back.
    pub(super) fn back(&mut self, len: usize) {
        // What was sent before a change of the membership comes back when it is not counted any more.
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_bytes_are_bounded() {
        let mut small = InFlight::default();
        for _ in 0..MESSAGES_MAX {
            assert!(small.has_room(1));
            small.sent(1);
        }
        assert!(!small.has_room(1));
        small.back(1);
        assert!(small.has_room(1));

        let mut large = InFlight::default();
        assert!(large.has_room(2 * BYTES_MAX), "or it could never be sent");
        large.sent(2 * BYTES_MAX);
        assert!(!large.has_room(0));
        large.back(2 * BYTES_MAX);
        large.back(1);
        assert!(large.has_room(BYTES_MAX));
    }
}
