//! The tree against recordings of stock daemons: the messages that node 1 of a cluster delivered are
//! applied here, and every index that was exchanged, every entry that was sent to a node that was
//! behind, and the database file in the end must come out byte for byte.

use flate2::read::GzDecoder;
use pmxcfs::memdb::{Change, ChangeError, Index, Limits, MemDb, Row, Stamp, TreePath, WriteAt};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The rows of a database file that stock wrote.
fn rows_of_file(name: &str) -> Vec<Row> {
    let uri = format!("file:{}?immutable=1", golden(name).display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let file = Connection::open_with_flags(uri, flags).expect("opens");
    let sql = "SELECT inode, parent, version, writer, mtime, type, CAST(name AS BLOB), data \
               FROM tree ORDER BY inode";
    let mut query = file.prepare(sql).expect("prepares");
    let rows = query.query_map([], |row| {
        Ok(Row {
            inode: row.get(0)?,
            parent: row.get(1)?,
            version: row.get(2)?,
            writer: row.get(3)?,
            mtime: row.get(4)?,
            kind: row.get(5)?,
            name: row.get::<_, Vec<u8>>(6)?.into(),
            data: row.get::<_, Option<Vec<u8>>>(7)?.map(Arc::new),
        })
    });
    rows.expect("runs").collect::<Result<_, _>>().expect("reads")
}

/// Little-endian fields from the front of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("8 bytes"))
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("4 bytes"))
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().expect("2 bytes"))
    }
    /// A string with its NUL.
    fn path(&mut self, len: u32) -> TreePath {
        TreePath::new(self.take(len as usize).split_last().map_or(&[][..], |(_, path)| path))
    }
}

/// One message of the database group.
enum Message {
    Change { change: Change, stamp: Stamp },
    State(Index),
    Update(Row),
    Other,
}

fn parse(sender: u32, bytes: &[u8]) -> Message {
    let mut message = Bytes(bytes);
    let (kind, subtype, _protocol) = (message.u16(), message.u16(), message.u32());
    let (time, _reserved) = (message.u32(), message.u32());
    if kind == 0 {
        message.u64();
        let stamp = Stamp { writer: sender, time };
        return parse_change(subtype, message)
            .map_or(Message::Other, |change| Message::Change { change, stamp });
    }
    message.take(16);
    match kind {
        2 => Message::State(Index::decode(message.0).expect("stock's index decodes")),
        3 => Message::Update(parse_update(message)),
        _ => Message::Other,
    }
}

fn parse_change(subtype: u16, mut message: Bytes<'_>) -> Option<Change> {
    if let 7 | 8 = subtype {
        let checksum = message.take(32).try_into().expect("32 bytes");
        let path = message.path(message.0.len() as u32);
        return (subtype == 8).then_some(Change::Unlock { path, checksum });
    }
    let (size, offset) = (message.u32(), message.u32());
    let (path_len, to_len, flags) = (message.u32(), message.u32(), message.u32());
    let (path, to) = (message.path(path_len), message.path(to_len));
    let data = message.take(size as usize).to_vec();
    Some(match (subtype, flags) {
        (1, 0) => Change::Write { path, at: WriteAt::Offset(offset.into()), data },
        (1, 1) if data.is_empty() => Change::Truncate { path, size: offset.into() },
        (2, _) => Change::Mkdir { path },
        (3, _) => Change::Delete { path },
        (4, _) => Change::Rename { from: path, to },
        (5, _) => Change::Create { path },
        (6, _) => Change::SetMtime { path, mtime: offset },
        other => panic!("unexpected message {other:?}"),
    })
}

fn parse_update(mut message: Bytes<'_>) -> Row {
    let (parent, inode, version) = (message.u64(), message.u64(), message.u64());
    let (writer, mtime, size, name_len) = (message.u32(), message.u32(), message.u32(), message.u32());
    let kind = message.take(1)[0];
    let name = message.path(name_len);
    let name = if inode == 0 { b"__version__" } else { name.as_bytes() }.into();
    let data = (size > 0).then(|| Arc::new(message.0.to_vec()));
    Row { inode, parent, version, writer, mtime, kind, name, data }
}

