//! The node list from the keys of corosync's configuration map: pure text work, so that it can be
//! tested without corosync.

use crate::status::{ClusterInfo, ClusterNode};
use std::collections::BTreeMap;

/// Prefix of the keys of nodes.
pub(super) const NODE_PREFIX: &str = "nodelist.node.";
/// Key of the cluster's name.
pub(super) const CLUSTER_NAME: &str = "totem.cluster_name";
/// Key of the configuration's version.
pub(super) const CONFIG_VERSION: &str = "totem.config_version";

/// What is known of one node while its keys are read.
#[derive(Debug, Default)]
struct Found {
    id: Option<u32>,
    name: Option<String>,
    address: Option<String>,
    votes: Option<u32>,
}

/// Reads the list from keys and values, in whatever order. A node without an id or a name is left
/// out, as corosync itself would not start with it.
pub(super) fn read(keys: impl IntoIterator<Item = (String, Value)>) -> ClusterInfo {
    let mut info = ClusterInfo { name: String::new(), config_version: 0, nodes: Vec::new() };
    let mut found = BTreeMap::<u32, Found>::new();
    for (key, value) in keys {
        match (key.as_str(), value) {
            (CLUSTER_NAME, Value::Text(name)) => info.name = name,
            (CONFIG_VERSION, Value::Number(version)) => info.config_version = version,
            (key, value) => {
                if let Some((node, field)) = node_field(key) {
                    take(found.entry(node).or_default(), field, value);
                }
            }
        }
    }
    for node in found.into_values() {
        if let (Some(id), Some(name)) = (node.id, node.name.or(node.address)) {
            info.nodes.push(ClusterNode { id, name, votes: node.votes.unwrap_or(1) });
        }
    }
    info
}

/// A value of the map, as far as any is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    Text(String),
}

fn node_field(key: &str) -> Option<(u32, &str)> {
    let (number, field) = key.strip_prefix(NODE_PREFIX)?.split_once('.')?;
    Some((number.parse().ok()?, field))
}

fn take(node: &mut Found, field: &str, value: Value) {
    match (field, value) {
        ("nodeid", Value::Number(id)) => node.id = u32::try_from(id).ok(),
        ("quorum_votes", Value::Number(votes)) => node.votes = u32::try_from(votes).ok(),
        ("name", Value::Text(name)) => node.name = Some(name),
        ("ring0_addr", Value::Text(address)) => node.address = Some(address),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn nodes_have_a_name_or_else_an_address() {
        let keys = [
            ("nodelist.node.0.nodeid", Value::Number(1)),
            ("nodelist.node.0.name", text("n1")),
            ("nodelist.node.0.ring0_addr", text("10.0.0.1")),
            ("nodelist.node.0.quorum_votes", Value::Number(2)),
            ("nodelist.node.1.ring0_addr", text("10.0.0.2")),
            ("nodelist.node.1.nodeid", Value::Number(2)),
            ("nodelist.node.2.name", text("without an id")),
            ("nodelist.node.x.nodeid", Value::Number(3)),
            ("nodelist.local_node_pos", Value::Number(0)),
            ("totem.cluster_name", text("testcl")),
            ("totem.config_version", Value::Number(7)),
        ];
        let info = read(keys.map(|(key, value)| (key.to_owned(), value)));
        let node = |id, name: &str, votes| ClusterNode { id, name: name.to_owned(), votes };
        assert_eq!((info.name.as_str(), info.config_version), ("testcl", 7));
        assert_eq!(info.nodes, [node(1, "n1", 2), node(2, "10.0.0.2", 1)]);
    }
}
