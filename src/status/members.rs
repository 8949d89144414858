//! The node list: who belongs to the cluster, who is online, and the values of the other nodes. It
//! does not know where the list comes from.

use super::values::KeyValues;
use std::collections::BTreeMap;

/// What the cluster's configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInfo {
    pub name: String,
    pub config_version: u64,
    pub nodes: Vec<ClusterNode>,
}

/// One node of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    pub id: u32,
    pub name: String,
    pub votes: u32,
}

#[derive(Debug)]
pub(super) struct Members {
    pub(super) cluster_name: String,
    pub(super) config_version: u64,
    by_id: BTreeMap<u32, Member>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: ClusterNode,
    pub(super) online: bool,
    /// None until the node has sent a first value.
    pub(super) values: Option<KeyValues>,
}

impl Members {
    /// A new list with all nodes offline. Nodes whose id is in the old list keep their values.
    pub(super) fn new(info: ClusterInfo, old: Option<Members>) -> Members {
        let mut old = old.map(|old| old.by_id).unwrap_or_default();
        let by_id = info.nodes.into_iter().map(|node| {
            let id = node.id;
            let values = old.remove(&id).and_then(|old| old.values);
            (id, Member { node, online: false, values })
        });
        Members { cluster_name: info.name, config_version: info.config_version, by_id: by_id.collect() }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Member> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn by_name(&self, name: &[u8]) -> Option<&Member> {
        self.iter().find(|member| member.node.name.as_bytes() == name)
    }

    /// In the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn set_online(&mut self, ids: &[u32]) {
        for (id, member) in &mut self.by_id {
            member.online = ids.contains(id);
        }
    }
}
