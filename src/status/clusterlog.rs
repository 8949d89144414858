//! The cluster log of a node: its ring of entries, the counter that numbers its own, and what was
//! last seen of each node, by which duplicates are told.
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
use std::collections::HashMap;

/// More nodes than this in the table of what was seen, and it is made again from the ring: node
/// digests come from outside.
const SEEN_MAX: usize = 4096;

/// The log and what is needed to go on with it.
#[derive(Debug, Default)]
pub struct ClusterLog {
    ring: Ring,
    /// Number of this process's last entry.
    uid: u32,
    seen: Seen,
}

/// The newest (time, uid) per node digest.
#[derive(Debug, Default)]
struct Seen(HashMap<u64, (u32, u32)>);

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

    /// Takes an entry unless its node had a newer one already; false for such a duplicate.
    pub fn insert(&mut self, entry: &Entry) -> bool {
        let record = entry.record();
        let fresh = self.seen.record(&record);
        if fresh {
            self.ring.push(&record);
        }
        if self.seen.0.len() > SEEN_MAX {
            self.seen = Seen::of(self.ring.records());
        }
        fresh
    }

    /// The ring in wire form, for a sync. It is sorted for that, here too.
    pub fn state(&mut self) -> &[u8] {
        self.ring = self.ring.sorted();
        self.ring.as_bytes()
    }

    /// Takes in what all members of a sync have, this node's own ring being between `before` and
    /// `after` in the order of members.
    pub fn merge(&mut self, before: &[Ring], after: &[Ring]) {
        let rings: Vec<&Ring> = before.iter().chain([&self.ring]).chain(after).collect();
        let (merged, seen) = merge::merge(&rings);
        self.ring = merged;
        self.seen = seen;
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The `.clusterlog` text: entries newest first, at most `max`; only those of `user` when that
    /// is not empty.
    pub fn text(&self, user: &[u8], max: usize) -> String {
        let digest = (!user.is_empty()).then(|| entry::digest(user));
        let wanted = |record: &Record<'_>| digest.is_none_or(|digest| record.ident_digest() == digest);
        let mut out = String::from("{\n\"data\": [\n");
        for (index, record) in self.ring.records().filter(wanted).take(max).enumerate() {
            out.push_str(if index > 0 { ",\n" } else { "" });
            push_record(&mut out, &record);
        }
        out.push_str(if out.ends_with('}') { "\n]\n}\n" } else { "]\n}\n" });
        out
    }
}

impl Seen {
    fn of<'a>(records: impl Iterator<Item = Record<'a>>) -> Seen {
        let mut seen = Seen::default();
        for record in records {
            seen.record(&record);
        }
        seen
    }

    /// Notes an entry; false when it is not newer than what was seen of its node.
    fn record(&mut self, record: &Record<'_>) -> bool {
        let this = (record.time(), record.uid());
        match self.0.get(&record.node_digest()) {
            Some(&last) if this <= last => false,
            _ => {
                self.0.insert(record.node_digest(), this);
                true
            }
        }
    }
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
