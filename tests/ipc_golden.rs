//! Every request that was recorded off a stock daemon, in the recorded order, against this one: the
//! same errno, and the same bytes except where [`Compare`] says that they cannot be the same and why.

use pmxcfs::cfs::{Cfs, NodeIdentity};
use pmxcfs::clock::Clock;
use pmxcfs::db::Db;
use pmxcfs::ipc::qb::client::{Client as NativeClient, ConnectOptions};
use pmxcfs::ipc::qb::{Namespace, Options, Server};
use pmxcfs::ipc::requests::Requests;
use pmxcfs::ipc::server::{Access, Client, Peer, Service};
use pmxcfs::memdb::{Change, TreePath, WriteAt};
use pmxcfs::rrd::Sink;
use pmxcfs::status::clusterlog::{ClusterLog, NewEntry};
use pmxcfs::status::{ClusterInfo, ClusterNode};
use pmxcfs::store::Store;
use serde_json::Value;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// The process that sent the recorded requests.
const CLIENT_PID: i32 = 14191;

/// One recorded request and its answer.
struct Record {
    name: String,
    id: i32,
    body: Vec<u8>,
    errno: i32,
    data: Vec<u8>,
}

/// Made by a seeded script: random configs of a few guests written into a running stock daemon, and
/// between those random and damaged requests about them, files and tokens, with what it answered.
/// Left out is what stock answers with text that is not JSON (control characters in a value) or by
/// reading past the end of a request.
const RANDOM: &[u8] = include_bytes!("golden/ipc-random.jsonl.gz");

fn records() -> Vec<Record> {
    let text = include_str!("golden/ipc.jsonl");
    text.lines().map(|line| record(&serde_json::from_str(line).expect("a JSON line"))).collect()
}

fn record(json: &Value) -> Record {
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

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().expect("a string").as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("hex digits")).collect()
}

/// How an answer is held against the recorded one.
enum Compare {
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

    fn assert_same(&self, name: &str, ours: &[u8], recorded: &[u8]) {
        let json = |text: &[u8]| -> Value {
            serde_json::from_slice(text).unwrap_or_else(|error| {
                panic!("{name}: {error} in {}", String::from_utf8_lossy(text));
            })
        };
        match self {
            Compare::Bytes => {
                assert_eq!(ours.escape_ascii().to_string(), recorded.escape_ascii().to_string(), "{name}")
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
struct Node {
    cfs: Arc<Cfs>,
    _dir: tempfile::TempDir,
}

impl Node {
    /// With nothing in it.
    fn empty() -> Node {
        let dir = tempfile::tempdir().expect("a directory for the database");
        let clock = Clock::start();
        let store = Store::open(&dir.path().join("config.db"), clock.unix()).expect("a new database");
        let db = Arc::new(Db::open(store, clock).expect("an empty tree"));
        let identity = NodeIdentity { name: "n1".to_owned(), address: None, www_data_gid: 33 };
        Node { cfs: Arc::new(Cfs::new(db, clock, identity, Sink::discarding())), _dir: dir }
    }

    /// That of the recorded cluster, as it was before the first request.
    fn recorded() -> Node {
        let node = Node::empty();
        fill_tree(&node.cfs.db);
        fill_status(&node.cfs);
        node
    }
}

/// The files of the recorded cluster, made by as many changes as there: the counters are compared.
fn fill_tree(db: &Db) {
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
fn replay(mut ask: impl FnMut(i32, &[u8]) -> (i32, Vec<u8>)) {
    let records = records();
    assert_eq!(records.len(), 59);
    for Record { name, id, body, errno, data } in records {
        let (our_errno, ours) = ask(id, &body);
        assert_eq!(our_errno, errno, "errno of {name}");
        Compare::of(&name).assert_same(&name, &ours, &data);
    }
}

#[test]
fn the_service_answers_as_recorded() {
    let node = Node::recorded();
    let requests = Requests::new(Arc::clone(&node.cfs));
    let access = requests.accept(Peer { pid: CLIENT_PID, uid: 0, gid: 0 }).expect("root may ask");
    assert_eq!(access, Access::ReadWrite);
    let client = Client { pid: CLIENT_PID, uid: 0, gid: 0, access };
    replay(|id, body| {
        let response = requests.handle(&client, id, body);
        (-response.error, response.data.as_bytes().to_vec())
    });
}

/// Needs root, since a client is known by its user.
#[test]
fn the_server_carries_the_answers() {
    let node = Node::recorded();
    let shm = tempfile::tempdir_in("/dev/shm").expect("a directory of shared memory");
    let name = format!("pmxcfs-golden-{}", std::process::id());
    let namespace = Namespace::Abstract;
    let options = Options { namespace: namespace.clone(), shm_dir: shm.path().into(), ..Options::default() };
    let requests = Arc::new(Requests::new(Arc::clone(&node.cfs)));
    let server = Server::start(&name, requests, options).expect("a free name");
    let timeout = Some(Duration::from_secs(60));
    let options = ConnectOptions { namespace, max_message_size: 8192 * 128, timeout };
    let mut client = NativeClient::connect_with(&name, &options).expect("root may connect");
    replay(|id, body| {
        let response = client.request(id, body, timeout).expect("an answer");
        (-response.error, response.data.as_bytes().to_vec())
    });
    drop(client);
    server.stop();
}

#[test]
fn random_requests_are_answered_as_recorded() {
    let node = Node::empty();
    let requests = Requests::new(Arc::clone(&node.cfs));
    let client = Client { pid: CLIENT_PID, uid: 0, gid: 0, access: Access::ReadWrite };
    let mut text = String::new();
    flate2::read::GzDecoder::new(RANDOM).read_to_string(&mut text).expect("compressed text");
    let mut asked = 0;
    for (number, line) in text.lines().enumerate() {
        let json: Value = serde_json::from_str(line).expect("a JSON line");
        if let Some(path) = json["write"].as_str() {
            replace(&node.cfs.db, &path.into(), bytes(&json["data"]));
            continue;
        }
        let Record { id, body, errno, data, .. } = record(&json);
        let response = requests.handle(&client, id, &body);
        let name = format!("line {}, request {id}", number + 1);
        assert_eq!(-response.error, errno, "errno of {name}");
        let is_json = matches!(id, 11 | 13) && errno == 0;
        let compare = if is_json { Compare::Json } else { Compare::Bytes };
        compare.assert_same(&name, response.data.as_bytes(), &data);
        asked += 1;
    }
    assert_eq!(asked, 4151);
}

/// What a program does that truncates a file and writes it, after making it and the directories to it.
fn replace(db: &Db, path: &TreePath, data: Vec<u8>) {
    let change = |change| db.submit(change, Box::new(|result| drop(result.expect("an allowed change"))));
    let exists = |path: &TreePath| db.read().resolve(path.as_bytes()).is_some();
    let (dirs, _) = path.split().expect("not the root");
    let mut dir = TreePath::root();
    for name in TreePath::new(dirs).components() {
        dir = dir.join(name);
        if !exists(&dir) {
            change(Change::Mkdir { path: dir.clone() });
        }
    }
    let path = path.clone();
    change(if exists(&path) {
        Change::Truncate { path: path.clone(), size: 0 }
    } else {
        Change::Create { path: path.clone() }
    });
    change(Change::Write { path, at: WriteAt::Offset(0), data });
}
