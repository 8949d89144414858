//! Guest properties and the guest list at the size of a large cluster: right after every kind of
//! change, and how long it takes. `cargo test --release --test guest_props_scale -- --nocapture`
//! prints the times: the shortest, and the median where it is more than one.

use pmxcfs::cfs::{Cfs, Generated, NodeIdentity};
use pmxcfs::clock::Clock;
use pmxcfs::engine::Engine;
use pmxcfs::memdb::{Change, WriteAt};
use pmxcfs::rrd::Sink;
use pmxcfs::store::Store;
use serde_json::Value;
use std::sync::Arc;
use std::thread;

const GUESTS: u32 = 10_000;
const NODES: u32 = 16;
/// How often a change is made and asked for.
const ROUNDS: u32 = 21;
const NAMES: [&[u8]; 2] = [b"name", b"tags"];

fn path(vmid: u32) -> String {
    format!("nodes/node{}/qemu-server/{vmid}.conf", vmid % NODES)
}

/// The guest that a round changes: the first, the last, and some between.
fn vmid_of(round: u32) -> u32 {
    100 + round * (GUESTS - 1) / (ROUNDS - 1)
}

/// A config of 2 KiB, as long as those of guests with a few disks and a snapshot.
fn config(vmid: u32, name: &str) -> Vec<u8> {
    let mut text = String::from("#a note of the admin%3A nothing special\n");
    text += "agent: 1\nboot: order=scsi0;ide2;net0\ncores: 4\ncpu: host\nmachine: q35\n";
    for disk in 0..6 {
        text += &format!("scsi{disk}: storage:vm-{vmid}-disk-{disk},discard=on,iothread=1,size=32G,ssd=1\n");
    }
    text += &format!("memory: 8192\nmeta: creation-qemu=9.0.2,ctime=1700000000\nname: {name}-{vmid}\n");
    text += &format!("net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,tag={}\n", vmid % 4000);
    text += "numa: 0\nostype: l26\nscsihw: virtio-scsi-single\nsockets: 1\ntags: prod;web\n";
    text += "vmgenid: 9c1a2f0e-5a3e-4f0e-9a63-1f0f8a0a0a0a\n\n[before-upgrade]\nname: old\n";
    while text.len() < 2048 {
        text += "args: -device something,as=it,was=before,the=upgrade\n";
    }
    text.into_bytes()
}

fn cluster(dir: &tempfile::TempDir) -> Arc<Cfs> {
    let clock = Clock::start();
    let store = Store::open(&dir.path().join("config.db"), clock.unix()).expect("a new database");
    let db = Arc::new(Engine::open(store, clock).expect("an empty tree"));
    let node = NodeIdentity { name: "node0".to_owned(), address: None, www_data_gid: 33 };
    let cfs = Arc::new(Cfs::new(db, clock, node, Sink::discarding()));
    let mut dirs = vec!["nodes".to_owned()];
    for node in 0..NODES {
        dirs.extend([format!("nodes/node{node}"), format!("nodes/node{node}/qemu-server")]);
    }
    for dir in dirs {
        change(&cfs, Change::Mkdir { path: dir.as_str().into() });
    }
    for vmid in 100..100 + GUESTS {
        change(&cfs, Change::Create { path: path(vmid).as_str().into() });
        write(&cfs, vmid, &config(vmid, "guest"));
    }
    cfs
}

fn change(cfs: &Cfs, change: Change) {
    cfs.engine.submit(change, Box::new(|result| drop(result.expect("an allowed change"))));
}

fn write(cfs: &Cfs, vmid: u32, data: &[u8]) {
    let path = path(vmid).as_str().into();
    change(cfs, Change::Write { path, at: WriteAt::Offset(0), data: data.to_vec() });
}

/// Does `act` and says how long it took.
fn timed<R>(cfs: &Cfs, what: &str, act: impl FnMut() -> R) -> R {
    repeated(cfs, what, 1, |_| {}, act)
}

/// Does `prepare` and `act` some times; says how long the shortest and the median `act` took.
fn repeated<R>(cfs: &Cfs, what: &str, rounds: u32, prepare: impl Fn(u32), mut act: impl FnMut() -> R) -> R {
    let mut times = Vec::new();
    let mut last = None;
    for round in 0..rounds {
        prepare(round);
        let start = cfs.clock.uptime();
        last = Some(act());
        times.push((cfs.clock.uptime() - start).as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    println!("{what:<40} {:>9.1} {:>9.1} us", times[0], times[times.len() / 2]);
    last.expect("at least one round")
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("valid JSON")
}

#[test]
fn ten_thousand_guests() {
    let dir = tempfile::tempdir().expect("a directory for the database");
    let cfs = cluster(&dir);
    cfs.engine.sync_wait().expect("a disk that takes it");
    let ask = || cfs.properties_of_all(&NAMES);

    let first = timed(&cfs, "2 properties, cold", ask);
    assert_eq!(json(&first).as_object().map(|guests| guests.len()), Some(GUESTS as usize));
    assert_eq!(json(&first)["101"], serde_json::json!({ "name": "guest-101", "tags": "prod;web" }));
    let same = repeated(&cfs, "2 properties, nothing changed", 20, |_| {}, ask);
    assert!(Arc::ptr_eq(&first, &same));
    let mut expected = json(&first);
    let rename = |round| write(&cfs, vmid_of(round), &config(vmid_of(round), "renamed"));
    let text = repeated(&cfs, "2 properties, one config changed", ROUNDS, rename, ask);
    for vmid in (0..ROUNDS).map(vmid_of) {
        expected[vmid.to_string()]["name"] = format!("renamed-{vmid}").into();
    }
    assert_eq!(json(&text), expected);
    change(&cfs, Change::Delete { path: path(6000).as_str().into() });
    expected.as_object_mut().expect("an object").remove("6000");
    assert_eq!(json(&timed(&cfs, "2 properties, one guest gone", ask)), expected);
    timed(&cfs, "other properties, cold", || cfs.properties_of_all(&[b"lock"]));
    timed(&cfs, "one guest", || cfs.properties_of_one(200, &NAMES)).expect("a guest");
    four_at_once(&cfs);

    let list = || cfs.text(Generated::VmList);
    timed(&cfs, "guest list, cold", list);
    repeated(&cfs, "guest list, nothing changed", 20, |_| {}, list);
    let text = repeated(&cfs, "guest list, one config changed", ROUNDS, rename, list);
    assert_eq!(json(&text)["ids"]["5000"]["node"], "node8");
    repeated(&cfs, "version", 20, |_| {}, || cfs.text(Generated::Version));
}

/// Clients that ask at once get the same answer, made once.
fn four_at_once(cfs: &Cfs) {
    write(cfs, 300, &config(300, "again"));
    let answers = timed(cfs, "2 properties, one changed, 4 threads", || {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| cfs.properties_of_all(&NAMES))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect::<Vec<_>>()
        })
    });
    assert!(answers.iter().all(|answer| Arc::ptr_eq(answer, &answers[0])));
}
