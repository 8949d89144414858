//! One entry of the cluster log, in the bytes in which it travels and lies in a ring. It knows
//! nothing of other entries; `prev` and `next` are the ring's business.
//!
//! The head counts 48 bytes but ends at 44, where the strings begin: four bytes without meaning
//! follow the message. Stock sends whatever was in its memory there, ours are zero.

use super::ascii::to_ascii;

/// An entry has at most this many bytes.
pub(super) const ENTRY_MAX: usize = 4096;
/// What the lengths of the strings are added to, to get the size of an entry.
const HEAD: usize = 48;
/// Where the strings begin.
const STRINGS: usize = 44;
/// A node, ident or tag has at most this many bytes with its NUL.
const STRING_MAX: usize = 255;
/// Highest syslog priority.
const PRIORITY_MAX: u8 = 7;

/// What this node logs.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    pub node: &'a [u8],
    /// The user, such as `root@pam`.
    pub ident: &'a [u8],
    /// The program.
    pub tag: &'a [u8],
    pub pid: u32,
    /// Seconds since 1970.
    pub time: u32,
    /// As syslog's, 0 to 7.
    pub priority: u8,
    pub message: &'a [u8],
}

/// An entry by itself, as it travels between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    head: Head,
    bytes: Vec<u8>,
}

/// An entry that is looked at where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    head: Head,
    /// All of it: head, strings, the four bytes behind.
    bytes: &'a [u8],
}

/// Why bytes are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("a cluster log entry of {0} bytes is too short")]
    Short(usize),
    #[error("a cluster log entry has {have} bytes, its lengths say {told}")]
    WrongSize { have: usize, told: usize },
    #[error("a cluster log entry of {0} bytes is too long")]
    Long(usize),
    #[error("a string in a cluster log entry has no NUL at its end")]
    Unterminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) prev: u32,
    pub(super) next: u32,
    uid: u32,
    time: u32,
    node_digest: u64,
    ident_digest: u64,
    pid: u32,
    priority: u8,
    node_len: u8,
    ident_len: u8,
    tag_len: u8,
    msg_len: u32,
}

/// 64-bit FNV-1a over a string and its NUL.
pub(super) fn digest(string: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    string.iter().chain(&[0]).fold(0xcbf2_9ce4_8422_2325, step)
}

impl Entry {
    /// Lays out an entry; None when the priority is none.
    pub(super) fn pack(new: &NewEntry<'_>, uid: u32) -> Option<Entry> {
        if new.priority > PRIORITY_MAX {
            return None;
        }
        let [node, ident, tag] = [new.node, new.ident, new.tag].map(cut);
        let names = node.len() + ident.len() + tag.len() + 3;
        let message = to_ascii(new.message, ENTRY_MAX - STRINGS - names);
        let length = |string: &[u8]| u8::try_from(string.len() + 1).expect("cut to 255 bytes with NUL");
        let head = Head {
            prev: 0,
            next: 0,
            uid,
            time: new.time,
            node_digest: digest(node),
            ident_digest: digest(ident),
            pid: new.pid,
            priority: new.priority,
            node_len: length(node),
            ident_len: length(ident),
            tag_len: length(tag),
            msg_len: u32::try_from(message.len() + 1).expect("an entry is at most 4096 bytes"),
        };
        let mut bytes = Vec::with_capacity(head.size());
        head.encode(&mut bytes);
        for string in [node, ident, tag, &message] {
            bytes.extend_from_slice(string);
            bytes.push(0);
        }
        bytes.resize(head.size(), 0);
        debug_assert!(bytes.len() <= ENTRY_MAX, "an entry of {} bytes", bytes.len());
        Some(Entry { head, bytes })
    }

