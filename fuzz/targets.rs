//! Every parser that sees bytes from outside, as a function that must not panic, with inputs to start
//! from. The coverage-guided programs in `fuzz_targets/` and `tests/fuzz_smoke.rs` both run these.

mod trees;

use pmxcfs::dcdb::wire::{Request as GroupRequest, decode_update, decode_updates};
use pmxcfs::dfsm::wire::Message;
use pmxcfs::guest_props::scan::Scanner;
use pmxcfs::ipc::qb;
use pmxcfs::ipc::requests::parse::Request;
use pmxcfs::memdb::{Change, Index, Limits, MAX_FILE_SIZE, MemDb, Row, Stamp, TreePath, WriteAt};
use pmxcfs::status::clusterlog::{ClusterLog, Entry, NewEntry, Ring};
use pmxcfs::status::map_rrd;
use std::time::Duration;

/// One parser.
pub struct Target {
    /// What `make fuzz TARGET=` takes.
    pub name: &'static str,
    /// Feeds it; panics only when it is wrong.
    pub run: fn(&[u8]),
    /// Inputs that it accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request", run: request, seeds: request_seeds },
    Target { name: "guest_config", run: guest_config, seeds: guest_config_seeds },
    Target { name: "rrd", run: rrd, seeds: rrd_seeds },
    Target { name: "log_entry", run: log_entry, seeds: log_entry_seeds },
    Target { name: "log_ring", run: log_ring, seeds: log_ring_seeds },
    Target { name: "index", run: index, seeds: index_seeds },
    Target { name: "rows", run: trees::rows, seeds: trees::rows_seeds },
    Target { name: "updates", run: trees::updates, seeds: trees::updates_seeds },
    Target { name: "changes", run: changes, seeds: changes_seeds },
    Target { name: "auth_request", run: qb::fuzz::auth_request, seeds: auth_request_seeds },
    Target { name: "auth_response", run: qb::fuzz::auth_response, seeds: auth_response_seeds },
    Target { name: "ipc_message", run: qb::fuzz::messages, seeds: ipc_message_seeds },
    Target { name: "ring", run: qb::fuzz::ring, seeds: ring_seeds },
    Target { name: "group_message", run: group_message, seeds: group_message_seeds },
];

/// Runs the target of that name on one input.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(data);
}

/// An IPC request: the first byte is its number.
fn request(data: &[u8]) {
    let Some((id, body)) = data.split_first() else { return };
    // What is wrong is answered with an errno; only a panic would be a fault.
    let _ = Request::parse(i32::from(*id), body);
}

fn request_seeds() -> Vec<Vec<u8>> {
    let mut set = vec![4];
    set.extend([b'k'; 256]);
    set.extend(b"value");
    let mut get = vec![5];
    get.extend([0; 512]);
    vec![
        vec![1],
        set,
        get,
        b"\x06/storage.cfg\0".to_vec(),
        b"\x07\x06\x05\x04root\0tag\0message\0".to_vec(),
        b"\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0root@pam\0".to_vec(),
        b"\x0b\x64\0\0\0name\0".to_vec(),
        b"\x0croot@pam!t value\0".to_vec(),
        b"\x0d\0\0\0\0\x02name\0memory\0".to_vec(),
        vec![64],
        b"\x41\x01\0\0\0\0\0\0\0\x10\x27\0\0".to_vec(),
    ]
}

/// A guest's configuration file.
fn guest_config(data: &[u8]) {
    let mut values = Vec::new();
    Scanner::new(&[b"name", b"memory", b"lock"]).scan(data, &mut values);
    assert!(values.iter().flatten().all(|value| !value.is_empty()), "an empty value is an absent one");
}

fn guest_config_seeds() -> Vec<Vec<u8>> {
    vec![b"# note\nname: a\nmemory:  512 \nname: b\n[snap]\nlock: x\n".to_vec(), b"name:".to_vec()]
}

/// An RRD key and its value, with a NUL between them.
fn rrd(data: &[u8]) {
    let split = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (key, value) = data.split_at(split);
    if let Ok(update) = map_rrd(key, value.get(1..).unwrap_or_default()) {
        let path = String::from_utf8_lossy(update.file.as_ref()).into_owned();
        assert!(
            !path.starts_with('/') && path.split('/').all(|part| part != ".."),
            "{path} leads out of the directory"
        );
    }
}

