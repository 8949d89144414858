//! How the rings of several nodes become one, the same at every node that has the same rings.

use super::entry::{ENTRY_MAX, Record};
use super::ring::{RING_HEAD, RING_SIZE, Ring};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

/// The order of entries: time, then node digest, then uid.
///
/// Stock compares by differences cut to 32 bits, which is this order for the digests of names that
/// differ in few last characters, and none at all for three arbitrary ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SortKey {
    time: u32,
    node_digest: u64,
    uid: u32,
}

impl SortKey {
    pub(super) fn of(record: &Record<'_>) -> SortKey {
        SortKey { time: record.time(), node_digest: record.node_digest(), uid: record.uid() }
    }
}

/// Takes entries of all rings, newest first, until the result is full; equal ones once. Among
/// entries of one second, those of the first ring go first.
pub(super) fn merge(rings: &[&Ring]) -> Ring {
    let mut walks: Vec<_> = rings.iter().map(|ring| ring.records().peekable()).collect();
    let mut taken = BTreeMap::new();
    let mut size = 0;
    while size < RING_SIZE - RING_HEAD - ENTRY_MAX {
        let mut newest: Option<(u32, usize)> = None;
        for (index, walk) in walks.iter_mut().enumerate() {
            // `None`, an empty walk, is less than any time, 0 included.
            let time = walk.peek().map(Record::time);
            if time > newest.map(|(time, _)| time) {
                newest = time.map(|time| (time, index));
            }
        }
        let walk = newest.and_then(|(_, index)| walks.get_mut(index));
        let Some(record) = walk.and_then(Iterator::next) else { break };
        if let Place::Vacant(place) = taken.entry(SortKey::of(&record)) {
            size += record.head().size().next_multiple_of(8);
            place.insert(record);
        }
    }
    Ring::of(taken.into_values())
}