/// What the node delivered in the database group, in order.
fn deliveries(name: &str) -> Vec<Message> {
    let file = BufReader::new(GzDecoder::new(File::open(golden(name)).expect("opens")));
    let events = file
        .lines()
        .map(|line| -> serde_json::Value { serde_json::from_str(&line.expect("unpacks")).expect("is JSON") });
    let in_group = |event: &serde_json::Value| event["ev"] == "deliver" && event["group"] == "pve_dcdb_v1";
    let message = |event: serde_json::Value| {
        let sender = event["node"].as_u64().and_then(|node| node.try_into().ok()).expect("a node id");
        let hex = event["hex"].as_str().expect("a message");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        parse(sender, &(0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>())
    };
    events.filter(in_group).map(message).collect()
}

/// Node 1 as it started: an empty database into which corosync.conf was imported.
fn imported(rows: &[Row]) -> MemDb {
    let conf = rows.iter().find(|row| row.inode == 2).expect("the imported file");
    let stamp = Stamp { writer: 0, time: conf.mtime };
    let data = conf.data.as_ref().expect("contents").to_vec();
    let path = TreePath::from("corosync.conf");
    let mut db = MemDb::new();
    for change in
        [Change::Create { path: path.clone() }, Change::Write { path, at: WriteAt::Offset(0), data }]
    {
        db.apply(change, stamp, Limits::Enforced, NOW).expect("applies");
    }
    db
}

#[test]
fn a_recorded_cluster_replays_to_the_same_bytes() {
    let rows = rows_of_file("cluster.db");
    let mut db = imported(&rows);
    let (mut applied, mut refused, mut states) = (0, Vec::new(), 0);
    let mut behind: BTreeMap<u64, Row> = BTreeMap::new();
    for message in deliveries("cpg-node1.jsonl.gz") {
        match message {
            Message::Change { change, stamp } => match db.apply(change, stamp, Limits::Agreed, NOW) {
                Ok(_) => applied += 1,
                Err(error) => refused.push(error),
            },
            // A node that just started on its own database has a time of import of its own.
            Message::State(index) if index.version == 3 && db.version() > 3 => {}
            Message::State(index) if index.version == 3 => {
                assert_eq!(index, db.index());
                states += 1;
            }
            Message::State(index) => {
                assert_eq!(index, db.index());
                assert_eq!(index.encode(), db.index().encode());
                states += 1;
            }
            Message::Update(row) => drop(behind.insert(row.inode, row)),
            Message::Other => {}
        }
        db.verify().expect("holds");
        if behind.len() == 10 {
            let mut updated = MemDb::load(std::mem::take(&mut behind).into_values(), NOW).expect("loads");
            assert_eq!(updated.index(), db.index());
            assert_eq!(updated.checksum(), db.checksum());
        }
    }
    assert!(behind.is_empty());
    // Two from the start, two when node 3 joined, two when it left, three when it came back.
    assert_eq!((applied, states), (26, 9));
    // Each request for expiry is followed by a time of 0, which a held lock refuses.
    let held = ChangeError::LockHeld { path: "priv/lock/l1".into() };
    assert_eq!(refused, [held.clone(), held.clone(), held]);
    assert_eq!(db.snapshot_rows().collect::<Vec<_>>(), rows);
}

#[test]
fn a_recorded_cluster_counts_as_stock_did() {
    let mut db = imported(&rows_of_file("cluster.db"));
    let imported_versions = db.versions().clone();
    for message in deliveries("cpg-node1.jsonl.gz") {
        if let Message::Change { change, stamp } = message {
            let _refused_or_not = db.apply(change, stamp, Limits::Agreed, NOW);
        }
    }
    let guests =
        db.guests().iter().map(|(vmid, guest)| (vmid, guest.kind.as_str(), &*guest.node, guest.version));
    assert!(guests.eq([(100, "qemu", "n1", 2), (101, "lxc", "n2", 4), (102, "qemu", "n1", 6)]));
    assert_eq!(db.guests().version(), 6);
    for (path, version) in db.versions().iter() {
        let expected = match path {
            "storage.cfg" => Some(4),
            "priv/token.cfg" => Some(3),
            _ => imported_versions.get(path),
        };
        assert_eq!(Some(version), expected, "{path}");
    }
}

#[test]
fn stocks_file_loads_and_comes_out_again() {
    let rows = rows_of_file("cluster.db");
    // The order of rows does not matter.
    for rows in [rows.clone(), rows.iter().rev().cloned().collect()] {
        let mut db = MemDb::load(rows, NOW).expect("loads");
        db.verify().expect("holds");
        assert!(db.take_batch().is_none(), "nothing to store");
        assert_eq!(db.version(), 29);
    }
    let db = MemDb::load(rows.clone(), NOW).expect("loads");
    assert_eq!(db.snapshot_rows().collect::<Vec<_>>(), rows);
    let config = db.resolve(b"nodes/n1/qemu-server/100.conf").expect("there");
    assert_eq!(config.content().map(|bytes| bytes.as_slice()), Some(&b"memory: 512\nname: a\n"[..]));
    assert_eq!(db.guests().get(100).map(|guest| guest.config), Some(config.inode));
}
