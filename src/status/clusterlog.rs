//! The cluster log of a node: its ring of entries, the counter that numbers its own, and the keys of the
//! entries that it has, which identify duplicates.
//!
//! An entry is kept whatever the clock of its node was. The stock daemon keeps only entries that are newer
//! than the last one of the same node: one entry from a clock that ran ahead silences that node until the
//! time of this entry has come.
//!
//! The ring's bytes are also the wire form that nodes exchange when they sync ([`Ring`]); a single
//! entry travels as an [`Entry`]. Nothing here sends, and nothing asks for the time.

mod ascii;
mod entry;
mod merge;
mod ring;

pub use ascii::to_ascii;
pub use entry::{Entry, EntryError, NewEntry, Record};
pub use ring::{Ring, RingError};

use super::json::{Backslash, push_escaped, push_number};
use merge::SortKey;
use std::cmp::Reverse;
use std::collections::HashSet;

/// Above this number of keys, those of overwritten entries are removed. A ring holds at most 2,340 entries.
const KEYS_MAX: usize = 4096;

/// The log and what is needed to go on with it.
#[derive(Debug, Default)]
pub struct ClusterLog {
    ring: Ring,
    /// Number of this process's last entry.
    uid: u32,
    /// Keys of all entries in the ring, and of some that were overwritten since.
    keys: HashSet<SortKey>,
}

impl ClusterLog {
    pub fn new() -> ClusterLog {
        ClusterLog::default()
    }

    /// Makes an entry of this node and inserts it. What comes back is to be sent to the other nodes;
    /// None when the priority is not one of syslog's, which logs nothing.
    pub fn add(&mut self, new: &NewEntry<'_>) -> Option<Entry> {
        let entry = Entry::pack(new, self.uid.wrapping_add(1))?;
        self.uid = self.uid.wrapping_add(1);
        self.insert(&entry);
        Some(entry)
    }

    /// Adds an entry unless it is there already. Returns false for such a duplicate: an entry of this node
    /// that came back, or one that a sync has brought before.
    pub fn insert(&mut self, entry: &Entry) -> bool {
        let record = entry.record();
        if !self.keys.insert(SortKey::of(&record)) {
            return false;
        }
        self.ring.push(&record);
        if self.keys.len() > KEYS_MAX {
            self.collect_keys();
        }
        true
    }

    /// The ring in wire form, for a sync. It is sorted for that, here too.
    pub fn state(&mut self) -> &[u8] {
        self.ring = self.ring.sorted();
        self.ring.as_bytes()
    }

    /// Takes in what all members of a sync have, this node's own ring being between `before` and
    /// `after` in the order of members.
    pub fn merge(&mut self, before: &[Ring], after: &[Ring]) {
        // Entries that came since the last sync may be out of order; `merge` needs the order.
        let own = self.ring.sorted();
        let rings: Vec<&Ring> = before.iter().chain([&own]).chain(after).collect();
        self.ring = merge::merge(&rings);
        self.collect_keys();
    }

