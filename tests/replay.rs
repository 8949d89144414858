//! The groups against recordings of three stock nodes. Every message that travelled must survive our
//! decoding and encoding; and fed with what a stock node was told and got, our state machine with its
//! applications must send the same bytes at the same points.

use flate2::read::GzDecoder;
use pmxcfs::dcdb::{Dcdb, wire as dcdb_wire};
use pmxcfs::dfsm::wire::{self, Extension, MemberId, Message, SyncKind};
use pmxcfs::dfsm::{App, Dfsm, Effect, Event, Mode, Now, Pieces, Submission};
use pmxcfs::memdb::{Change, Entry as TreeEntry, EntryChange, Index, Limits, MemDb, Row, Stamp, WriteAt};
use pmxcfs::status::clusterlog::{Entry, Ring};
use pmxcfs::status::{ClusterInfo, ClusterNode, Status};
use pmxcfs::status_group::{StatusGroup, wire as status_wire};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Duration;

const DCDB: &str = "pve_dcdb_v1";

/// One line of a recording.
enum Record {
    Join,
    Confchg { members: Vec<MemberId>, joined: bool },
    Deliver { from: MemberId, bytes: Vec<u8> },
    Sent(Vec<u8>),
}

/// What node `number` recorded of one group.
fn recording(number: u32, group: &str) -> Vec<Record> {
    let path = format!("{}/tests/golden/cpg-node{number}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let lines = BufReader::new(GzDecoder::new(File::open(path).expect("is there"))).lines();
    let mut handles: Vec<(u64, String)> = Vec::new();
    let mut records = Vec::new();
    for line in lines {
        let line: Value = serde_json::from_str(&line.expect("readable")).expect("JSON");
        let kind = line["ev"].as_str().expect("a kind");
        if kind == "join" {
            let name = line["group"].as_str().expect("a name").to_owned();
            handles.push((line["handle"].as_u64().expect("a handle"), name));
        }
        let by_handle = handles.iter().rev().find(|(handle, _)| line["handle"].as_u64() == Some(*handle));
        let name = line["group"].as_str().or(by_handle.map(|(_, name)| name.as_str())).expect("a group");
        if name == group {
            records.push(record(kind, &line));
        }
    }
    records
}

fn record(kind: &str, line: &Value) -> Record {
    let number = |value: &Value| u32::try_from(value.as_u64().expect("a number")).expect("32 bits");
    let member = |value: &Value| MemberId { node: number(&value[0]), pid: number(&value[1]) };
    match kind {
        "join" => Record::Join,
        "confchg" => Record::Confchg {
            members: line["members"].as_array().expect("a list").iter().map(member).collect(),
            joined: !line["joined"].as_array().expect("a list").is_empty(),
        },
        "deliver" => Record::Deliver {
            from: MemberId { node: number(&line["node"]), pid: number(&line["pid"]) },
            bytes: unhex(line["hex"].as_str().expect("bytes")),
        },
        "mcast" => Record::Sent(unhex(line["hex"].as_str().expect("bytes"))),
        other => panic!("a line of kind {other}"),
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hex digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| (digit(pair[0]) << 4) | digit(pair[1])).collect()
}

/// A message without what stock leaves undefined: the rest of a key's field, and the four bytes
/// behind each entry in a ring.
fn defined(group: &str, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if group == DCDB {
        return bytes;
    }
    match bytes[0] {
        0 if bytes[2] == 1 => {
            let field = &mut bytes[wire::NORMAL_LEN..wire::NORMAL_LEN + 256];
            let end = field.iter().position(|&byte| byte == 0).expect("a NUL");
            field[end..].fill(0);
        }
        2 => {
            let head = bytes[..wire::SYNC_LEN].to_vec();
            let ring = Ring::decode(&bytes[wire::SYNC_LEN..]).expect("a ring");
            bytes = head;
            for record in ring.records() {
                let numbers = (record.uid(), record.time(), record.pid(), record.priority());
                let strings = [record.node(), record.ident(), record.tag(), record.message()];
                bytes.extend(format!("\n{numbers:?} {strings:?}").bytes());
            }
        }
        _ => {}
    }
    bytes
}

#[test]
fn every_recorded_message_survives_the_wire() {
    let mut seen = std::collections::BTreeMap::new();
    for (group, version) in [(DCDB, 1), ("pve_kvstore_v1", 0)] {
        for record in (1..=3).flat_map(|node| recording(node, group)) {
            let (Record::Deliver { bytes, .. } | Record::Sent(bytes)) = record else { continue };
            let message = Message::decode(&bytes, version).expect("stock's are well-formed");
            assert_eq!(message.encode(), bytes);
            let (kind, subtype) = check_payload(group, &message);
            *seen.entry((group, kind, subtype)).or_insert(0) += 1;
        }
    }
    let kinds: Vec<_> = seen.keys().map(|(group, kind, subtype)| (&group[4..6], *kind, *subtype)).collect();
    let normal = |group, subtype| (group, 0, subtype);
    let sync = |group, kind| (group, kind, 0);
    let mut expected: Vec<_> = (1..=8).map(|subtype| normal("dc", subtype)).collect();
    expected.extend((1..=4).map(|kind| sync("dc", kind)));
    expected.extend([normal("kv", 1), normal("kv", 3), sync("kv", 1), sync("kv", 2)]);
    assert_eq!(kinds, expected);
}

/// Decodes the payload, encodes it again, and compares.
fn check_payload(group: &str, message: &Message<'_>) -> (u16, u16) {
    match message {
        Message::Normal(normal) => {
            let base = normal.base;
            assert_eq!(base.extension, Extension::default());
            let out = if group == DCDB {
                let request = dcdb_wire::Request::decode(base.subtype, base.extension, normal.payload);
                request.expect("a request").encode(Extension::default())
            } else if base.subtype == status_wire::VALUE {
                let (key, value) = status_wire::decode_value(normal.payload).expect("a value");
                status_wire::encode_value(key, value)
            } else {
                status_wire::Request::Log(Entry::decode(normal.payload).expect("an entry")).encode()
            };
            assert_eq!((out.subtype, out.extension), (base.subtype, base.extension));
            let body = out.body.as_ref().map_or(&[][..], |body| body.as_slice());
            let again = wire::Normal { payload: &[out.head.as_slice(), body].concat(), ..*normal }.encode();
            assert_eq!(defined(group, &again), defined(group, &normal.encode()));
            (base.kind, base.subtype)
        }
        Message::Sync(sync) => {
            match SyncKind::of(sync.base.kind).expect("a known kind") {
                SyncKind::Start | SyncKind::UpdateComplete => assert_eq!(sync.no_payload(), Ok(())),
                SyncKind::State if group == DCDB => {
                    assert_eq!(Index::decode(sync.payload).expect("an index").encode(), sync.payload);
                }
                SyncKind::State => {
                    assert_eq!(Ring::decode(sync.payload).expect("a ring").as_bytes(), sync.payload);
                }
                SyncKind::Update => {
                    let row = dcdb_wire::decode_update(sync.payload).expect("an entry");
                    assert_eq!(encode_row(row), sync.payload);
                }
                SyncKind::VerifyRequest | SyncKind::Verify => panic!("not in the recordings"),
            }
            (sync.base.kind, sync.base.subtype)
        }
    }
}

/// The bytes of an update as we would send it, from an entry that was made of its row.
fn encode_row(row: Row) -> Vec<u8> {
    let is_root = row.inode == 0;
    let parent = Row { inode: row.parent, parent: 0, kind: 4, name: (*b"parent").into(), data: None, ..row };
    let version_row = Row { inode: 0, parent: 0, kind: 8, name: (*b"__version__").into(), data: None, ..row };
    let inode = row.inode;
    let parents = Some(parent).filter(|parent| !is_root && parent.inode != 0);
    let rows = [version_row].into_iter().chain((!is_root).then_some(row)).chain(parents);
    let tree = MemDb::load(rows, Duration::ZERO).expect("loads");
    let entry: &TreeEntry = tree.get(inode).expect("is there");
    let mut payload = Pieces::default();
    dcdb_wire::encode_update(entry, &mut payload);
    payload.to_vec()
}

/// A node of ours in place of a recorded one.
struct Replay<A: App> {
    group: &'static str,
    dfsm: Dfsm<A>,
    store: A::Store,
    /// What ours sent and the recorded one is still to send.
    sent: VecDeque<Vec<u8>>,
    /// Seconds since 1970, from the messages.
    time: u32,
    checked: usize,
}

/// Time of the first message of all recordings.
const START: u32 = 1_795_359_900;

impl<A: App> Replay<A> {
    fn now(&self) -> Now {
        Now { unix: self.time, uptime: Duration::from_secs((self.time - START).into()) }
    }

    fn handle(&mut self, event: Event<'_>) {
        let now = self.now();
        let effects = self.dfsm.handle(&mut self.store, event, now);
        self.look_at(effects);
    }

    fn submit(&mut self, request: A::Request) {
        let (now, store) = (self.now(), &self.store);
        let effects =
            self.dfsm.submit(Submission::unawaited(request), now, |app, request| app.check(store, request));
        self.look_at(effects);
    }

    fn look_at(&mut self, effects: Vec<Effect<A>>) {
        for effect in effects {
            match effect {
                Effect::Send(frame) => self.sent.push_back(frame.to_vec()),
                Effect::Mode(mode) => assert!(!mode.is_error(), "{mode:?}"),
                _ => {}
            }
        }
    }

    /// The recorded node sent this. If ours did not, it must be something that a local client asked
    /// for.
    fn check_sent(&mut self, bytes: &[u8], submit: impl FnOnce(&mut Self, &wire::Normal<'_>)) {
        let is_update = bytes[0] == SyncKind::Update as u8;
        let expected = defined(self.group, bytes);
        if is_update {
            // Stock sends them in no particular order.
            let same = self.sent.iter().position(|sent| *sent == expected);
            let place = same.expect("an update that ours did not send");
            assert!(self.sent.range(..place).all(|sent| sent[0] == SyncKind::Update as u8));
            self.sent.remove(place);
        } else {
            if self.sent.is_empty() {
                match Message::decode(bytes, A::PROTOCOL_VERSION) {
                    Ok(Message::Normal(normal)) => submit(self, &normal),
                    other => panic!("ours did not send {other:?}"),
                }
            }
            let sent = self.sent.pop_front().expect("ours sends it, too");
            let sent = defined(self.group, &sent);
            assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(&expected));
            assert_eq!(sent, expected);
        }
        self.checked += 1;
    }

    fn run(&mut self, records: &[Record], local: MemberId, submit: impl Fn(&mut Self, &wire::Normal<'_>)) {
        for (at, record) in records.iter().enumerate() {
            let next_sent = records[at..].iter().find_map(|record| match record {
                Record::Sent(bytes) => Some(wire::Base::decode(bytes).expect("a head").time),
                _ => None,
            });
            if let Record::Deliver { bytes, .. } = record {
                let sent = wire::Base::decode(bytes).expect("a head").time;
                self.time = self.time.max(sent);
            }
            // What is sent in answer to an event has the time that the recording has there.
            self.time = match (record, next_sent) {
                (Record::Join, _) | (_, None) => self.time,
                (_, Some(next)) if next <= self.time + 1 => next,
                (Record::Confchg { .. } | Record::Sent(_), Some(next)) => next,
                _ => self.time,
            };
            match record {
                Record::Join => self.handle(Event::Join(local)),
                Record::Confchg { members, joined } => {
                    assert!(self.sent.is_empty(), "ours sent more");
                    self.handle(Event::Confchg { members, joined: *joined });
                }
                Record::Deliver { from, bytes } => self.handle(Event::Deliver { from: *from, bytes }),
                Record::Sent(bytes) => self.check_sent(bytes, &submit),
            }
        }
        assert!(self.sent.is_empty(), "ours sent more");
        assert_eq!(self.dfsm.mode(), Mode::Synced);
    }
}

/// The lives of a node, each from its start to its end, and which process it was.
fn lives(number: u32, group: &str) -> Vec<(MemberId, Vec<Record>)> {
    let mut lives: Vec<Vec<Record>> = Vec::new();
    for record in recording(number, group) {
        match record {
            Record::Join => lives.push(vec![record]),
            record => lives.last_mut().expect("begins with a join").push(record),
        }
    }
    let pid_of = |records: &[Record]| {
        let mut own = records.iter().filter_map(|record| match record {
            Record::Confchg { members, .. } => members.iter().find(|member| member.node == number),
            _ => None,
        });
        *own.next().expect("is a member")
    };
    lives.into_iter().map(|records| (pid_of(&records), records)).collect()
}

fn first_state(records: &[Record]) -> &[u8] {
    let state = records.iter().find_map(|record| match record {
        Record::Sent(bytes) if bytes[0] == SyncKind::State as u8 => Some(&bytes[wire::SYNC_LEN..]),
        _ => None,
    });
    state.expect("sends its state")
}

/// The database that a node begins with: `corosync.conf`, taken from the host.
fn first_database(state: &[u8]) -> MemDb {
    let mtime = Index::decode(state).expect("an index").mtime;
    let updates = recording(1, DCDB).into_iter().chain(recording(2, DCDB));
    let config = updates.filter_map(|record| match record {
        Record::Deliver { bytes, .. } if bytes[0] == SyncKind::Update as u8 => {
            dcdb_wire::decode_update(&bytes[wire::SYNC_LEN..]).ok()
        }
        _ => None,
    });
    let config = config.into_iter().find(|row| *row.name == *b"corosync.conf").expect("travels");
    let data = config.data.expect("is not empty").to_vec();
    let mut db = MemDb::new();
    let path = || "corosync.conf".into();
    for change in
        [Change::Create { path: path() }, Change::Write { path: path(), at: WriteAt::Offset(0), data }]
    {
        let stamp = Stamp { writer: 0, time: mtime };
        db.apply(change, stamp, Limits::Agreed, Duration::ZERO).expect("applies");
    }
    db
}

/// Converts a request to the form that the mounted tree submits: a change of an existing entry names its inode, not
/// its path.
fn of_descriptor(db: &MemDb, request: dcdb_wire::Request) -> dcdb_wire::Request {
    use dcdb_wire::Request::Change as Changes;
    let (path, change) = match request {
        Changes(Change::Write { path, at, data }) => (path, EntryChange::Write { at, data: data.into() }),
        Changes(Change::Truncate { path, size }) => (path, EntryChange::Truncate { size }),
        Changes(Change::SetMtime { path, mtime }) => (path, EntryChange::SetMtime { mtime }),
        other => return other,
    };
    match db.resolve(path.as_bytes()) {
        Some(entry) => Changes(Change::Entry { inode: entry.inode, place: None, change }),
        None => Changes(change.at_path(path)),
    }
}

#[test]
fn the_database_group_sends_what_a_stock_node_sends() {
    for (number, messages) in [(1, 49), (2, 9), (3, 2)] {
        let mut db: Option<MemDb> = None;
        let mut checked = 0;
        for (local, records) in lives(number, DCDB) {
            let store = db.take().unwrap_or_else(|| first_database(first_state(&records)));
            let mut app = Dcdb::understanding(Extension::default());
            app.set_quorate(true);
            let (dfsm, sent) = (Dfsm::new(app), VecDeque::new());
            let mut replay = Replay { group: DCDB, dfsm, store, sent, time: START, checked: 0 };
            replay.run(&records, local, |replay, normal| {
                let base = normal.base;
                let request = dcdb_wire::Request::decode(base.subtype, base.extension, normal.payload);
                let request = of_descriptor(&replay.store, request.expect("a request"));
                replay.submit(request);
            });
            replay.store.verify().expect("is whole");
            checked += replay.checked;
            db = Some(replay.store);
        }
        assert_eq!(checked, messages, "sent by node {number}");
    }
}

#[test]
fn the_status_group_sends_what_a_stock_node_sends() {
    for (number, messages) in [(1, 934), (2, 49), (3, 4)] {
        let mut checked = 0;
        for (local, records) in lives(number, "pve_kvstore_v1") {
            let ring = Ring::decode(first_state(&records)).expect("a ring");
            let started = ring.records().last().expect("the line of its start").time();
            let mut store = Status::new(&format!("n{number}"), started, local.pid);
            let node = |id: u32| ClusterNode { id, name: format!("n{id}"), votes: 1 };
            let nodes = (1..=3).map(node).collect();
            store.set_cluster(ClusterInfo { name: "c".into(), config_version: 1, nodes });
            let app = StatusGroup::new(&format!("10.77.0.{number}"));
            let (dfsm, sent) = (Dfsm::new(app), VecDeque::new());
            let group = StatusGroup::GROUP;
            let mut replay = Replay { group, dfsm, store, sent, time: START, checked: 0 };
            replay.run(&records, local, submit_status);
            checked += replay.checked;
        }
        assert_eq!(checked, messages, "sent by node {number}");
    }
}

/// A client sets a value or logs: the node takes it itself, then tells the others.
fn submit_status(replay: &mut Replay<StatusGroup>, normal: &wire::Normal<'_>) {
    let uptime = replay.now().uptime;
    let request = if normal.base.subtype == status_wire::VALUE {
        let (key, value) = status_wire::decode_value(normal.payload).expect("a value");
        replay.store.set(key, value, uptime).expect("is taken");
        status_wire::Request::Value { key: key.to_vec(), value: value.to_vec() }
    } else {
        let entry = Entry::decode(normal.payload).expect("an entry");
        assert!(replay.store.log_mut().insert(&entry));
        status_wire::Request::Log(entry)
    };
    replay.submit(request);
}
