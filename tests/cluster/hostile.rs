//! Messages that no daemon sends: who gets one leaves the group as a stock node does, joins it again and
//! syncs; or ignores it. Nobody ends, nothing changes.

use crate::cluster::{Cluster, Mix};
use crate::intruder::{When, base, intrude};
use crate::wait::{eventually, soon};
use crate::{TOKEN, run_with};
use pmxcfs::dfsm::wire::{Epoch, Extension, NORMAL, Normal, Sync, SyncKind};
use std::thread;

const TREE: &str = "pve_dcdb_v1";
const STATUS: &str = "pve_kvstore_v1";

/// What nodes log when they leave.
const LEAVING: &str = "leaving CPG group";

type Words = fn(Epoch) -> Vec<Vec<u8>>;

/// A message of the database group's application.
fn normal(subtype: u16, payload: &[u8]) -> Vec<u8> {
    let base = pmxcfs::dfsm::wire::Base { subtype, ..base(NORMAL, 1) };
    Normal { base, count: 1, payload }.encode()
}

fn sync(kind: u16, epoch: Epoch, payload: &[u8]) -> Vec<u8> {
    Sync { base: base(kind, 1), epoch, payload }.encode()
}

/// Five lengths, and what follows.
fn change(numbers: [u32; 5], rest: &[u8]) -> Vec<u8> {
    [&numbers.map(u32::to_le_bytes).concat(), rest].concat()
}

#[test]
fn who_gets_nonsense_leaves_and_syncs_again() {
    let cases: [(&str, When, Words); 8] = [
        ("a few bytes", When::Synced, |_| vec![b"\0\0nonsense".to_vec()]),
        ("a head without its count", When::Synced, |_| vec![normal(1, b"")[..20].to_vec()]),
        ("an unknown subtype", When::Synced, |_| vec![normal(99, b"payload")]),
        ("lengths beyond the end", When::Synced, |_| {
            vec![normal(1, &change([u32::MAX, 0, u32::MAX, 0, 0], b"path\0data"))]
        }),
        ("a short state of the machine", When::Synced, |epoch| {
            vec![sync(SyncKind::VerifyRequest as u16, epoch, b"")]
        }),
        ("another checksum", When::Synced, |epoch| {
            let id = 9u64.to_le_bytes();
            let request = sync(SyncKind::VerifyRequest as u16, epoch, &id);
            vec![request, sync(SyncKind::Verify as u16, epoch, &[id.as_slice(), &[7; 32]].concat())]
        }),
        ("a state that is none", When::Asked, |epoch| {
            vec![sync(SyncKind::State as u16, epoch, &[0xff; 100])]
        }),
        ("two states", When::Asked, |epoch| {
            [1, 2].map(|state| sync(SyncKind::State as u16, epoch, &[state; 40])).to_vec()
        }),
    ];
    // Joining again takes its time: two clusters wait at once.
    thread::scope(|scope| {
        for cases in cases.chunks(cases.len() / 2) {
            scope.spawn(|| run_with(vec![Mix::ours(3)], "nonsense", TOKEN, |cluster| hear(cluster, cases)));
        }
    });
}

fn hear(cluster: &mut Cluster, cases: &[(&str, When, Words)]) {
    cluster[1].write("kept", "text").expect("written");
    for &(what, when, words) in cases {
        let before: Vec<usize> = cluster.nodes.iter().map(|node| node.logged(LEAVING)).collect();
        cluster[2].space.run(move || intrude(TREE, 1, when, words));
        for (node, before) in cluster.nodes.iter().zip(before) {
            soon(&format!("{what}: node {} leaves", node.number), || node.logged(LEAVING) > before);
        }
        recovers(cluster, what);
    }
}

#[test]
fn what_stock_nodes_ignore_is_ignored() {
    run_with(vec![Mix::ours(3)], "ignored", TOKEN, |cluster| {
        cluster[1].write("kept", "text").expect("written");
        let words: Words = |epoch| {
            let older = Normal { base: base(NORMAL, 0), count: 1, payload: b"" }.encode();
            let foreign = Epoch { counter: epoch.counter.wrapping_add(1), ..epoch };
            let marked =
                pmxcfs::dfsm::wire::Base { extension: Extension(u32::MAX), subtype: 5, ..base(NORMAL, 1) };
            let create = change([0, 0, 9, 0, 0], b"intruder\0");
            vec![
                older,
                sync(SyncKind::Update as u16, foreign, b"nonsense"),
                sync(SyncKind::UpdateComplete as u16, foreign, b""),
                sync(77, foreign, b""),
                // With bits of an extension that nobody knows.
                Normal { base: marked, count: 2, payload: &create }.encode(),
                // Refused by the rules of the tree.
                normal(3, &change([0, 0, 8, 0, 0], b"missing\0")),
                normal(2, &change([0, 0, 12, 0, 0], b"a/../../etc\0")),
            ]
        };
        cluster[3].space.run(move || intrude(TREE, 1, When::Synced, words));
        for node in &cluster.nodes {
            soon("what is right is done", || node.has("intruder", ""));
        }
        let words: Words = |_| {
            let word = |subtype, payload: &[u8]| {
                let base = pmxcfs::dfsm::wire::Base { subtype, ..base(NORMAL, 0) };
                Normal { base, count: 1, payload }.encode()
            };
            vec![
                word(1, b"short"),
                word(3, b"no entry"),
                word(2, b""),
                word(1, &[b'x'; 300]),
                word(3, &[0xff; 200]),
            ]
        };
        cluster[3].space.run(move || intrude(STATUS, 0, When::Synced, words));
        for node in &cluster.nodes {
            assert_eq!(node.logged(LEAVING), 0, "{}", node.log());
        }
        recovers(cluster, "ignored");
    });
}

#[test]
fn a_newer_protocol_ends_the_membership_until_the_restart() {
    run_with(vec![Mix::ours(3)], "a newer protocol", TOKEN, |cluster| {
        cluster[1].write("kept", "text").expect("written");
        let words: Words = |_| vec![Normal { base: base(NORMAL, 2), count: 1, payload: b"" }.encode()];
        cluster[1].space.run(move || intrude(TREE, 1, When::Synced, words));
        for node in &cluster.nodes {
            soon("asks for an update", || {
                node.logged("detected newer protocol - please update this node") == 1
            });
            soon("changes nothing", || node.write("new", "x").is_err());
            assert!(node.has("kept", "text"), "reading goes on");
        }
        for node in &mut cluster.nodes {
            node.stop();
            node.start();
        }
        recovers(cluster, "a newer protocol");
    });
}

fn recovers(cluster: &mut Cluster, what: &str) {
    eventually(&format!("{what}: the cluster recovers"), || {
        cluster.nodes.iter().all(|node| node.write("after", what).is_ok())
    });
    cluster.settle();
    for node in &cluster.nodes {
        assert!(node.has("kept", "text"));
        assert_eq!(node.logged("panicked") + node.logged("a fault of this program"), 0, "{}", node.log());
        assert_eq!(node.logged("cpg_join failed"), 0, "{}", node.log());
    }
    cluster.assert_equal();
}
