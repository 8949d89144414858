//! The status of the nodes: key/values, members, addresses, the cluster log, and what is kept of RRD
//! values for the dump. The contract is the stock daemon's status, byte for byte where bytes travel.
//!
//! It never does I/O: no file, socket, clock, lock or thread. Times come in as values; what has to
//! be written to a round-robin file leaves as an [`RrdUpdate`].

pub mod clusterlog;
mod json;
mod kind;
mod members;
mod rrddump;
mod rrdkey;
pub mod text;
mod values;

pub use kind::SetError;
pub use members::{ClusterInfo, ClusterNode};
pub use rrdkey::{RrdKeyError, RrdSchema, RrdUpdate, map_rrd};

use crate::clock::UnixTime;
use clusterlog::{ClusterLog, NewEntry};
use kind::Kind;
use members::Members;
use rrddump::RrdDump;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use values::KeyValues;

/// Bytes of a name's field on the wire; the name in it ends with a NUL.
pub const NAME_FIELD: usize = 256;
/// Bytes a value may have.
pub const VALUE_MAX: usize = 32768;
/// Most values of other nodes that are kept before the first node list.
const EARLY_MAX: usize = 1024;

/// The status of this node and what it knows of the others.
#[derive(Debug)]
pub struct Status {
    node: String,
    start_time: UnixTime,
    quorate: bool,
    /// `clinfo`: counts changes of the node list, of who is online, and of addresses.
    cluster_info_version: u32,
    own: KeyValues,
    members: Option<Members>,
    /// Node ids of the status group, including nodes that are not in the node list.
    online: Vec<u32>,
    /// Values and addresses of other nodes, by node id and key, received before the first node list.
    early: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
    /// Node name to its address. A name stays when its node leaves the list, as in stock.
    addresses: BTreeMap<String, Vec<u8>>,
    rrd: RrdDump,
    log: ClusterLog,
}

/// Where a value went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Into the node's key/values (or out of them, by an empty value).
    Value,
    /// It is the node's address.
    Address { changed: bool },
    /// Into the RRD dump; and what is to be written to a file, unless the key is of no known kind
    /// (to be logged, the request succeeds).
    Rrd(Result<RrdUpdate, RrdKeyError>),
}

/// A value of a peer that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerSetError {
    #[error("node {0} is not in the node list")]
    UnknownNode(u32),
    #[error(transparent)]
    Value(#[from] SetError),
}

/// The node is unknown, or has no value for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such node or status key")]
pub struct NoSuchValue;

impl Status {
    /// The status of a node that starts now: empty, without a node list, its log begun.
    pub fn new(node: &str, start_time: UnixTime, pid: u32) -> Status {
        let mut log = ClusterLog::new();
        log.add(&NewEntry {
            node: node.as_bytes(),
            ident: b"root",
            tag: b"cluster",
            pid,
            time: start_time,
            priority: 6,
            message: b"starting cluster log",
        });
        Status {
            node: node.to_owned(),
            start_time,
            quorate: false,
            cluster_info_version: 0,
            own: KeyValues::default(),
            members: None,
            online: Vec::new(),
            early: BTreeMap::new(),
            addresses: BTreeMap::new(),
            rrd: RrdDump::default(),
            log,
        }
    }

    /// The name of this node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Sets (or, by an empty value, removes) a value of this node. `now` is the uptime.
    pub fn set(&mut self, key: &[u8], value: &[u8], now: Duration) -> Result<Stored, SetError> {
        match Kind::of(key, value)? {
            Kind::Rrd { key, data } => Ok(Stored::Rrd(self.rrd.set(key, data, now))),
            Kind::Address(address) => {
                let changed = self.set_address(&self.node.clone(), address);
                Ok(Stored::Address { changed })
            }
            Kind::Value => {
                self.own.set(key, value);
                Ok(Stored::Value)
            }
        }
    }