fn rrd_seeds() -> Vec<Vec<u8>> {
    vec![
        b"pve-node-9.0/n1\x000:1:1700000000:0.1:4:0.02:0.0:100:50:0:0:100:10:1:2\0".to_vec(),
        b"pve2.3-vm/100\x001:2:3:4:1700000000:1:1:1:1:1:1:1:1:1:1\0".to_vec(),
        b"pve2-storage/n1/local\x001700000000:1:2\0".to_vec(),
    ]
}

/// A log entry as peers send it.
fn log_entry(data: &[u8]) {
    if let Ok(entry) = Entry::decode(data) {
        let mut log = ClusterLog::new();
        log.insert(&entry);
        assert_json(&log.text(b"", 50));
    }
}

/// A log, and its entries in the form in which peers get them.
fn sample_log() -> (ClusterLog, Vec<Vec<u8>>) {
    let mut log = ClusterLog::new();
    let entries = (0..3).filter_map(|number| {
        let entry = log.add(&NewEntry {
            node: b"n1",
            ident: b"root",
            tag: b"cluster",
            pid: 42,
            time: 1_700_000_000 + number,
            priority: 6,
            message: b"starting cluster log",
        })?;
        Some(entry.as_bytes().to_vec())
    });
    let entries = entries.collect();
    (log, entries)
}

fn log_entry_seeds() -> Vec<Vec<u8>> {
    sample_log().1
}

/// A whole log as peers send it.
fn log_ring(data: &[u8]) {
    if let Ok(ring) = Ring::decode(data) {
        let (mut log, _) = sample_log();
        log.merge(&[ring], &[]);
        assert_json(&log.text(b"", 0));
        Ring::decode(log.state()).expect("what a merge makes can be read");
    }
}

fn log_ring_seeds() -> Vec<Vec<u8>> {
    vec![sample_log().0.state().to_vec()]
}

fn assert_json(text: &str) {
    serde_json::from_str::<serde_json::Value>(text).expect("the log is valid JSON");
}

/// A peer's index.
fn index(data: &[u8]) {
    if let Ok(index) = Index::decode(data) {
        assert_eq!(index.encode(), data, "one form only");
    }
}

fn index_seeds() -> Vec<Vec<u8>> {
    vec![MemDb::new().index().encode(), sample_tree().index().encode()]
}

const STAMP: Stamp = Stamp { writer: 0, time: 1_700_000_000 };

fn sample_tree() -> MemDb {
    let mut tree = MemDb::new();
    let path = |text: &str| TreePath::new(text.as_bytes());
    let write =
        |name: &str| Change::Write { path: path(name), at: WriteAt::Offset(0), data: b"name: a\n".to_vec() };
    for change in [
        Change::Mkdir { path: path("nodes") },
        Change::Mkdir { path: path("nodes/n1") },
        Change::Mkdir { path: path("nodes/n1/lxc") },
        Change::Create { path: path("nodes/n1/lxc/100.conf") },
        write("nodes/n1/lxc/100.conf"),
    ] {
        tree.apply(change, STAMP, Limits::Enforced, Duration::ZERO).expect("a good change");
    }
    tree
}

/// Changes with hostile paths and offsets: refused or applied, the tree stays sound.
fn changes(data: &[u8]) {
    let mut tree = sample_tree();
    for piece in data.split(|&byte| byte == b'\n') {
        let Some((kind, rest)) = piece.split_first() else { continue };
        let mut words = rest.splitn(2, |&byte| byte == b' ').map(TreePath::new);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let size = u64::from(*kind) << (kind % 64);
        let change = match kind % 7 {
            0 => Change::Create { path: first },
            1 => Change::Mkdir { path: first },
            2 => Change::Write { path: first, at: WriteAt::Offset(size), data: rest.to_vec() },
            3 => Change::Truncate { path: first, size: size % (2 * MAX_FILE_SIZE) },
            4 => Change::Delete { path: first },
            5 => Change::Rename { from: first, to: second },
            _ => Change::SetMtime { path: first, mtime: size as u32 },
        };
        // A refusal is as good as a change; what must hold is checked behind the loop.
        let _ = tree.apply(change, STAMP, Limits::Enforced, Duration::ZERO);
    }
    let rows: Vec<Row> = tree.snapshot_rows().collect();
    let mut loaded = MemDb::load(rows, Duration::ZERO).expect("what changes made can be loaded");
    assert_eq!(loaded.index(), tree.index());
}

