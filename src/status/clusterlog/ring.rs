//! The ring in which entries lie, in the bytes that nodes exchange: where entries go, and how they
//! are walked. Which entries are wanted is decided elsewhere.

use super::entry::{ENTRY_MAX, Record};
use super::merge::SortKey;
use std::collections::BTreeMap;

/// Bytes of a ring of ours; every stock node's has as many.
pub(super) const RING_SIZE: usize = 131_072;
/// Size and newest position; the first entry follows.
pub(super) const RING_HEAD: usize = 8;

/// A ring of entries. Every entry that a walk meets is within bounds: `decode` and
/// `push` see to that.
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

#[cfg(test)]
mod tests {
    use super::super::entry::{Entry, NewEntry};
    use super::*;

    fn entry(uid: u32, length: usize) -> Entry {
        let message = vec![b'm'; length];
        let new = NewEntry {
            node: b"n",
            ident: b"i",
            tag: b"t",
            pid: 1,
            time: 100,
            priority: 6,
            message: &message,
        };
        Entry::pack(&new, uid).unwrap()
    }

    fn uids(ring: &Ring) -> Vec<u32> {
        ring.records().map(|record| record.uid()).collect()
    }

    fn ring_of(entries: impl IntoIterator<Item = Entry>) -> Ring {
        let mut ring = Ring::default();
        entries.into_iter().for_each(|entry| ring.push(&entry.record()));
        ring
    }

    #[test]
    fn an_empty_ring() {
        let ring = Ring::default();
        assert_eq!(ring.as_bytes().len(), 131_072);
        assert!(uids(&ring).is_empty());
        assert_eq!(Ring::decode(ring.as_bytes()).unwrap(), ring);
        assert_eq!(ring.sorted(), ring);
    }

    /// However entries wrap around, a walk gives the newest ones, all whole, and only those are gone
    /// that are overwritten or lie within one maximal entry behind the newest.
    #[test]
    fn the_newest_entries_stay() {
        for (step, lengths) in [(1usize, 1usize..4000), (7, 3000..4000), (1, 1..2), (131, 100..900)] {
            let mut ring = Ring::default();
            let mut sizes = Vec::new();
            for uid in 1..600u32 {
                let length = lengths.start + (uid as usize * step * 37) % lengths.len();
                let entry = entry(uid, length);
                sizes.push(align(entry.as_bytes().len()));
                ring.push(&entry.record());
                if uid % 7 > 0 {
                    continue;
                }
                let kept = uids(&ring);
                let expected: Vec<u32> = (1..=uid).rev().take(kept.len()).collect();
                assert_eq!(kept, expected);
                let size: usize = sizes.iter().rev().take(kept.len()).sum();
                let all = kept.len() == uid as usize;
                assert!(all || size + 3 * ENTRY_MAX > RING_SIZE, "{uid}: {size} bytes are left");
                for record in ring.records() {
                    assert_eq!(align(record.bytes().len()), sizes[record.uid() as usize - 1]);
                }
            }
            assert_eq!(Ring::decode(ring.as_bytes()).unwrap(), ring);
            assert_eq!(uids(&ring.sorted()), uids(&ring));
        }
    }

    fn decode_with(ring: &Ring, changes: &[(usize, u32)]) -> Result<Vec<u32>, RingError> {
        let mut bytes = ring.as_bytes().to_vec();
        for &(at, value) in changes {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        Ring::decode(&bytes).map(|ring| uids(&ring))
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        for bytes in [&[][..], &[8, 0, 0, 0, 0, 0, 0, 0], &[9, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(matches!(Ring::decode(bytes), Err(RingError::WrongSize { .. })));
        }
        let ring = ring_of((1..4).map(|uid| entry(uid, 10)));
        let size = 72;
        let [first, second, third] = [8, 8 + size, 8 + 2 * size];
        let at = |place: usize| u32::try_from(place).unwrap();
        assert_eq!(decode_with(&ring, &[]), Ok(vec![3, 2, 1]));
        // The size, and where the newest entry is.
        assert!(matches!(decode_with(&ring, &[(0, 131_071)]), Err(RingError::WrongSize { .. })));
        for newest in [1, 4, 7, 12, at(third + size), 131_064, 131_072, u32::MAX] {
            let place = newest as usize;
            assert_eq!(decode_with(&ring, &[(4, newest)]), Err(RingError::BadEntry(place)), "{newest}");
        }
        // Links: to itself, forwards onto itself, into an entry, out of the ring.
        assert_eq!(decode_with(&ring, &[(third, at(third))]), Err(RingError::BadLink(third)));
        assert_eq!(decode_with(&ring, &[(first, at(second))]), Ok(vec![3, 2, 1]), "overwritten long ago");
        assert_eq!(decode_with(&ring, &[(third, at(second + 8))]), Err(RingError::BadEntry(second + 8)));
        assert_eq!(decode_with(&ring, &[(second, 100_000)]), Err(RingError::BadEntry(100_000)));
        assert_eq!(decode_with(&ring, &[(second, u32::MAX)]), Err(RingError::BadEntry(u32::MAX as usize)));
        // `next`, and lengths.
        assert_eq!(decode_with(&ring, &[(second + 4, at(third + 8))]), Err(RingError::BadEntry(second)));
        assert_eq!(decode_with(&ring, &[(second + 40, u32::MAX)]), Err(RingError::BadEntry(second)));
        assert_eq!(decode_with(&ring, &[(first + 40, 100)]), Err(RingError::BadEntry(first)));
    }

    /// A walk that came round past the end must not go round again.
    #[test]
    fn links_cannot_make_a_circle() {
        let ring = ring_of((1..80).map(|uid| entry(uid, 2000)));
        let bytes = ring.as_bytes();
        let newest = u32_at(bytes, 4).unwrap();
        let mut walk = Walk::new(bytes);
        let mut wrapped = 0;
        while walk.next().is_some() {
            if walk.at > newest {
                wrapped = walk.at;
            }
        }
        assert!(wrapped > newest, "the ring wraps");
        let back = u32::try_from(newest).unwrap();
        assert_eq!(decode_with(&ring, &[(wrapped, back)]), Err(RingError::BadLink(wrapped)));
        let up = u32::try_from(RING_SIZE - 2080).unwrap();
        assert_eq!(decode_with(&ring, &[(wrapped, up)]), Err(RingError::BadLink(wrapped)));
    }
}