    /// Reads what another node sent.
    pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
        let head = Head::decode(bytes).ok_or(EntryError::Short(bytes.len()))?;
        if head.size() != bytes.len() {
            return Err(EntryError::WrongSize { have: bytes.len(), told: head.size() });
        }
        if bytes.len() > ENTRY_MAX {
            return Err(EntryError::Long(bytes.len()));
        }
        let record = Record { head, bytes };
        if !record.counted_strings().iter().all(|string| string.last() == Some(&0)) {
            return Err(EntryError::Unterminated);
        }
        Ok(Entry { head, bytes: bytes.to_vec() })
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn record(&self) -> Record<'_> {
        Record { head: self.head, bytes: &self.bytes }
    }
}

/// The string up to its first NUL, and not longer than its length byte can tell.
fn cut(string: &[u8]) -> &[u8] {
    let string = super::super::until_nul(string);
    string.get(..STRING_MAX - 1).unwrap_or(string)
}

impl<'a> Record<'a> {
    /// The entry at the start of `bytes`; None when it does not fit. Strings need not end in a NUL:
    /// stock cuts a long message without one.
    pub(super) fn at_start(bytes: &'a [u8]) -> Option<Record<'a>> {
        let head = Head::decode(bytes)?;
        let bytes = bytes.get(..head.size()).filter(|bytes| bytes.len() <= ENTRY_MAX)?;
        Some(Record { head, bytes })
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of the entry at its node.
    pub fn uid(&self) -> u32 {
        self.head.uid
    }

    pub fn time(&self) -> u32 {
        self.head.time
    }

    pub fn node_digest(&self) -> u64 {
        self.head.node_digest
    }

    pub fn ident_digest(&self) -> u64 {
        self.head.ident_digest
    }

    pub fn pid(&self) -> u32 {
        self.head.pid
    }

    pub fn priority(&self) -> u8 {
        self.head.priority
    }

    pub fn node(&self) -> &'a [u8] {
        super::super::until_nul(self.counted_strings()[0])
    }

    pub fn ident(&self) -> &'a [u8] {
        super::super::until_nul(self.counted_strings()[1])
    }

    pub fn tag(&self) -> &'a [u8] {
        super::super::until_nul(self.counted_strings()[2])
    }

    /// The message; quotes in it have a backslash in front, as stock stores them.
    pub fn message(&self) -> &'a [u8] {
        super::super::until_nul(self.counted_strings()[3])
    }

    /// Node, ident, tag and message with all bytes that their lengths count.
    fn counted_strings(&self) -> [&'a [u8]; 4] {
        let Head { node_len, ident_len, tag_len, msg_len, .. } = self.head;
        let mut rest = self.bytes.get(STRINGS..).unwrap_or_default();
        [node_len.into(), ident_len.into(), tag_len.into(), msg_len].map(|length: u32| {
            let at = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
            let (string, behind) = rest.split_at(at);
            rest = behind;
            string
        })
    }
}