    /// Sets a value of another node of the node list. Before the first list, a value or an address is kept
    /// for it, because other nodes send theirs only once, when this node joins the group.
    ///
    /// # Errors
    /// [`PeerSetError::UnknownNode`] for a node that is not in the list, or if there is no list yet.
    pub fn set_peer(
        &mut self,
        node_id: u32,
        key: &[u8],
        value: &[u8],
        now: Duration,
    ) -> Result<Stored, PeerSetError> {
        let Some(members) = &mut self.members else {
            self.keep_early(node_id, key, value)?;
            return Err(PeerSetError::UnknownNode(node_id));
        };
        let member = members.get_mut(node_id).ok_or(PeerSetError::UnknownNode(node_id))?;
        match Kind::of(key, value)? {
            Kind::Rrd { key, data } => Ok(Stored::Rrd(self.rrd.set(key, data, now))),
            Kind::Address(address) => {
                let name = member.node.name.clone();
                Ok(Stored::Address { changed: self.set_address(&name, address) })
            }
            Kind::Value => {
                member.values.get_or_insert_default().set(key, value);
                Ok(Stored::Value)
            }
        }
    }

    /// Keeps a value for the first node list. Measurements are dropped: new ones arrive within seconds.
    fn keep_early(&mut self, node_id: u32, key: &[u8], value: &[u8]) -> Result<(), SetError> {
        let is_kept = matches!(Kind::of(key, value)?, Kind::Address(_) | Kind::Value);
        let place = (node_id, key.to_vec());
        if is_kept && (self.early.len() < EARLY_MAX || self.early.contains_key(&place)) {
            self.early.insert(place, value.to_vec());
        }
        Ok(())
    }

    /// A value of a node; an empty name means this node.
    pub fn get(&self, node: &[u8], key: &[u8]) -> Result<&Arc<[u8]>, NoSuchValue> {
        let values = if node.is_empty() || node == self.node.as_bytes() {
            Some(&self.own)
        } else {
            let member = self.members.as_ref().and_then(|members| members.by_name(node));
            member.and_then(|member| member.values.as_ref())
        };
        values.and_then(|values| values.get(key)).ok_or(NoSuchValue)
    }

    /// The key/values of this node, as they are sent again at sync.
    pub fn own_values(&self) -> impl Iterator<Item = (&[u8], &Arc<[u8]>)> {
        self.own.iter()
    }

    /// The name of a node of the node list.
    pub fn node_name(&self, node_id: u32) -> Option<&str> {
        let node = self.members.as_ref()?.iter().find(|member| member.node.id == node_id)?;
        Some(&node.node.name)
    }

    /// The address of a node, without a NUL, when one was set.
    pub fn address(&self, node: &str) -> Option<&[u8]> {
        self.addresses.get(node).map(Vec::as_slice)
    }

    fn set_address(&mut self, node: &str, address: &[u8]) -> bool {
        if self.address(node) == Some(address) {
            return false;
        }
        self.addresses.insert(node.to_owned(), address.to_vec());
        self.count_cluster_info();
        true
    }

    /// Installs a new node list. Nodes of the previous list keep their values. Nodes of the status group are
    /// online, whether they joined before or after the list.
    pub fn set_cluster(&mut self, info: ClusterInfo) {
        let mut members = Members::new(info, self.members.take());
        members.set_online(&self.online);
        self.members = Some(members);
        for ((node_id, key), value) in std::mem::take(&mut self.early) {
            // Fails for a node that is not in the list.
            let _ = self.set_peer(node_id, &key, &value, Duration::ZERO);
        }
        self.count_cluster_info();
    }

    /// Who is in the status group: the nodes with these ids are online, all others are not.
    pub fn set_online(&mut self, node_ids: &[u32]) {
        self.online = node_ids.to_vec();
        if let Some(members) = &mut self.members {
            members.set_online(node_ids);
            self.count_cluster_info();
        }
    }

    fn count_cluster_info(&mut self) {
        self.cluster_info_version = self.cluster_info_version.wrapping_add(1);
    }

    /// The `clinfo` counter.
    pub fn cluster_info_version(&self) -> u32 {
        self.cluster_info_version
    }

    /// Sets whether this node has quorum; true when that is news.
    pub fn set_quorate(&mut self, quorate: bool) -> bool {
        std::mem::replace(&mut self.quorate, quorate) != quorate
    }

    pub fn is_quorate(&self) -> bool {
        self.quorate
    }

