//! docs/protocol/groups.md: messages of both process groups.

use crate::page::Page;
use pmxcfs::dcdb::Dcdb;
use pmxcfs::dcdb::wire::{
    APPEND, BOUND, PACKED, Request, UNDERSTOOD, decode_update, decode_updates, encode_update,
};
use pmxcfs::dfsm::wire::{Base, Epoch, Extension, Message, Normal, Sync, SyncKind};
use pmxcfs::dfsm::{App, Outgoing, Pieces};
use pmxcfs::memdb::{Change, EntryChange, Index, MemDb, Row, WriteAt};
use pmxcfs::status::clusterlog::{Entry, Ring};
use pmxcfs::status_group::{StatusGroup, wire as status};
use std::sync::Arc;
use std::time::Duration;

/// Time in the header of most examples.
const TIME: u32 = 0x6b03_04be;
const EPOCH: Epoch = Epoch { counter: 2, time: TIME, node: 1, pid: 13628 };

/// A NORMAL message of a group; encodes to the same bytes.
fn normal(bytes: &[u8], version: u32) -> Normal<'_> {
    let message = Message::decode(bytes, version).expect("a message");
    assert_eq!(message.encode(), bytes);
    let Message::Normal(normal) = message else { panic!("{message:?}") };
    normal
}

/// A message of the state machine; encodes to the same bytes.
fn sync(bytes: &[u8], version: u32, kind: SyncKind) -> Sync<'_> {
    let message = Message::decode(bytes, version).expect("a message");
    assert_eq!(message.encode(), bytes);
    let Message::Sync(sync) = message else { panic!("{message:?}") };
    assert_eq!((SyncKind::of(sync.base.kind), sync.epoch), (Some(kind), EPOCH));
    sync
}

fn payload(out: &Outgoing) -> Vec<u8> {
    let body = out.body.as_ref().map_or(&[][..], |body| body.as_slice());
    [out.head.as_slice(), body].concat()
}

fn base(subtype: u16, version: u32, extension: Extension) -> Base {
    Base { kind: 0, subtype, protocol_version: version, time: TIME, extension }
}

fn check_request(page: &mut Page, name: &str, subtype: u16, count: u64, expected: Request) {
    let bytes = page.example(name);
    let message = normal(&bytes, Dcdb::PROTOCOL_VERSION);
    let extension = match expected {
        Request::Append { .. } => APPEND,
        Request::Entry { .. } => BOUND,
        _ => Extension::default(),
    };
    let head = base(subtype, Dcdb::PROTOCOL_VERSION, extension);
    assert_eq!((message.base, message.count), (head, count), "{name}");
    let request = Request::decode(subtype, extension, message.payload).expect(name);
    assert_eq!(request, expected, "{name}");
    let out = request.encode(UNDERSTOOD);
    assert_eq!((out.subtype, out.extension), (subtype, extension), "{name}");
    assert_eq!(payload(&out), message.payload, "{name}");
}

#[test]
fn group_examples_decode_and_encode() {
    let mut page = Page::open("groups.md");
    check_changes(&mut page);
    check_locks(&mut page);
    check_rounds(&mut page);
    check_verification(&mut page);
    check_status(&mut page);
    page.finish();
}

fn check_changes(page: &mut Page) {
    let path = || "t.cfg".into();
    let mut check = |name: &str, subtype, count, change| {
        check_request(page, name, subtype, count, Request::Change(change));
    };
    check("dcdb-create", 5, 8, Change::Create { path: path() });
    let write = Change::Write { path: path(), at: WriteAt::Offset(0), data: b"abcdef".to_vec() };
    check("dcdb-write", 1, 9, write);
    check("dcdb-truncate", 1, 10, Change::Truncate { path: path(), size: 3 });
    check("dcdb-mkdir", 2, 1, Change::Mkdir { path: "nodes".into() });
    check("dcdb-rename", 4, 11, Change::Rename { from: path(), to: "storage.cfg".into() });
    check("dcdb-delete", 3, 17, Change::Delete { path: "d".into() });
    let mtime = 1_700_000_000;
    check("dcdb-mtime", 6, 12, Change::SetMtime { path: "storage.cfg".into(), mtime });
    let append = Request::Append { path: path(), assumed: 6, data: b"ghi".to_vec() };
    check_request(page, "dcdb-append", 1, 11, append);
    let change = EntryChange::Write { at: WriteAt::Offset(6), data: Arc::new(b"ghi".to_vec()) };
    check_request(page, "dcdb-bound", 1, 12, Request::Entry { inode: 42, path: path(), change, assumed: 0 });
}

fn check_locks(page: &mut Page) {
    let path = || "priv/lock/l1".into();
    let bytes = page.example("dcdb-unlock-request");
    let Ok(Request::Expire { checksum, .. }) = Request::decode(7, Extension(0), &bytes[24..]) else {
        panic!("no request to expire a lock")
    };
    check_request_bytes(bytes, 7, 4, Request::Expire { path: path(), checksum });
    let unlock = Request::Change(Change::Unlock { path: path(), checksum });
    check_request(page, "dcdb-unlock", 8, 27, unlock);
}