impl Head {
    /// Reads a head; None when there are not even the bytes that every entry has.
    fn decode(bytes: &[u8]) -> Option<Head> {
        let mut rest = bytes.get(..HEAD)?;
        Some(Head {
            prev: u32::from_le_bytes(take(&mut rest)?),
            next: u32::from_le_bytes(take(&mut rest)?),
            uid: u32::from_le_bytes(take(&mut rest)?),
            time: u32::from_le_bytes(take(&mut rest)?),
            node_digest: u64::from_le_bytes(take(&mut rest)?),
            ident_digest: u64::from_le_bytes(take(&mut rest)?),
            pid: u32::from_le_bytes(take(&mut rest)?),
            priority: u8::from_le_bytes(take(&mut rest)?),
            node_len: u8::from_le_bytes(take(&mut rest)?),
            ident_len: u8::from_le_bytes(take(&mut rest)?),
            tag_len: u8::from_le_bytes(take(&mut rest)?),
            msg_len: u32::from_le_bytes(take(&mut rest)?),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prev.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.node_digest.to_le_bytes());
        out.extend_from_slice(&self.ident_digest.to_le_bytes());
        out.extend_from_slice(&self.pid.to_le_bytes());
        out.extend_from_slice(&[self.priority, self.node_len, self.ident_len, self.tag_len]);
        out.extend_from_slice(&self.msg_len.to_le_bytes());
    }

    /// Size of the whole entry. It may be nonsense, but it does not overflow.
    pub(super) fn size(&self) -> usize {
        let names = usize::from(self.node_len) + usize::from(self.ident_len) + usize::from(self.tag_len);
        let message = usize::try_from(self.msg_len).unwrap_or(usize::MAX);
        message.saturating_add(HEAD + names)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: NewEntry<'_> = NewEntry {
        node: b"node",
        ident: b"root@pam",
        tag: b"pvedaemon",
        pid: 77,
        time: 1_700_000_000,
        priority: 6,
        message: b"hello",
    };

    #[test]
    fn an_entry_comes_back() {
        let entry = Entry::pack(&NEW, 5).unwrap();
        assert_eq!(entry.as_bytes().len(), 48 + 5 + 9 + 10 + 6);
        let read = Entry::decode(entry.as_bytes()).unwrap();
        assert_eq!(read, entry);
        let record = read.record();
        assert_eq!((record.node(), record.ident()), (NEW.node, NEW.ident));
        assert_eq!((record.tag(), record.message()), (NEW.tag, NEW.message));
        assert_eq!((record.uid(), record.time(), record.pid(), record.priority()), (5, NEW.time, 77, 6));
    }

    #[test]
    fn digests_are_those_of_stock() {
        assert_eq!(digest(b""), 0xaf63_bd4c_8601_b7df);
        assert_eq!(digest(b"n1"), 0x21ce_ce19_25f1_8240);
    }

    #[test]
    fn long_strings_are_cut() {
        let long = [b'a'; 5000];
        let entry = Entry::pack(&NewEntry { node: &long, ident: &long, tag: &long, ..NEW }, 1).unwrap();
        assert_eq!(entry.record().ident(), &long[..254]);
        assert_eq!(entry.record().ident_digest(), digest(&long[..254]));
        assert_eq!(entry.record().message(), NEW.message);
        for message in [&long[..], "€".repeat(5000).as_bytes(), "\"".repeat(5000).as_bytes()] {
            let entry = Entry::pack(&NewEntry { message, ..NEW }, 1).unwrap();
            assert!((4080..=ENTRY_MAX).contains(&entry.as_bytes().len()));
            assert_eq!(Entry::decode(entry.as_bytes()).unwrap(), entry);
        }
        assert!(Entry::pack(&NewEntry { priority: 8, ..NEW }, 1).is_none());
    }

    #[test]
    fn empty_strings() {
        let empty = NewEntry { node: b"", ident: b"", tag: b"", message: b"", ..NEW };
        let entry = Entry::pack(&empty, 1).unwrap();
        assert_eq!(entry.as_bytes().len(), 52);
        assert_eq!(Entry::decode(entry.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        let good = Entry::pack(&NEW, 1).unwrap().bytes;
        assert_eq!(Entry::decode(&[]), Err(EntryError::Short(0)));
        assert_eq!(Entry::decode(&good[..47]), Err(EntryError::Short(47)));
        let told = good.len();
        assert_eq!(Entry::decode(&good[..told - 1]), Err(EntryError::WrongSize { have: told - 1, told }));
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            Entry::decode(&bad).unwrap_err()
        };
        assert!(matches!(with(40, &[0xff; 4]), EntryError::WrongSize { .. }));
        for last in [44 + 4, 44 + 13, 44 + 23, 44 + 29] {
            assert_eq!(good[last], 0);
            assert_eq!(with(last, b"x"), EntryError::Unterminated);
        }
        // Lengths of 0 have no NUL: node 0, ident one longer by 5.
        assert_eq!(with(37, &[0, 14]), EntryError::Unterminated);
        let mut long = good.clone();
        long.resize(4097, 0);
        let message = 6 + u32::try_from(4097 - told).unwrap();
        long[40..44].copy_from_slice(&message.to_le_bytes());
        assert_eq!(Entry::decode(&long), Err(EntryError::Long(4097)));
    }
}