    fn collect_keys(&mut self) {
        self.keys = self.ring.records().map(|record| SortKey::of(&record)).collect();
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The `.clusterlog` text: entries in the order of their times, newest first, at most `max`; only those
    /// of `user` when that is not empty. Entries of one second are in the order in which they came.
    pub fn text(&self, user: &[u8], max: usize) -> String {
        let digest = (!user.is_empty()).then(|| entry::digest(user));
        let wanted = |record: &Record<'_>| digest.is_none_or(|digest| record.ident_digest() == digest);
        let mut records: Vec<Record<'_>> = self.ring.records().filter(wanted).collect();
        records.sort_by_key(|record| Reverse(record.time()));
        let mut out = String::from("{\n\"data\": [\n");
        for (index, record) in records.into_iter().take(max).enumerate() {
            out.push_str(if index > 0 { ",\n" } else { "" });
            push_record(&mut out, &record);
        }
        out.push_str(if out.ends_with('}') { "\n]\n}\n" } else { "]\n}\n" });
        out
    }
}

/// One entry as it stands in the `.clusterlog` text: an object of JSON.
pub fn record_text(record: &Record<'_>) -> String {
    let mut out = String::new();
    push_record(&mut out, record);
    out
}

fn push_record(out: &mut String, record: &Record<'_>) {
    let number = |out: &mut String, name: &str, value: u64| {
        out.push_str(name);
        push_number(out, value);
    };
    let string = |out: &mut String, name: &str, value: &[u8]| {
        out.push_str(name);
        push_escaped(out, value, Backslash::EscapedUnicode);
    };
    number(out, "{\"uid\": ", record.uid().into());
    number(out, ", \"time\": ", record.time().into());
    number(out, ", \"pri\": ", record.priority().into());
    string(out, ", \"tag\": ", record.tag());
    number(out, ", \"pid\": ", record.pid().into());
    string(out, ", \"node\": ", record.node());
    string(out, ", \"user\": ", record.ident());
    out.push_str(", \"msg\": ");
    push_escaped(out, record.message(), Backslash::EscapedUnicodeAndQuote);
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new<'a>(node: &'a str, time: u32, message: &'a [u8]) -> NewEntry<'a> {
        NewEntry { node: node.as_bytes(), ident: b"root", tag: b"test", pid: 1, time, priority: 6, message }
    }

    fn uids(log: &ClusterLog) -> Vec<u32> {
        log.ring().records().map(|record| record.uid()).collect()
    }

    #[test]
    fn own_entries_are_numbered() {
        let mut log = ClusterLog::new();
        assert!(log.add(&NewEntry { priority: 8, ..new("a", 5, b"") }).is_none());
        for uid in 1..4 {
            assert_eq!(log.add(&new("a", 5, b"x")).unwrap().record().uid(), uid);
        }
        assert_eq!(uids(&log), [3, 2, 1]);
    }

    #[test]
    fn an_entry_is_added_once() {
        let mut log = ClusterLog::new();
        let entry = |node, time, uid| Entry::pack(&new(node, time, b"x"), uid).unwrap();
        let inserted = [
            (entry("a", 10, 7), true),
            (entry("a", 10, 7), false),
            (entry("a", 10, 6), true),
            (entry("b", 10, 7), true),
            (entry("a", 11, 7), true),
        ];
        for (index, (entry, taken)) in inserted.iter().enumerate() {
            assert_eq!(log.insert(entry), *taken, "entry {index}");
        }
        assert_eq!(uids(&log), [7, 7, 6, 7]);
        log.merge(&[], &[]);
        for (entry, _) in &inserted {
            assert!(!log.insert(entry), "a sync keeps the keys");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_silences_no_node() {
        const DAYS_30: u32 = 30 * 86_400;
        let mut own = ClusterLog::new();
        let mut peer = ClusterLog::new();
        for time in [1000 + DAYS_30, 1000, 0, 1001] {
            let entry = own.add(&new("a", time, b"x")).expect("a valid priority");
            assert!(peer.insert(&entry), "entry of time {time}");
        }
        for log in [&own, &peer] {
            let text: serde_json::Value = serde_json::from_str(&log.text(b"", 50)).unwrap();
            let times = text["data"].as_array().unwrap().iter().map(|entry| entry["time"].as_u64().unwrap());
            assert_eq!(times.collect::<Vec<_>>(), [1000 + u64::from(DAYS_30), 1001, 1000, 0]);
        }
        let ring = peer.ring().clone();
        own.merge(&[], &[ring]);
        assert_eq!(own.ring().records().count(), 4, "a sync keeps them all");
    }

    #[test]
    fn keys_of_overwritten_entries_are_removed() {
        let mut log = ClusterLog::new();
        let entries = 2 * KEYS_MAX;
        for number in 0..entries {
            log.add(&new(&format!("n{number}"), 5, b"x"));
        }
        assert!(log.keys.len() <= KEYS_MAX);
        let last = Entry::pack(&new(&format!("n{}", entries - 1), 5, b"x"), u32::try_from(entries).unwrap());
        assert!(!log.insert(&last.unwrap()));
    }

    /// A merge takes the newest of all rings, up to what fits, and gives them in their order.
    #[test]
    fn a_merge_takes_the_newest() {
        let mut logs: Vec<ClusterLog> = Vec::new();
        for (index, node) in ["a", "b", "c"].into_iter().enumerate() {
            let mut log = ClusterLog::new();
            for number in 0..700u32 {
                let time = 1000 + number * (3 + u32::try_from(index).unwrap()) / 2;
                log.add(&new(node, time, &[b'm'; 300]));
            }
            logs.push(log);
        }
        let all: Vec<Ring> = logs.iter().map(|log| log.ring().clone()).collect();
        let key = |record: &Record<'_>| (record.time(), record.node_digest(), record.uid());
        let mut expected: Vec<_> = all.iter().flat_map(|ring| ring.records().map(|r| key(&r))).collect();
        expected.sort_unstable();
        logs[0].merge(&[], &all[1..]);
        let mut merged: Vec<_> = logs[0].ring().records().map(|record| key(&record)).collect();
        merged.reverse();
        assert!(merged.is_sorted(), "stored in order");
        let size = (48 + 2 + 5 + 5 + 301usize).next_multiple_of(8);
        assert_eq!(merged.len(), (131_072 - 8 - 4096usize).div_ceil(size));
        // Within one second it is the first ring's entries that are taken.
        let oldest = merged[0].0;
        let newer = |keys: &[(u32, u64, u32)]| -> Vec<_> {
            keys.iter().copied().filter(|key| key.0 > oldest).collect()
        };
        assert_eq!(newer(&merged), newer(&expected));
        // What has been merged adds nothing more.
        let before = logs[0].ring().clone();
        logs[0].merge(std::slice::from_ref(&before), &all[1..]);
        assert!(*logs[0].ring() == before);
    }

    /// Whatever stock or worse nodes put into their entries, clients get JSON.
    #[test]
    fn the_text_is_always_json() {
        let odd: [&[u8]; 6] =
            [b"\\", b"a \\ b \\\" \\u12", b"\"\x01\x7f\n\xff\xc3", br"\ud83d \ude00", br"\n\t", b""];
        let mut log = ClusterLog::new();
        for (index, odd) in odd.into_iter().enumerate() {
            // Laid out as stock does it: the message as it came.
            let time = 100 + u32::try_from(index).unwrap();
            let mut new = new("n", time, &[b'x'; 40]);
            (new.node, new.ident, new.tag) = (odd, odd, odd);
            let mut bytes = Entry::pack(&new, 1).unwrap().as_bytes().to_vec();
            let at = 44 + 3 * (odd.len() + 1);
            bytes[at..at + 40].fill(b' ');
            bytes[at..at + odd.len()].copy_from_slice(odd);
            assert!(log.insert(&Entry::decode(&bytes).unwrap()));
        }
        let text: serde_json::Value = serde_json::from_str(&log.text(b"", 50)).unwrap();
        let entry = &text["data"][4];
        assert_eq!(entry["user"], "a \\ b \\\" \\u12");
        assert_eq!(entry["msg"].as_str().unwrap().trim_end(), "a \\ b \" \\u12");
        assert_eq!(text["data"][2]["msg"].as_str().unwrap().trim_end(), "\u{fffd} \u{fffd}");
    }
}
