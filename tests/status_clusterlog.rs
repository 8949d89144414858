//! Replays what three stock nodes did with their cluster logs: what each logged itself, got from its
//! peers, and exchanged at a sync. Its ring must come out the same.

use flate2::read::GzDecoder;
use pmxcfs::status::clusterlog::{ClusterLog, Entry, NewEntry, Ring};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// What happened at a node, as far as its cluster log has to do with it.
enum Event {
    /// The daemon started.
    Start,
    /// The status group consists of these nodes.
    Members(Vec<u32>),
    /// The node logged this itself.
    Own(Vec<u8>),
    /// A peer sent this.
    Peer(Vec<u8>),
    /// The node gave its ring for a sync.
    Give(Vec<u8>),
    /// A member's ring came.
    State { node: u32, ring: Vec<u8> },
}

const GROUP: &str = "pve_kvstore_v1";
/// The second group that is joined.
const HANDLE: u64 = 5_800_310_499_539_156_993;

fn recording(node: u32) -> Vec<Event> {
    let path = format!("{}/tests/golden/cpg-node{node}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    let records = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let ours = records.filter(|record| record["group"] == GROUP || record["handle"] == HANDLE);
    ours.filter_map(|record| event(node, &record)).collect()
}

fn event(own: u32, record: &Value) -> Option<Event> {
    let id = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let is_sent = match record["ev"].as_str().unwrap() {
        "join" => return Some(Event::Start),
        "confchg" => {
            let members = record["members"].as_array().unwrap();
            return Some(Event::Members(members.iter().map(|member| id(&member[0])).collect()));
        }
        kind => kind == "mcast",
    };
    let message = bytes(record["hex"].as_str().unwrap());
    let [kind, _, subtype, _] = message[..4] else { panic!("a short message") };
    match (kind, subtype) {
        (2, _) if is_sent => Some(Event::Give(message[32..].to_vec())),
        (2, _) => Some(Event::State { node: id(&record["node"]), ring: message[32..].to_vec() }),
        (0, 3) if is_sent => Some(Event::Own(message[24..].to_vec())),
        // A node ignores its own messages when they come back.
        (0, 3) if id(&record["node"]) != own => Some(Event::Peer(message[24..].to_vec())),
        _ => None,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What one node's log went through, counted so that a test cannot pass by doing nothing.
#[derive(Debug, Default, PartialEq)]
struct Replayed {
    entries: usize,
    given: usize,
    merges: usize,
    overwrote: bool,
}

fn replay(node: u32) -> Replayed {
    let mut replayed = Replayed::default();
    let mut log = ClusterLog::new();
    let mut fresh = true;
    let mut members: Vec<u32> = Vec::new();
    let mut states: Vec<(u32, Ring)> = Vec::new();
    for event in recording(node) {
        match event {
            Event::Start => (log, fresh) = (ClusterLog::new(), true),
            Event::Members(ids) => {
                members = ids;
                states.clear();
            }
            Event::Own(bytes) | Event::Peer(bytes) => {
                let entry = Entry::decode(&bytes).unwrap();
                assert_eq!(entry.as_bytes(), bytes);
                assert!(log.insert(&entry), "a recorded message is no duplicate");
                assert!(!log.insert(&entry), "the same message again is one");
                replayed.entries += 1;
                replayed.overwrote |= log.ring().records().count() < replayed.entries;
            }
            Event::Give(bytes) => {
                if std::mem::take(&mut fresh) {
                    // The message of the start is in the first ring that a node gives, only.
                    let given = Ring::decode(&bytes).unwrap();
                    assert_eq!(given.records().count(), 1);
                    log.merge(&[given], &[]);
                }
                assert!(log.state() == bytes, "node {node} gives another ring");
                replayed.given += 1;
            }
            Event::State { node: id, ring: bytes } => {
                let ring = Ring::decode(&bytes).unwrap();
                assert!(ring.as_bytes() == bytes);
                states.push((id, ring));
                if states.len() == members.len() {
                    merge(&mut log, node, &mut states);
                    replayed.merges += 1;
                }
            }
        }
    }
    replayed
}

/// What a member does when all states are in.
fn merge(log: &mut ClusterLog, node: u32, states: &mut [(u32, Ring)]) {
    states.sort_by_key(|(id, _)| *id);
    let side = |wanted: fn(&u32, &u32) -> bool| -> Vec<Ring> {
        let rings = states.iter().filter(|(id, _)| wanted(id, &node));
        rings.map(|(_, ring)| ring.clone()).collect()
    };
    log.merge(&side(u32::lt), &side(u32::gt));
}

#[test]
fn rings_of_node_1() {
    assert_eq!(replay(1), Replayed { entries: 944, given: 4, merges: 4, overwrote: true });
}

#[test]
fn rings_of_node_2() {
    assert_eq!(replay(2), Replayed { entries: 944, given: 4, merges: 4, overwrote: true });
}

#[test]
fn rings_of_node_3() {
    assert_eq!(replay(3), Replayed { entries: 4, given: 2, merges: 2, overwrote: false });
}

/// Nodes that merge the same rings have the same log: its end is in no recorded message, so they are
/// compared with each other.
#[test]
fn a_merge_is_the_same_at_every_node() {
    let states = recording(3).into_iter().filter_map(|event| match event {
        Event::State { ring, .. } => Some(Ring::decode(&ring).unwrap()),
        _ => None,
    });
    let rings: Vec<Ring> = states.skip(3).collect();
    let [a, b, c] = rings.as_slice() else { panic!("three members") };
    let merged = |own: &Ring, before: &[Ring], after: &[Ring]| {
        let mut log = ClusterLog::new();
        log.merge(std::slice::from_ref(own), &[]);
        assert!(log.ring() == own, "a sorted ring is what it was");
        log.merge(before, after);
        log.ring().clone()
    };
    let first = merged(a, &[], &[b.clone(), c.clone()]);
    assert!(first == merged(b, std::slice::from_ref(a), std::slice::from_ref(c)));
    assert!(first == merged(c, &[a.clone(), b.clone()], &[]));
    let times: Vec<u32> = first.records().map(|record| record.time()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older));
}

/// Our own entry has the bytes that stock makes, but for the four behind the message, which are what
/// was in stock's memory.
#[test]
fn the_first_entry_has_stocks_bytes() {
    for (node, pid) in [(1, 13628), (2, 13631), (3, 13658)] {
        let given = recording(node).into_iter().find_map(|event| match event {
            Event::Give(bytes) => Some(bytes),
            _ => None,
        });
        let given = given.unwrap();
        let time = Ring::decode(&given).unwrap().records().next().unwrap().time();
        let mut log = ClusterLog::new();
        log.add(&NewEntry {
            node: format!("n{node}").as_bytes(),
            ident: b"root",
            tag: b"cluster",
            pid,
            time,
            priority: 6,
            message: b"starting cluster log",
        })
        .unwrap();
        let mut expected = given;
        let end = 8 + 44 + "n1.root.cluster.starting cluster log.".len();
        expected[end..end + 4].fill(0);
        assert!(log.state() == expected);
    }
}

/// As recorded from the same requests to a stock node, backslashes apart: those are no JSON there.
#[test]
fn messages_become_what_stock_makes_of_them() {
    let own = recording(1).into_iter().filter_map(|event| match event {
        Event::Own(bytes) => Some(Entry::decode(&bytes).unwrap()),
        _ => None,
    });
    let sent: [&[u8]; 4] = [
        "hello world \"q\" ä".as_bytes(),
        b"a message \"quoted\" \\ back",
        "grüße € 😀 \t end".as_bytes(),
        b"bad \xff byte \x01",
    ];
    let mut log = ClusterLog::new();
    for (stock, message) in own.zip(sent) {
        let record = stock.record();
        let ours = log
            .add(&NewEntry {
                node: record.node(),
                ident: record.ident(),
                tag: record.tag(),
                pid: record.pid(),
                time: record.time(),
                priority: record.priority(),
                message,
            })
            .unwrap();
        let (ours, stock) = (ours.record(), record);
        let text = String::from_utf8_lossy(stock.message()).replace(" \\ ", " \\u005c ");
        assert_eq!(String::from_utf8_lossy(ours.message()), text);
        assert_eq!(ours.node_digest(), stock.node_digest());
        assert_eq!(ours.ident_digest(), stock.ident_digest());
    }
}

/// The text that the recorded node gave after its first four messages.
const TEXT: &str = r#"{
"data": [
{"uid": 5, "time": 1795359990, "pri": 4, "tag": "tag1", "pid": 14191, "node": "n1", "user": "root@pam", "msg": "bad ? byte #001"},
{"uid": 4, "time": 1795359990, "pri": 5, "tag": "tag1", "pid": 14191, "node": "n1", "user": "root@pam", "msg": "gr\u00fc\u00dfe \u20ac  #009 end"},
{"uid": 3, "time": 1795359990, "pri": 6, "tag": "tag1", "pid": 14191, "node": "n1", "user": "root@pam", "msg": "a message \"quoted\" \\ back"},
{"uid": 2, "time": 1795359943, "pri": 6, "tag": "unknown", "pid": 13764, "node": "n1", "user": "root@pam", "msg": "hello world \"q\" \u00e4"},
{"uid": 1, "time": 1795359934, "pri": 6, "tag": "cluster", "pid": 13658, "node": "n3", "user": "root", "msg": "starting cluster log"},
{"uid": 1, "time": 1795359929, "pri": 6, "tag": "cluster", "pid": 13631, "node": "n2", "user": "root", "msg": "starting cluster log"},
{"uid": 1, "time": 1795359929, "pri": 6, "tag": "cluster", "pid": 13628, "node": "n1", "user": "root", "msg": "starting cluster log"}
]
}
"#;

/// Stock has the one backslash of its message as it is, which no JSON reader takes.
#[test]
fn the_text_is_stocks() {
    let first = |node| {
        let given = recording(node).into_iter().find_map(|event| match event {
            Event::Give(bytes) => Some(Ring::decode(&bytes).unwrap()),
            _ => None,
        });
        given.unwrap()
    };
    let own = recording(1).into_iter().filter_map(|event| match event {
        Event::Own(bytes) => Some(Entry::decode(&bytes).unwrap()),
        _ => None,
    });
    let mut log = ClusterLog::new();
    log.merge(&[], &[first(1), first(2), first(3)]);
    assert!(own.take(4).all(|entry| log.insert(&entry)));
    assert_eq!(log.text(b"", 50), TEXT);
    assert!(serde_json::from_str::<Value>(TEXT).is_ok());

    let lines: Vec<&str> = TEXT.lines().collect();
    let some = |lines: &[&str]| {
        let entries = lines.join("\n");
        format!("{{\n\"data\": [\n{}\n]\n}}\n", entries.trim_end_matches(','))
    };
    assert_eq!(log.text(b"", 3), some(&lines[2..5]));
    assert_eq!(log.text(b"root@pam", 2), some(&lines[2..4]));
    assert_eq!(log.text(b"root", 50), some(&lines[6..9]));
    assert_eq!(log.text(b"nobody", 50), "{\n\"data\": [\n]\n}\n");
    assert_eq!(log.text(b"", 0), "{\n\"data\": [\n]\n}\n");
}
