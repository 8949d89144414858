//! What our daemons tell of themselves, and of changes that others made.

use crate::node::Node;
use crate::scenario;
use crate::wait::{eventually, soon};
use pmxcfs::ipc::calls;
use pmxcfs::ipc::ops::Op;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Milliseconds: here a lost node is to be noticed.
const SHORT_TOKEN: u32 = 1500;

fn ask(node: &Node, op: Op, body: &[u8]) -> Value {
    let (error, data) = node.ask(op, body);
    assert_eq!(error, 0, "{op:?}");
    serde_json::from_slice(&data).expect("JSON")
}

pub fn groups(node: &Node) -> Value {
    ask(node, Op::GetDaemonStatus, &[])["groups"].clone()
}

/// Both groups are synced, with these nodes, in rounds that are the same on all.
fn assert_synced(nodes: &[&Node]) {
    for group in ["database", "status"] {
        let numbers: Vec<u64> = nodes.iter().map(|node| node.number as u64).collect();
        let is_synced = |report: &Value| {
            let members = report["members"].as_array().expect("a list");
            let is_member = |member: &Value| member["synced"] == true;
            let ids: Vec<u64> = members.iter().filter_map(|member| member["node"].as_u64()).collect();
            report["mode"] == "synced" && members.iter().all(is_member) && ids == numbers
        };
        for node in nodes {
            eventually("the group is synced", || is_synced(&groups(node)[group]));
        }
        let epochs: BTreeSet<String> =
            nodes.iter().map(|node| groups(node)[group]["epoch"].to_string()).collect();
        assert_eq!(epochs.len(), 1, "{group}: {epochs:?}");
    }
}

/// What this node has heard since it was asked first.
struct Listener<'a> {
    node: &'a Node,
    cursor: u64,
    heard: Vec<Value>,
}

impl<'a> Listener<'a> {
    fn new(node: &'a Node) -> Self {
        let answer = ask(node, Op::GetChanges, &calls::get_changes(0, 0));
        Self { node, cursor: answer["cursor"].as_u64().expect("a cursor"), heard: Vec::new() }
    }

    /// Waits until it hears of something like this.
    fn hears(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) {
        soon(what, || {
            let answer = ask(self.node, Op::GetChanges, &calls::get_changes(self.cursor, 500));
            assert_eq!(answer["lost"], false);
            self.cursor = answer["cursor"].as_u64().expect("a cursor");
            self.heard.extend(answer["events"].as_array().expect("a list").iter().cloned());
            self.heard.iter().any(&is_it)
        });
    }
}

scenario!(groups_and_changes_of_others_are_told, SHORT_TOKEN, |cluster| {
    if cluster.nodes.iter().any(Node::is_stock) {
        return;
    }
    assert_synced(&[&cluster[1], &cluster[2], &cluster[3]]);
    let before = groups(&cluster[1])["database"].clone();
    let mut listener = Listener::new(&cluster[1]);
    cluster[2].write("told", "x").expect("written");
    listener.hears("the file", |event| {
        event["path"] == "told" && event["change"] == "content" && event["writer"] == 2
    });
    let mut key = b"key".to_vec();
    key.resize(256, 0);
    assert_eq!(cluster[3].ask(Op::SetStatus, &[key.as_slice(), b"value"].concat()).0, 0);
    let told = json!({ "kind": "status", "node": "n3", "key": "key" });
    listener.hears("the value", |event| *event == told);
    let message = calls::log_cluster_msg(6, b"root@pam", b"test", b"said by 3").expect("short");
    assert_eq!(cluster[3].ask(Op::LogClusterMsg, &message).0, 0);
    listener
        .hears("the message", |event| event["entry"]["msg"] == "said by 3" && event["entry"]["node"] == "n3");
    let after = groups(&cluster[1])["database"].clone();
    assert!(after["delivered"].as_u64() > before["delivered"].as_u64(), "{before} {after}");
    assert_eq!(after["epoch"], before["epoch"], "nobody came or went");

    cluster.cut(&[1]);
    cluster.await_members(&[1], &[1]);
    listener.hears("quorum is lost", |event| *event == json!({ "kind": "quorum", "quorate": false }));
    listener.hears("members went", |event| event["kind"] == "members");
    assert_eq!(ask(&cluster[1], Op::GetDaemonStatus, &[])["node"]["quorate"], false);
    assert_synced(&[&cluster[2], &cluster[3]]);
    cluster.heal();
    cluster.await_members(&cluster.numbers(), &cluster.numbers());
    assert_synced(&[&cluster[1], &cluster[2], &cluster[3]]);
    listener.hears("quorum is back", |event| *event == json!({ "kind": "quorum", "quorate": true }));
    assert!(groups(&cluster[1])["database"]["syncs"].as_u64() > before["syncs"].as_u64());
});