fn changes_seeds() -> Vec<Vec<u8>> {
    vec![b"Fnodes/n1/qemu-server\nGnodes/x\nTnodes/n1/lxc/100.conf nodes/n1/lxc/101.conf\nHa\nKa\n".to_vec()]
}

fn auth_request_seeds() -> Vec<Vec<u8>> {
    let mut request = Vec::new();
    for number in [-1i32, 0, 24, 0, 1 << 20, 0] {
        request.extend(number.to_le_bytes());
    }
    let mut marked = request.clone();
    for (at, mark) in [(4, b"pmxc"), (12, b"fsrs"), (20, b"\x01\0\0\0")] {
        marked[at..at + 4].copy_from_slice(mark);
    }
    vec![request, marked]
}

fn auth_response_seeds() -> Vec<Vec<u8>> {
    let mut response = vec![0; 12328];
    for (at, number) in [(0, -1i32), (8, 12328), (24, 1), (28, 1 << 20)] {
        response[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    for (at, ring) in [(40, "request"), (4136, "response"), (8232, "event")] {
        let path = format!("/dev/shm/qb-1-2-3-abcdef/qb-{ring}-pve2");
        response[at..at + path.len()].copy_from_slice(path.as_bytes());
    }
    let own = |size| qb::own::Answer::new(size).map(|answer| answer.encode().to_vec());
    [Some(response), own(1 << 20), own(12328)].into_iter().flatten().collect()
}

fn ipc_message_seeds() -> Vec<Vec<u8>> {
    let mut request = vec![6, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0];
    request.extend(b"storage.cfg\0");
    let mut header = vec![0; 8248];
    header[8..12].copy_from_slice(&1024u32.to_le_bytes());
    header[4108..4116].copy_from_slice(b"/dev/shm");
    vec![request, header]
}

/// Half memory, half what is written over it; see the target.
fn ring_seeds() -> Vec<Vec<u8>> {
    let mut numbers = Vec::new();
    for number in [9u32, 0, 1024, 2, 1, 0] {
        numbers.extend(number.to_le_bytes());
    }
    let mut chunk = vec![28, 0, 0, 0, 0xa1, 0xa1, 0xa1, 0xa1, 1, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0];
    chunk.resize(36, 0);
    let memory = [numbers, chunk].concat();
    let scribbles = vec![0; memory.len()];
    vec![[memory, scribbles].concat()]
}

/// A message of either group: the first byte is the protocol version.
fn group_message(data: &[u8]) {
    let Some((version, bytes)) = data.split_first() else { return };
    match Message::decode(bytes, u32::from(*version)) {
        Ok(Message::Normal(message)) => {
            // Refused or not, nobody may panic on it.
            let _ = GroupRequest::decode(message.base.subtype, message.base.extension, message.payload);
            let _ = pmxcfs::status_group::wire::decode_value(message.payload);
        }
        Ok(Message::Sync(message)) => {
            let _ = decode_update(message.payload);
            let _ = decode_updates(message.payload, drop);
            index(message.payload);
            log_ring(message.payload);
        }
        Err(_) => {}
    }
}

fn group_message_seeds() -> Vec<Vec<u8>> {
    let head = |kind: u16, subtype: u16| {
        let mut bytes = vec![1];
        bytes.extend(kind.to_le_bytes());
        bytes.extend(subtype.to_le_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    };
    let mut write = head(0, 1);
    write.extend(1u64.to_le_bytes());
    for number in [3u32, 0, 4, 0, 0] {
        write.extend(number.to_le_bytes());
    }
    write.extend(b"a/b\0xyz");
    let mut update = head(3, 0);
    update.extend([0; 16]);
    for number in [0u64, 5, 5] {
        update.extend(number.to_le_bytes());
    }
    for number in [0u32, 0, 3, 2] {
        update.extend(number.to_le_bytes());
    }
    update.push(8);
    update.extend(b"a\0xyz");
    vec![write, update]
}
