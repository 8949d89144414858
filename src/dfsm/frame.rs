//! Messages on their way out. What they are made of is shared with who has it; it is put together when
//! corosync takes it, not before. It knows nothing of what the bytes mean.

use super::wire::SyncKind;
use std::sync::Arc;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub purpose: Purpose,
    pub bytes: Pieces,
}

/// What a message is for, to say so when it cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The application's message with this count.
    Normal(u64),
    /// A message of the state machine.
    Sync(SyncKind),
}

/// Bytes in pieces: the contents of files, which are shared, between bytes of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pieces {
    own: Vec<u8>,
    /// Each with the length of `own` that comes before it.
    shared: Vec<(usize, Arc<Vec<u8>>)>,
    shared_len: usize,
}

impl Frame {
    /// The whole message.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }
}

impl Pieces {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.own.len() + self.shared_len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes of its own at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    /// Adds bytes at the end without copying them.
    pub fn share(&mut self, bytes: Arc<Vec<u8>>) {
        self.shared_len += bytes.len();
        self.shared.push((self.own.len(), bytes));
    }

    /// Puts others at the end.
    pub fn append(&mut self, others: Pieces) {
        let before = self.own.len();
        self.own.extend_from_slice(&others.own);
        self.shared.extend(others.shared.into_iter().map(|(at, bytes)| (before + at, bytes)));
        self.shared_len += others.shared_len;
    }

    /// All of it in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        let mut own = self.own.as_slice();
        let mut before = 0;
        for (at, bytes) in &self.shared {
            let (next, rest) = own.split_at(at - before);
            all.extend_from_slice(next);
            all.extend_from_slice(bytes);
            (own, before) = (rest, *at);
        }
        all.extend_from_slice(own);
        all
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(own: Vec<u8>) -> Self {
        Self { own, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(text: &str) -> Arc<Vec<u8>> {
        Arc::new(text.into())
    }

    #[test]
    fn pieces_come_in_their_order() {
        let mut first = Pieces::from(b"a".to_vec());
        first.share(shared("BC"));
        first.share(shared("D"));
        first.push(b"ef");
        let mut second = Pieces::default();
        assert!(second.is_empty());
        second.share(shared("G"));
        second.push(b"h");
        second.share(shared("I"));
        first.append(second);
        assert_eq!(first.to_vec(), b"aBCDefGhI");
        assert_eq!(first.len(), 9);
    }
}
