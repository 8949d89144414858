//! The ring in which entries lie, in the bytes that nodes exchange: where entries go, and how they
//! are walked. Which entries are wanted is decided elsewhere.

use super::entry::{ENTRY_MAX, Record};
use super::merge::SortKey;
use std::collections::BTreeMap;

/// Bytes of a ring of ours; every stock node's has as many.
pub(super) const RING_SIZE: usize = 131_072;
/// Size and newest position; the first entry follows.
pub(super) const RING_HEAD: usize = 8;

/// A ring of entries. Every entry that a walk meets is within bounds: [`Ring::decode`] and
/// [`Ring::push`] see to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// u32 size, u32 position of the newest entry (0: none), entries at multiples of 8.
    bytes: Box<[u8]>,
}

/// Why bytes are no ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("a cluster log of {have} bytes that says it has {told}")]
    WrongSize { have: usize, told: usize },
    #[error("the cluster log entry at {0} does not fit where it lies")]
    BadEntry(usize),
    #[error("the cluster log entry at {0} is linked to one that cannot come before it")]
    BadLink(usize),
}

impl Default for Ring {
    fn default() -> Ring {
        let mut bytes = vec![0; RING_SIZE].into_boxed_slice();
        put_u32(&mut bytes, 0, RING_SIZE);
        Ring { bytes }
    }
}

impl Ring {
    /// Reads a ring that another node sent, and checks every entry that a walk meets.
    pub fn decode(bytes: &[u8]) -> Result<Ring, RingError> {
        let told = u32_at(bytes, 0).unwrap_or(0);
        if bytes.len() <= RING_HEAD || told != bytes.len() {
            return Err(RingError::WrongSize { have: bytes.len(), told });
        }
        let mut walk = Walk::new(bytes);
        while walk.next().is_some() {}
        walk.fault.map_or(Ok(Ring { bytes: bytes.into() }), Err)
    }

    /// The wire form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Newest first.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        Walk::new(&self.bytes)
    }

    /// Appends an entry, over the oldest ones when the end is reached.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        let size = record.head().size();
        debug_assert!(size <= ENTRY_MAX && self.bytes.len() >= 10 * ENTRY_MAX);
        let newest = u32_at(&self.bytes, 4).unwrap_or(0);
        let behind = match newest {
            0 => RING_HEAD,
            newest => u32_at(&self.bytes, newest + 4).unwrap_or(RING_HEAD),
        };
        let fits = behind + align(size) < self.bytes.len();
        let at = if fits { behind } else { RING_HEAD };
        if let Some(place) = self.bytes.get_mut(at..at + size) {
            place.copy_from_slice(record.bytes());
            put_u32(place, 0, newest);
            put_u32(place, 4, at + align(size));
            put_u32(&mut self.bytes, 4, at);
        }
    }

    /// A ring of the same entries in their order.
    pub(super) fn sorted(&self) -> Ring {
        let mut sorted = BTreeMap::new();
        for record in self.records() {
            sorted.insert(SortKey::of(&record), record);
        }
        Ring::of(sorted.into_values())
    }

    /// A ring of these entries, oldest first.
    pub(super) fn of<'a>(records: impl IntoIterator<Item = Record<'a>>) -> Ring {
        let mut ring = Ring::default();
        for record in records {
            ring.push(&record);
        }
        ring
    }
}

/// A walk from the newest entry back. Its end is an entry without a predecessor, or one whose
/// predecessor is overwritten already. It never meets an entry twice, whatever the bytes are.
struct Walk<'a> {
    bytes: &'a [u8],
    newest: usize,
    /// The next entry; 0 for none.
    at: usize,
    /// Where the entry at `at` must end: the place of its successor, or the ring's end.
    limit: usize,
    fault: Option<RingError>,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Walk<'a> {
        let newest = u32_at(bytes, 4).unwrap_or(0);
        Walk { bytes, newest, at: newest, limit: bytes.len(), fault: None }
    }

    /// Goes to the predecessor of the entry at `at`, if it is there still.
    fn step(&mut self, prev: usize) -> Result<(), RingError> {
        let at = std::mem::take(&mut self.at);
        let overwritten = prev > at && prev <= self.newest;
        let in_newest = prev > self.newest && prev <= self.newest + ENTRY_MAX;
        if prev == 0 || overwritten || in_newest {
            return Ok(());
        }
        let behind_wrap = at > self.newest;
        if prev < at && (prev > self.newest || !behind_wrap) {
            self.limit = at;
        } else if prev > at && !behind_wrap {
            self.limit = self.bytes.len();
        } else {
            return Err(RingError::BadLink(at));
        }
        self.at = prev;
        Ok(())
    }

    fn look(&mut self) -> Result<Record<'a>, RingError> {
        let at = self.at;
        let place = self.bytes.get(at..self.limit).filter(|_| at >= RING_HEAD && at % 8 == 0);
        let record = place.and_then(Record::at_start).ok_or(RingError::BadEntry(at))?;
        let head = record.head();
        let next = at + align(head.size());
        if next > self.limit || usize::try_from(head.next) != Ok(next) {
            return Err(RingError::BadEntry(at));
        }
        self.step(usize::try_from(head.prev).unwrap_or(usize::MAX))?;
        Ok(record)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.at == 0 {
            return None;
        }
        match self.look() {
            Ok(record) => Some(record),
            Err(fault) => {
                self.at = 0;
                self.fault = Some(fault);
                None
            }
        }
    }
}

fn align(size: usize) -> usize {
    size.next_multiple_of(8)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

/// Stores a value that fits, as sizes and offsets of a ring do.
fn put_u32(bytes: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).expect("a ring is smaller than 4 GiB");
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}