    /// The cluster log as this node has it.
    pub fn log(&self) -> &ClusterLog {
        &self.log
    }

    pub fn log_mut(&mut self) -> &mut ClusterLog {
        &mut self.log
    }

    /// The `.rrd` text, without a NUL. What was not set again for five minutes is dropped. Costly
    /// with many guests; the contract allows to serve one text for two seconds.
    pub fn rrd_text(&mut self, now: Duration) -> Vec<u8> {
        self.rrd.text(now)
    }
}

/// What is before the first NUL.
fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn info(ids: &[u32]) -> ClusterInfo {
        let node = |&id: &u32| ClusterNode { id, name: format!("n{id}"), votes: 1 };
        ClusterInfo { name: "c".to_owned(), config_version: 1, nodes: ids.iter().map(node).collect() }
    }

    fn value<'a>(status: &'a Status, node: &str, key: &str) -> Option<&'a [u8]> {
        status.get(node.as_bytes(), key.as_bytes()).ok().map(|value| &**value)
    }

    #[test]
    fn own_values() {
        let mut status = Status::new("n1", 5, 1);
        assert_eq!(status.get(b"", b"k"), Err(NoSuchValue));
        assert_eq!(status.set(b"k", b"one\0", NOW), Ok(Stored::Value));
        assert_eq!(value(&status, "", "k"), Some(&b"one\0"[..]));
        assert_eq!(value(&status, "n1", "k"), Some(&b"one\0"[..]));
        assert_eq!(value(&status, "n2", "k"), None);
        status.set(b"k", b"", NOW).unwrap();
        status.set(b"never", b"", NOW).unwrap();
        assert_eq!(status.own_values().count(), 0);
    }

    #[test]
    fn limits() {
        let mut status = Status::new("n1", 5, 1);
        let long = vec![b'x'; VALUE_MAX + 1];
        assert_eq!(status.set(&[b'k'; 255], &long[1..], NOW), Ok(Stored::Value));
        assert_eq!(status.set(b"k", &long, NOW), Err(SetError::ValueTooLong(VALUE_MAX + 1)));
        assert_eq!(status.set(&[b'k'; 256], b"v", NOW), Err(SetError::NameTooLong(256)));
        let text = |length: usize| [vec![b'x'; length - 1], vec![0]].concat();
        for bad in [&b""[..], b"10.0.0.1", &text(256)] {
            assert_eq!(status.set(b"nodeip", bad, NOW), Err(SetError::NotAnAddress));
        }
        assert_eq!(status.set(b"nodeip", &text(255), NOW), Ok(Stored::Address { changed: true }));
        for bad in [&b""[..], b"1:2", &text(4096)] {
            assert_eq!(status.set(b"rrd/x", bad, NOW), Err(SetError::NotAnRrdValue));
        }
        assert!(matches!(status.set(b"rrd/x", &text(4095), NOW), Ok(Stored::Rrd(Err(_)))));
    }

    #[test]
    fn addresses() {
        let mut status = Status::new("n1", 5, 1);
        let before = status.cluster_info_version();
        assert_eq!(status.set(b"nodeip", b"10.0.0.1\0", NOW), Ok(Stored::Address { changed: true }));
        assert_eq!(status.set(b"nodeip", b"10.0.0.1\0junk\0", NOW), Ok(Stored::Address { changed: false }));
        assert_eq!(status.cluster_info_version(), before + 1);
        assert_eq!(status.address("n1"), Some(&b"10.0.0.1"[..]));
        assert_eq!(status.get(b"", b"nodeip"), Err(NoSuchValue), "it is no key/value");
    }

    #[test]
    fn rrd_values() {
        let mut status = Status::new("n1", 5, 1);
        let stored = status.set(b"rrd/pve2-storage/n1/s", b"7:1:2\0", NOW).unwrap();
        let update = RrdUpdate {
            schema: RrdSchema::Storage,
            file: b"pve-storage-9.0/n1/s".to_vec(),
            values: b"7:1:2".to_vec(),
        };
        assert_eq!(stored, Stored::Rrd(Ok(update)));
        assert_eq!(status.rrd_text(NOW), b"pve2-storage/n1/s:7:1:2\n");
    }

    #[test]
    fn peers() {
        let mut status = Status::new("n1", 5, 1);
        assert_eq!(status.set_peer(2, b"k", b"v", NOW), Err(PeerSetError::UnknownNode(2)));
        status.set_cluster(info(&[1, 2, 3]));
        assert_eq!(status.set_peer(2, b"k", b"v", NOW), Ok(Stored::Value));
        assert_eq!(status.set_peer(3, b"k", b"w", NOW), Ok(Stored::Value));
        assert_eq!(status.set_peer(4, b"k", b"v", NOW), Err(PeerSetError::UnknownNode(4)));
        assert_eq!(
            status.set_peer(2, b"nodeip", b"x", NOW),
            Err(PeerSetError::Value(SetError::NotAnAddress))
        );
        assert_eq!(
            (value(&status, "n2", "k"), value(&status, "n3", "k")),
            (Some(&b"v"[..]), Some(&b"w"[..]))
        );
        // Values survive a new list, for the nodes in it.
        status.set_cluster(info(&[1, 2, 4]));
        assert_eq!((value(&status, "n2", "k"), value(&status, "n3", "k")), (Some(&b"v"[..]), None));
        status.set_cluster(info(&[3]));
        assert_eq!(value(&status, "n3", "k"), None);
    }

    #[test]
    fn group_before_node_list_is_not_lost() {
        let mut status = Status::new("n1", 5, 1);
        status.set_online(&[1, 3]);
        for (id, key, data) in [(3, "nodeip", "10.0.0.3\0"), (3, "k", "old"), (3, "k", "v"), (9, "k", "w")] {
            let refused = status.set_peer(id, key.as_bytes(), data.as_bytes(), NOW);
            assert_eq!(refused, Err(PeerSetError::UnknownNode(id)));
        }
        status.set_cluster(info(&[1, 2, 3]));
        let text = status.members_text();
        for online in
            ["\"n1\": { \"id\": 1, \"online\": 1}", "\"id\": 2, \"online\": 0", "\"id\": 3, \"online\": 1"]
        {
            assert!(text.contains(online), "{online}: {text}");
        }
        assert_eq!(
            (status.address("n3"), value(&status, "n3", "k")),
            (Some(&b"10.0.0.3"[..]), Some(&b"v"[..]))
        );
        // A node that is in the group before the list contains it.
        status.set_online(&[1, 3, 4]);
        status.set_cluster(info(&[1, 3, 4, 9]));
        assert!(status.members_text().contains("\"id\": 4, \"online\": 1"));
        assert_eq!(value(&status, "n9", "k"), None);
    }

    #[test]
    fn early_values_are_bounded() {
        let mut status = Status::new("n1", 5, 1);
        for number in 0..EARLY_MAX as u32 + 10 {
            status.set_peer(number, b"k", b"v", NOW).unwrap_err();
        }
        assert_eq!(status.early.len(), EARLY_MAX);
    }

    #[test]
    fn what_counts_the_cluster_information_up() {
        let mut status = Status::new("n1", 5, 1);
        status.set_online(&[1]);
        assert_eq!(status.cluster_info_version(), 0, "there is no list");
        status.set_cluster(info(&[1, 2]));
        status.set_online(&[1, 9]);
        assert_eq!(status.cluster_info_version(), 2);
        assert!(status.set_quorate(true) && !status.set_quorate(true));
        status.set(b"k", b"v", NOW).unwrap();
        assert_eq!(status.cluster_info_version(), 2);
        let text = status.members_text();
        assert!(text.contains("\"n1\": { \"id\": 1, \"online\": 1}"), "{text}");
        assert!(text.contains("\"n2\": { \"id\": 2, \"online\": 0}"), "{text}");
    }

    #[test]
    fn the_log_begins() {
        let status = Status::new("n1", 5, 77);
        let record = status.log().ring().records().next().unwrap();
        assert_eq!((record.uid(), record.time(), record.pid(), record.priority()), (1, 5, 77, 6));
        assert_eq!((record.ident(), record.tag()), (&b"root"[..], &b"cluster"[..]));
        assert_eq!(record.message(), b"starting cluster log");
    }
}
