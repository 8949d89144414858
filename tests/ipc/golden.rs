//! The requests that were recorded off a stock daemon, and a node as it was when they began.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use pmxcfs::cfs::{Cfs, NodeIdentity};
use pmxcfs::clock::Clock;
use pmxcfs::engine::Engine;
use pmxcfs::ipc::qb::{Namespace, Options, Server};
use pmxcfs::ipc::requests::Requests;
use pmxcfs::memdb::{Change, WriteAt};
use pmxcfs::rrd::Sink;
use pmxcfs::status::clusterlog::{ClusterLog, NewEntry};
use pmxcfs::status::{ClusterInfo, ClusterNode};
use pmxcfs::store::Store;
use serde_json::Value;
use std::sync::Arc;

/// The process that sent the recorded requests.
pub const CLIENT_PID: i32 = 14191;

/// One recorded request and its answer.
pub struct Record {
    pub name: String,
    pub id: i32,
    pub body: Vec<u8>,
    pub errno: i32,
    pub data: Vec<u8>,
}

pub fn records() -> Vec<Record> {
    let text = include_str!("../golden/ipc.jsonl");
    text.lines().map(|line| record(&serde_json::from_str(line).expect("a JSON line"))).collect()
}

pub fn record(json: &Value) -> Record {
    let number = |key: &str| i32::try_from(json[key].as_i64().expect("a number")).expect("32 bits");
    Record {
        name: json["name"].as_str().unwrap_or_default().to_owned(),
        id: number("op"),
        body: bytes(&json["req"]),
        errno: number("errno"),
        // The recording client shows an answer without data as null, also when there was no error.
        data: if json["resp"].is_null() { Vec::new() } else { bytes(&json["resp"]) },
    }
}

pub fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().expect("a string").as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("hex digits")).collect()
}

/// How an answer is held against the recorded one.
pub enum Compare {
    Bytes,
    /// As JSON: the stock daemon lists guests in the order of a hash table, this one by VMID.
    Json,
    /// As JSON without `starttime`, the moment at which the daemon started.
    Version,
    /// As JSON without `time` and `pid` of each entry, the moment of its making and its maker. And
    /// stock writes a lone backslash as it is, which is not JSON: the recorded text is mended.
    ClusterLog,
}

impl Compare {
    fn of(name: &str) -> Compare {
        match name {
            "version" => Compare::Version,
            "vmlist" | "prop-all-name" | "props-all" => Compare::Json,
            "clusterlog" | "clusterlog-user-max" => Compare::ClusterLog,
            _ => Compare::Bytes,
        }
    }

    pub fn assert_same(&self, name: &str, ours: &[u8], recorded: &[u8]) {
        let json = |text: &[u8]| -> Value {
            serde_json::from_slice(text).unwrap_or_else(|error| {
                panic!("{name}: {error} in {}", String::from_utf8_lossy(text));
            })
        };
        match self {
            Compare::Bytes => {
                assert_eq!(ours.escape_ascii().to_string(), recorded.escape_ascii().to_string(), "{name}");
            }
            Compare::Json => assert_eq!(json(ours), json(recorded), "{name}"),
            Compare::Version => {
                let strip = |mut version: Value| {
                    assert!(version["starttime"].take().is_u64(), "{name}");
                    version
                };
                assert_eq!(strip(json(ours)), strip(json(recorded)), "{name}");
            }
            Compare::ClusterLog => {
                let recorded = String::from_utf8_lossy(recorded).replace(r"\ back", r"\\ back");
                assert_eq!(log_entries(json(ours)), log_entries(json(recorded.as_bytes())), "{name}");
            }
        }
    }
}

fn log_entries(mut log: Value) -> Vec<Value> {
    let entries = log["data"].as_array_mut().expect("a list of entries");
    for entry in entries.iter_mut() {
        assert!(entry["time"].take().is_u64() && entry["pid"].take().is_u64());
    }
    std::mem::take(entries)
}

/// A node called n1.
pub struct Node {
    pub cfs: Arc<Cfs>,
    _dir: tempfile::TempDir,
}

impl Node {
    /// With nothing in it.
    pub fn empty() -> Node {
        let dir = tempfile::tempdir().expect("a directory for the database");
        let clock = Clock::start();
        let store = Store::open(&dir.path().join("config.db"), clock.unix()).expect("a new database");
        let db = Arc::new(Engine::open(store, clock).expect("an empty tree"));
        let identity = NodeIdentity { name: "n1".to_owned(), address: None, www_data_gid: 33 };
        Node { cfs: Arc::new(Cfs::new(db, clock, identity, Sink::discarding())), _dir: dir }
    }

    /// That of the recorded cluster, as it was before the first request.
    pub fn recorded() -> Node {
        let node = Node::empty();
        fill_tree(&node.cfs.engine);
        fill_status(&node.cfs);
        node
    }
}

