//! Members that are synced and have got the same messages have the same database, byte for byte.

use super::Complaint;
use crate::corosync::NodeId;
use pmxcfs::memdb::MemDb;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct SameIndex {
    /// The index after each message, and who had it first.
    by_order: BTreeMap<u64, (NodeId, Vec<u8>)>,
}

impl SameIndex {
    /// A synced node is up to this message.
    pub fn check(&mut self, node: NodeId, order: u64, db: &mut MemDb) -> Result<(), Complaint> {
        let index = db.index().encode();
        let (first, known) = self.by_order.entry(order).or_insert_with(|| (node, index.clone()));
        if *known == index {
            return Ok(());
        }
        Err(format!(
            "nodes {first} and {node} are synced and up to message {order}, but their databases differ"
        ))
    }
}
