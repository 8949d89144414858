//! Every request that was recorded off a stock daemon, in the recorded order, against this one: the
//! same errno, and the same bytes except where [`Compare`] says that they cannot be the same and why.

#[path = "ipc/golden.rs"]
mod golden;

use golden::*;
use pmxcfs::engine::Engine;
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::{Client as NativeClient, ConnectOptions};
use pmxcfs::ipc::requests::Requests;
use pmxcfs::ipc::server::{Access, Client, NoLink, Peer, Service};
use pmxcfs::memdb::{Change, TreePath, WriteAt};
use serde_json::Value;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// Made by a seeded script: random configs of a few guests written into a running stock daemon, and
/// between those random and damaged requests about them, files and tokens, with what it answered.
/// Left out is what stock answers with text that is not JSON (control characters in a value) or by
/// reading past the end of a request.
const RANDOM: &[u8] = include_bytes!("golden/ipc-random.jsonl.gz");

#[test]
fn the_service_answers_as_recorded() {
    let node = Node::recorded();
    let requests = Requests::new(Arc::clone(&node.cfs));
    let access = requests.accept(Peer { pid: CLIENT_PID, uid: 0, gid: 0 }).expect("root may ask");
    assert_eq!(access, Access::ReadWrite);
    let client = Client { pid: CLIENT_PID, uid: 0, gid: 0, access };
    replay(|id, body| {
        let response = requests.handle(&client, &NoLink, id, body);
        (-response.error, response.data.as_bytes().to_vec())
    });
}

/// Needs root, since a client is known by its user.
#[test]
fn the_server_carries_the_answers() {
    let timeout = Some(Duration::from_secs(60));
    for as_libqb in [true, false] {
        let name = format!("pmxcfs-golden-{}-{as_libqb}", std::process::id());
        let server = RecordedService::start(&name);
        let namespace = Namespace::Abstract;
        let options = ConnectOptions { namespace, max_message_size: 8192 * 128, timeout, as_libqb };
        let mut client = NativeClient::connect_with(&server.name, &options).expect("root may connect");
        replay(|id, body| {
            let response = client.request(id, body, timeout).expect("an answer");
            (-response.error, response.data.as_bytes().to_vec())
        });
    }
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
            replace(&node.cfs.engine, &path.into(), bytes(&json["data"]));
            continue;
        }
        let Record { id, body, errno, data, .. } = record(&json);
        let response = requests.handle(&client, &NoLink, id, &body);
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
fn replace(db: &Engine, path: &TreePath, data: Vec<u8>) {
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