fn check_request_bytes(bytes: Vec<u8>, subtype: u16, count: u64, expected: Request) {
    let message = normal(&bytes, Dcdb::PROTOCOL_VERSION);
    assert_eq!((message.base.subtype, message.count), (subtype, count));
    assert_eq!(Request::decode(subtype, Extension(0), message.payload), Ok(expected.clone()));
    assert_eq!(payload(&expected.encode(UNDERSTOOD)), message.payload);
}

fn check_rounds(page: &mut Page) {
    for (name, kind) in [("sync-start", SyncKind::Start), ("update-complete", SyncKind::UpdateComplete)] {
        assert_eq!(sync(&page.example(name), 1, kind).no_payload(), Ok(()), "{name}");
    }
    for (name, extension) in [("dcdb-state", Extension(0)), ("dcdb-state-extended", UNDERSTOOD)] {
        let bytes = page.example(name);
        let message = sync(&bytes, 1, SyncKind::State);
        assert_eq!(message.base.extension, extension, "{name}");
        let index = Index::decode(message.payload).expect(name);
        assert_eq!((index.version, index.last_inode, index.entries.len()), (3, 2, 2), "{name}");
        assert_eq!(index.encode(), message.payload, "{name}");
    }
    assert_eq!(Extension(APPEND.0 | PACKED.0 | BOUND.0), Extension(7));

    let row = |inode, parent, version, kind, name: &[u8]| {
        let writer = if version == 5 { 1 } else { 2 };
        Row { inode, parent, version, writer, mtime: TIME, kind, name: name.into(), data: None }
    };
    let bytes = page.example("dcdb-update");
    let update = sync(&bytes, 1, SyncKind::Update).payload;
    assert_eq!(decode_update(update), Ok(row(5, 4, 5, 4, b"n1")));
    let tree = [row(0, 0, 5, 8, b"__version__"), row(4, 0, 4, 4, b"nodes"), row(5, 4, 5, 4, b"n1")];
    assert_eq!(encode(tree, &[5]), update);

    let bytes = page.example("dcdb-update-packed");
    let update = sync(&bytes, 1, SyncKind::Update).payload;
    let file = Row { data: Some(Arc::new(b"abchello\n".to_vec())), ..row(11, 0, 19, 8, b"storage.cfg") };
    let mut rows = Vec::new();
    decode_updates(update, |row| rows.push(row)).expect("entries");
    assert_eq!(rows, [row(0, 0, 19, 4, b""), file.clone()]);
    assert_eq!(encode([row(0, 0, 19, 8, b"__version__"), file], &[0, 11]), update);
}

/// The entries with these inodes as a leader with this database sends them.
fn encode(rows: impl IntoIterator<Item = Row>, inodes: &[u64]) -> Vec<u8> {
    let tree = MemDb::load(rows, Duration::ZERO).expect("a tree");
    let mut payload = Pieces::default();
    for &inode in inodes {
        encode_update(tree.get(inode).expect("an entry"), &mut payload);
    }
    payload.to_vec()
}

fn check_verification(page: &mut Page) {
    let bytes = page.example("verify-request");
    assert_eq!(sync(&bytes, 1, SyncKind::VerifyRequest).verify_request(), Ok(1));
    let bytes = page.example("verify");
    let (id, checksum) = sync(&bytes, 1, SyncKind::Verify).verify().expect("a checksum");
    assert_eq!((id, checksum[0], checksum[31]), (1, 0x91, 0x10));
}

fn check_status(page: &mut Page) {
    let bytes = page.example("status-value");
    let message = normal(&bytes, StatusGroup::PROTOCOL_VERSION);
    let (key, value) = status::decode_value(message.payload).expect("a value");
    assert_eq!((message.base.subtype, key, value), (status::VALUE, &b"kv/k1"[..], &b"v1\0"[..]));
    assert_eq!(payload(&status::encode_value(key, value)), message.payload);

    let bytes = page.example("status-log");
    let message = normal(&bytes, StatusGroup::PROTOCOL_VERSION);
    let entry = Entry::decode(message.payload).expect("an entry");
    let record = entry.record();
    assert_eq!((message.base.subtype, record.uid(), record.priority()), (status::LOG, 9, 6));
    let strings = [record.node(), record.ident(), record.tag(), record.message()];
    assert_eq!(strings, [&b"n2"[..], b"user@pve", b"pvedmon", b"other 8"].map(|text| text));
    assert_eq!(payload(&status::Request::Log(entry).encode()), message.payload);

    let bytes = page.example("status-state");
    let message = sync(&bytes, StatusGroup::PROTOCOL_VERSION, SyncKind::State);
    let ring = Ring::decode(message.payload).expect("a ring");
    assert_eq!(ring.as_bytes(), message.payload);
    let nodes: Vec<_> = ring.records().map(|record| record.node().to_vec()).collect();
    assert_eq!(nodes, [b"n2".to_vec(), b"n1".to_vec()]);
}

/// Each extension has a row with its bit, and all bits that this version announces have rows.
#[test]
fn group_page_lists_all_extensions() {
    let page = Page::open("groups.md");
    let rows = page.text().split("| bit | name |").nth(1).expect("the table");
    let bits = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    let bits = bits.filter_map(|row| row.split('|').nth(1)?.trim().parse::<u32>().ok());
    assert_eq!(bits.fold(0, |all, bit| all | bit), UNDERSTOOD.0);
}
