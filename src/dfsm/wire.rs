//! The messages of a group: headers, epochs and what belongs to the state machine itself, in the
//! bytes that stock nodes send. What an application sends is an opaque payload here.
//!
//! Bytes may be anything: every length is checked, and what is refused says what was wrong.

use crate::clock::UnixTime;
use std::fmt;

/// A process in a group. The order is that in which members are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    pub node: u32,
    pub pid: u32,
}

/// Identifies one round of synchronisation. The counter is unique only within its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    pub counter: u32,
    pub time: UnixTime,
    pub node: u32,
    pub pid: u32,
}

/// What every message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What kind of message: [`NORMAL`], or the number of a [`SyncKind`].
    pub kind: u16,
    /// For normal messages, which of the application's.
    pub subtype: u16,
    pub protocol_version: u32,
    /// When it was sent, as the sender's wall clock says.
    pub time: UnixTime,
    /// Stock sends 0 and never looks. Ours may carry bits of an [`Extension`].
    pub extension: Extension,
}

/// Bits of our own in a field that stock nodes send as 0 and ignore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extension(pub u32);

/// A whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    Normal(Normal<'a>),
    Sync(Sync<'a>),
}

/// A message of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normal<'a> {
    pub base: Base,
    /// The sender's own running number, from 1.
    pub count: u64,
    pub payload: &'a [u8],
}

/// A message of the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sync<'a> {
    pub base: Base,
    pub epoch: Epoch,
    pub payload: &'a [u8],
}

/// What a message of the state machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKind {
    /// Begins a round; everybody answers with a state.
    Start = 1,
    /// Everything the sender has, or digests of it.
    State = 2,
    /// One entry that some member lacks.
    Update = 3,
    /// No more updates follow.
    UpdateComplete = 4,
    /// Asks everybody to compute a checksum.
    VerifyRequest = 5,
    /// The checksum of who asked.
    Verify = 6,
}

/// Why bytes are no message of this group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("received short message ({len} bytes)")]
    Short { len: usize },
    /// Its sender is newer than we are: nothing more of it may be looked at.
    #[error("received message with protocol version {0}")]
    Newer(u32),
    /// To be ignored.
    #[error("ignore message with old protocol version {0}")]
    Older(u32),
    #[error("received short message (type {kind}, subtype {subtype}, {len} bytes)")]
    ShortHeader { kind: u16, subtype: u16, len: usize },
    #[error("received message of type {kind} with wrong length ({len} bytes)")]
    Length { kind: u16, len: usize },
}

/// The kind of an application's message.
pub const NORMAL: u16 = 0;
/// Bytes of the common head.
pub const BASE_LEN: usize = 16;
/// Bytes of the head of a normal message.
pub const NORMAL_LEN: usize = 24;
/// Bytes of the head of a message of the state machine.
pub const SYNC_LEN: usize = 32;
/// Longest normal message, in bytes. Corosync's client library sends a longer one in several parts: a member
/// that joins between two parts gets only the later ones, and does not apply what the others apply. This is the
/// result of `cpg_max_atomic_msgsize_get` with all versions that have it.
pub const NORMAL_BYTES_MAX: usize = 1_047_552;

impl Extension {
    /// The bits that both have.
    pub fn common(self, other: Extension) -> Extension {
        Extension(self.0 & other.0)
    }

    /// Whether all bits of `other` are in it.
    pub fn has(self, other: Extension) -> bool {
        self.0 & other.0 == other.0
    }
}

impl SyncKind {
    /// The kind with this number.
    pub fn of(kind: u16) -> Option<SyncKind> {
        use SyncKind::*;
        [Start, State, Update, UpdateComplete, VerifyRequest, Verify].into_iter().find(|k| *k as u16 == kind)
    }
}

impl Base {
    /// Reads the head of a message.
    pub fn decode(bytes: &[u8]) -> Result<Base, WireError> {
        let mut rest = bytes;
        let base = take_base(&mut rest);
        base.ok_or(WireError::Short { len: bytes.len() })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.subtype.to_le_bytes());
        out.extend_from_slice(&self.protocol_version.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.extension.0.to_le_bytes());
    }
}

impl<'a> Message<'a> {
    /// Reads a message of the group whose protocol has this version.
    pub fn decode(bytes: &'a [u8], protocol_version: u32) -> Result<Message<'a>, WireError> {
        let base = Base::decode(bytes)?;
        if base.protocol_version > protocol_version {
            return Err(WireError::Newer(base.protocol_version));
        }
        if base.protocol_version < protocol_version {
            return Err(WireError::Older(base.protocol_version));
        }
        let Base { kind, subtype, .. } = base;
        let mut rest = bytes.get(BASE_LEN..).unwrap_or_default();
        let short = WireError::ShortHeader { kind, subtype, len: bytes.len() };
        if kind == NORMAL {
            let count = take(&mut rest).map(u64::from_le_bytes).ok_or(short)?;
            return Ok(Message::Normal(Normal { base, count, payload: rest }));
        }
        let epoch = take_epoch(&mut rest).ok_or(short)?;
        Ok(Message::Sync(Sync { base, epoch, payload: rest }))
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Message::Normal(message) => message.encode(),
            Message::Sync(message) => message.encode(),
        }
    }
}