/// The files of the recorded cluster, made by as many changes as there: the counters are compared.
fn fill_tree(db: &Engine) {
    let change = |change| {
        db.submit_wait(change).expect("an allowed change");
    };
    let write = |path: &str, pieces: &[&str]| {
        change(Change::Create { path: path.into() });
        for piece in pieces {
            change(Change::Write { path: path.into(), at: WriteAt::End, data: piece.as_bytes().to_vec() });
        }
    };
    for dir in ["nodes", "nodes/n1", "nodes/n1/qemu-server", "nodes/n2", "nodes/n2/lxc", "priv"] {
        change(Change::Mkdir { path: dir.into() });
    }
    write("nodes/n1/qemu-server/100.conf", &["memory: 512\nname: a\n"]);
    write("storage.cfg", &["abc", "hello\n"]);
    write("empty.cfg", &[]);
    write("priv/token.cfg", &["root@pam!t0 aaa\nroot@pam!t1 11111111-2222-3333-4444-555555555555\n"]);
    write(
        "nodes/n2/lxc/101.conf",
        &["arch: amd64\nhostname: ct\nmemory: 128\nname: \\weird \"x\"  \n[snap]\nname: hidden"],
    );
    write("nodes/n1/qemu-server/102.conf", &["name: nonl"]);
}

/// Three nodes, all online, with their addresses; an RRD value; and what all of them logged so far.
fn fill_status(cfs: &Cfs) {
    let node = |id| ClusterNode { id, name: format!("n{id}"), votes: 1 };
    let now = cfs.clock.uptime();
    cfs.set_quorate(true);
    cfs.with_status(|status| {
        let nodes = (1..=3).map(node).collect();
        status.set_cluster(ClusterInfo { name: "testcl".to_owned(), config_version: 3, nodes });
        status.set_online(&[1, 2]);
        status.set_online(&[1, 2, 3]);
        for id in [2, 3] {
            let address = format!("10.77.0.{id}\0");
            status.set_peer(id, b"nodeip", address.as_bytes(), now).expect("an address");
        }
    });
    cfs.set_status(b"nodeip", b"10.77.0.1\0").expect("an address");
    let value = b"12345:0:1700000000:0.1:4:0.02:0.0:100:50:0:0:100:10:1:2:50:0:0:0:0:0:0\0";
    cfs.set_status(b"rrd/pve-node-9.0/n1", value).expect("an RRD value");

    let log = |node: &'static str, ident: &'static str, tag: &'static str, message: &'static str| NewEntry {
        node: node.as_bytes(),
        ident: ident.as_bytes(),
        tag: tag.as_bytes(),
        pid: 1,
        time: cfs.clock.unix(),
        priority: 6,
        message: message.as_bytes(),
    };
    cfs.with_status(|status| {
        for node in ["n2", "n3"] {
            // By a log of its own, since entries are numbered by who made them.
            let entry = ClusterLog::new().add(&log(node, "root", "cluster", "starting cluster log"));
            assert!(status.log_mut().insert(&entry.expect("an entry")));
        }
        status.log_mut().add(&log("n1", "root@pam", "unknown", "hello world \"q\" \u{e4}"));
    });
}

/// Sends all recorded requests by `ask`, which gives the errno and the data.
pub fn replay(mut ask: impl FnMut(i32, &[u8]) -> (i32, Vec<u8>)) {
    let records = records();
    assert_eq!(records.len(), 59);
    for Record { name, id, body, errno, data } in records {
        let (our_errno, ours) = ask(id, &body);
        assert_eq!(our_errno, errno, "errno of {name}");
        Compare::of(&name).assert_same(&name, &ours, &data);
    }
}

/// The service of a node that was recorded, over the transport.
pub struct RecordedService {
    pub name: String,
    pub shm: tempfile::TempDir,
    pub node: Node,
    server: Option<Server>,
}

impl RecordedService {
    pub fn start(name: &str) -> Self {
        let (name, node) = (name.to_owned(), Node::recorded());
        let shm = tempfile::tempdir_in("/dev/shm").expect("a directory of shared memory");
        let shm_dir = shm.path().into();
        let options = Options { namespace: Namespace::Abstract, shm_dir, ..Options::default() };
        let requests = Arc::new(Requests::new(Arc::clone(&node.cfs)));
        let server = Some(Server::start(&name, requests, options).expect("a free name"));
        Self { name, shm, node, server }
    }

    pub fn connections(&self) -> usize {
        self.server.as_ref().map_or(0, Server::connections)
    }
}

impl Drop for RecordedService {
    fn drop(&mut self) {
        self.server.take().expect("ends once").stop();
    }
}
