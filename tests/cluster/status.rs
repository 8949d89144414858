//! What is not in the tree: values, the cluster log, addresses.

use crate::node::Node;
use crate::scenario;
use crate::wait::{eventually, soon};
use pmxcfs::ipc::ops::Op;

/// Milliseconds: here a lost node is to be noticed.
const SHORT_TOKEN: u32 = 1500;

fn log_message(text: &str) -> Vec<u8> {
    [b"\x06\x05\x05".as_slice(), b"root\0test\0", text.as_bytes(), b"\0"].concat()
}

fn field(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(256, 0);
    bytes
}

fn set(node: &Node, key: &str, value: &str) {
    assert_eq!(node.ask(Op::SetStatus, &[field(key), value.as_bytes().to_vec()].concat()).0, 0);
}

fn get(node: &Node, key: &str, of: &Node) -> Option<String> {
    let (error, data) = node.ask(Op::GetStatus, &[field(key), field(&of.name())].concat());
    (error == 0).then(|| String::from_utf8(data).expect("text"))
}

/// The cluster log as text; it must be equal on all nodes.
fn cluster_log(node: &Node) -> String {
    let (error, data) = node.ask(Op::GetClusterLog, &[vec![200, 0, 0, 0], vec![0; 12], vec![0]].concat());
    assert_eq!(error, 0);
    String::from_utf8(data).expect("text")
}

scenario!(values_addresses_and_the_log_are_the_same_everywhere, SHORT_TOKEN, |cluster| {
    for node in &cluster.nodes {
        set(node, "kv", &format!("value of {}", node.number));
        assert_eq!(node.ask(Op::LogClusterMsg, &log_message(&format!("said by {}", node.number))).0, 0);
    }
    let told = |said: &[&str]| {
        for node in &cluster.nodes {
            for of in &cluster.nodes {
                let value = format!("value of {}", of.number);
                soon("a value", || get(node, "kv", of).as_deref() == Some(&value));
                let ip = format!("10.99.0.{}", of.number);
                soon("an address", || node.json(".members")["nodelist"][of.name()]["ip"] == ip);
            }
            soon("all messages", || said.iter().all(|text| cluster_log(node).contains(text)));
        }
        soon("the same log", || {
            let first = cluster_log(&cluster[1]);
            cluster.nodes.iter().all(|node| cluster_log(node) == first)
        });
    };
    told(&["said by 1", "said by 2", "said by 3"]);
    // Both sides of a cut say something; after it all have heard it.
    cluster.cut(&[3]);
    cluster.await_members(&[1, 2], &[1, 2]);
    cluster.await_members(&[3], &[3]);
    for node in &cluster.nodes {
        assert_eq!(node.ask(Op::LogClusterMsg, &log_message(&format!("alone, {}", node.number))).0, 0);
    }
    set(&cluster[3], "kv", "value of 3");
    cluster.heal();
    cluster.await_members(&cluster.numbers(), &cluster.numbers());
    eventually("it is a member again", || cluster[3].write("f", "x").is_ok());
    told(&["said by 1", "alone, 1", "alone, 2", "alone, 3"]);
});