impl Normal<'_> {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NORMAL_LEN + self.payload.len());
        self.base.encode(&mut out);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(self.payload);
        out
    }
}

impl Sync<'_> {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SYNC_LEN + self.payload.len());
        self.base.encode(&mut out);
        self.epoch.encode(&mut out);
        out.extend_from_slice(self.payload);
        out
    }

    /// The payload of a message that has none.
    pub fn no_payload(&self) -> Result<(), WireError> {
        if self.payload.is_empty() { Ok(()) } else { Err(self.wrong_length()) }
    }

    /// The number of a request for verification.
    pub fn verify_request(&self) -> Result<u64, WireError> {
        self.payload.try_into().map(u64::from_le_bytes).map_err(|_| self.wrong_length())
    }

    /// The number of the request, and the checksum of who asked.
    pub fn verify(&self) -> Result<(u64, [u8; 32]), WireError> {
        let mut rest = self.payload;
        let id = take(&mut rest).map(u64::from_le_bytes);
        match (id, rest.try_into()) {
            (Some(id), Ok(checksum)) => Ok((id, checksum)),
            _ => Err(self.wrong_length()),
        }
    }

    fn wrong_length(&self) -> WireError {
        WireError::Length { kind: self.base.kind, len: SYNC_LEN + self.payload.len() }
    }
}

impl Epoch {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.counter.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.node.to_le_bytes());
        out.extend_from_slice(&self.pid.to_le_bytes());
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.pid)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:08X}", self.node, self.pid, self.counter)
    }
}

fn take_base(rest: &mut &[u8]) -> Option<Base> {
    Some(Base {
        kind: u16::from_le_bytes(take(rest)?),
        subtype: u16::from_le_bytes(take(rest)?),
        protocol_version: u32::from_le_bytes(take(rest)?),
        time: u32::from_le_bytes(take(rest)?),
        extension: Extension(u32::from_le_bytes(take(rest)?)),
    })
}

fn take_epoch(rest: &mut &[u8]) -> Option<Epoch> {
    Some(Epoch {
        counter: u32::from_le_bytes(take(rest)?),
        time: u32::from_le_bytes(take(rest)?),
        node: u32::from_le_bytes(take(rest)?),
        pid: u32::from_le_bytes(take(rest)?),
    })
}

/// Cuts a field off the front.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(kind: u16) -> Base {
        Base { kind, subtype: 0, protocol_version: 1, time: 0x0102_0304, extension: Extension(0) }
    }

    #[test]
    fn heads_have_their_bytes() {
        let normal = Normal { base: Base { subtype: 2, ..base(NORMAL) }, count: 7, payload: b"x" };
        let expected = b"\0\0\x02\0\x01\0\0\0\x04\x03\x02\x01\0\0\0\0\x07\0\0\0\0\0\0\0x";
        assert_eq!(normal.encode(), expected);
        assert_eq!(Message::decode(expected, 1), Ok(Message::Normal(normal)));

        let epoch = Epoch { counter: 1, time: 2, node: 3, pid: 4 };
        let sync = Sync { base: base(5), epoch, payload: &9u64.to_le_bytes() };
        let bytes = sync.encode();
        assert_eq!(bytes[16..], *b"\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x09\0\0\0\0\0\0\0");
        assert_eq!(Message::decode(&bytes, 1), Ok(Message::Sync(sync)));
        assert_eq!(sync.verify_request(), Ok(9));
        assert_eq!(epoch.to_string(), "3/4/00000001");
    }

    #[test]
    fn versions_come_first() {
        let bytes = base(NORMAL);
        let mut short = Vec::new();
        bytes.encode(&mut short);
        assert_eq!(Message::decode(&short, 0), Err(WireError::Newer(1)));
        assert_eq!(Message::decode(&short, 2), Err(WireError::Older(1)));
        assert_eq!(
            Message::decode(&short, 1),
            Err(WireError::ShortHeader { kind: 0, subtype: 0, len: BASE_LEN })
        );
        assert_eq!(Message::decode(&short[..15], 1), Err(WireError::Short { len: 15 }));
    }

    #[test]
    fn every_length_is_checked() {
        fn sync(payload: &[u8]) -> Sync<'_> {
            Sync { base: base(6), epoch: Epoch::default(), payload }
        }
        let whole = [7; 40];
        for len in (0..40).chain([41]) {
            let payload = vec![7; len];
            let wrong = WireError::Length { kind: 6, len: SYNC_LEN + len };
            assert_eq!(sync(&payload).verify(), Err(wrong));
        }
        assert_eq!(sync(&whole).verify(), Ok((0x0707_0707_0707_0707, [7; 32])));
        for len in [0, 7, 9] {
            assert!(sync(&whole[..len]).verify_request().is_err());
        }
        assert!(sync(&whole[..1]).no_payload().is_err());
        assert_eq!(sync(&[]).no_payload(), Ok(()));
        let bytes = sync(&whole).encode();
        for len in 0..SYNC_LEN {
            assert!(Message::decode(&bytes[..len], 1).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn kinds_are_numbered() {
        for kind in 1..=6 {
            assert_eq!(SyncKind::of(kind).map(|k| k as u16), Some(kind));
        }
        assert_eq!(SyncKind::of(0), None);
        assert_eq!(SyncKind::of(7), None);
    }
}
