//! Trees in memory: load, resync, listing, changes, and data derived from the tree.

use crate::growth::{assert_near_linear, cost};
use crate::shapes::Shape;
use pmxcfs::cfs::{Cfs, Generated, NodeIdentity};
use pmxcfs::clock::Clock;
use pmxcfs::dcdb::Dcdb;
use pmxcfs::dcdb::wire::{UNDERSTOOD, decode_updates};
use pmxcfs::dfsm::wire::{Base, Epoch, MemberId, Message, Sync, SyncKind};
use pmxcfs::dfsm::{Dfsm, Effect, Event, Now};
use pmxcfs::engine::Engine;
use pmxcfs::fs::{CacheRules, Fs, ROOT_INO};
use pmxcfs::memdb::{Batch, Change, Limits, MemDb, Row, Stamp, TreePath};
use pmxcfs::rrd::Sink;
use pmxcfs::store::Store;
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

/// Number of changes to one tree: few, since the cost of one is compared, but enough to measure.
const CHANGES: usize = 2;

fn load(shape: Shape, entries: u64) -> MemDb {
    MemDb::load(shape.rows(entries), NOW).expect("a sound tree")
}

#[test]
fn load_is_near_linear() {
    for shape in Shape::ALL {
        assert_near_linear(&format!("load {shape:?}"), |entries| {
            let rows = shape.rows(entries);
            let (took, tree) = cost(|| MemDb::load(rows, NOW).expect("a sound tree"));
            assert_eq!(tree.usage().entries, entries);
            took
        });
    }
}

#[test]
fn update_of_a_leader_is_near_linear() {
    for shape in Shape::ALL {
        assert_near_linear(&format!("update {shape:?}"), |entries| {
            let rows = shape.rows(entries);
            let index = load(shape, entries).index();
            let (took, tree) = cost(|| {
                let mut tree = MemDb::new();
                tree.install_leader_tree(&index, rows, NOW).expect("adds up");
                tree
            });
            assert_eq!(tree.usage().entries, entries);
            took
        });
    }
}

/// One member of the database group, whose messages are not delivered.
struct Node {
    dfsm: Dfsm<Dcdb>,
    tree: MemDb,
    sent: Vec<Vec<u8>>,
}

impl Node {
    fn new(tree: MemDb) -> Self {
        let mut app = Dcdb::new();
        app.set_quorate(true);
        Self { dfsm: Dfsm::new(app), tree, sent: Vec::new() }
    }

    fn handle(&mut self, event: Event<'_>) {
        for effect in self.dfsm.handle(&mut self.tree, event, Now { unix: 1, uptime: NOW }) {
            if let Effect::Send(frame) = effect {
                self.sent.push(frame.to_vec());
            }
        }
    }

    fn sync(&mut self, from: MemberId, kind: SyncKind, epoch: Epoch, payload: &[u8]) {
        let base =
            Base { kind: kind as u16, subtype: 0, protocol_version: 1, time: 1, extension: UNDERSTOOD };
        let bytes = Sync { base, epoch, payload }.encode();
        self.handle(Event::Deliver { from, bytes: &bytes });
    }
}

#[test]
fn leader_sends_in_near_linear_time() {
    for shape in Shape::ALL {
        assert_near_linear(&format!("send {shape:?}"), |entries| {
            let [own, other] = [1, 2].map(|node| MemberId { node, pid: 10 });
            let epoch = Epoch { counter: 1, time: 1, node: own.node, pid: own.pid };
            let mut leader = Node::new(load(shape, entries));
            let (state, empty) = (leader.tree.index().encode(), MemDb::new().index().encode());
            let (took, ()) = cost(|| {
                leader.handle(Event::Join(own));
                leader.handle(Event::Confchg { members: &[own, other], joined: true });
                leader.sync(own, SyncKind::Start, epoch, &[]);
                leader.sync(own, SyncKind::State, epoch, &state);
                leader.sync(other, SyncKind::State, epoch, &empty);
            });
            let mut sent = 0;
            for bytes in &leader.sent {
                if let Ok(Message::Sync(message)) = Message::decode(bytes, 1) {
                    if message.base.kind == SyncKind::Update as u16 {
                        decode_updates(message.payload, |_| sent += 1).expect("an update");
                    }
                }
            }
            assert_eq!(sent, entries);
            took
        });
    }
}

/// The tree as the kernel sees it, and the directory of its database.
fn mounted(rows: Vec<Row>) -> (Arc<Fs>, Arc<Cfs>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, clock) = (dir.path().join("config.db"), Clock::start());
    let mut store = Store::open(&path, clock.unix()).expect("a new database");
    let version = rows.first().map_or(1, |row| row.version);
    store.commit(&Batch { version, deleted: Vec::new(), rows }).expect("stored");
    let engine = Arc::new(Engine::open(store, clock).expect("a sound tree"));
    let node = NodeIdentity { name: "n1".to_owned(), address: None, www_data_gid: 33 };
    let cfs = Arc::new(Cfs::new(engine, clock, node, Sink::discarding()));
    (Fs::new(Arc::clone(&cfs), CacheRules::THIS_MOUNT), cfs, dir)
}

/// Lists a directory in several replies. Returns the number of its entries, and the directories among them.
fn list(fs: &Fs, ino: u64) -> (u64, Vec<u64>) {
    let handle = fs.opendir(ino).expect("a directory");
    let (mut found, mut directories, mut offset) = (0, Vec::new(), 0);
    loop {
        let (mut lines, start) = (0, offset);
        let add = |entry: pmxcfs::fs::DirEntry<'_>| {
            if lines == 30 {
                return true;
            }
            lines += 1;
            offset = entry.next;
            if !entry.name.starts_with(b".") {
                found += 1;
                if entry.attr.kind == pmxcfs::fs::Kind::Directory {
                    directories.push(entry.attr.ino);
                }
            }
            false
        };
        fs.readdir(ino, handle, start, add).expect("listed");
        if lines == 0 {
            fs.releasedir(handle);
            return (found, directories);
        }
    }
}

#[test]
fn listing_is_near_linear() {
    for shape in Shape::ALL {
        assert_near_linear(&format!("list {shape:?}"), |entries| {
            let (fs, _cfs, _dir) = mounted(shape.rows(entries));
            let (took, found) = cost(|| {
                let (mut found, mut todo) = (0, vec![ROOT_INO]);
                while let Some(directory) = todo.pop() {
                    let (entries, directories) = list(&fs, directory);
                    found += entries;
                    todo.extend(directories);
                }
                found
            });
            // The root is not listed, but the links of the root are.
            assert_eq!(found, entries - 1 + 4);
            took
        });
    }
}

#[test]
fn one_change_costs_at_most_linear_time() {
    for shape in Shape::ALL {
        assert_near_linear(&format!("change {shape:?}"), |entries| {
            let mut tree = load(shape, entries);
            let last = tree.path_of(entries - 1).expect("the last entry");
            let parent = TreePath::new(last.split().expect("not the root").0);
            let (one, other) = (parent.join(b"one"), parent.join(b"other"));
            let stamp = Stamp { writer: 1, time: 2 };
            let mut apply = |change| tree.apply(change, stamp, Limits::Agreed, NOW).expect("applied");
            let (took, ()) = cost(|| {
                for _ in 0..CHANGES {
                    apply(Change::Create { path: one.clone() });
                    apply(Change::Rename { from: one.clone(), to: other.clone() });
                    apply(Change::Delete { path: other.clone() });
                }
            });
            took
        });
    }
}

#[test]
fn guests_and_texts_are_near_linear() {
    assert_near_linear("guest list", |entries| {
        let (_fs, cfs, _dir) = mounted(Shape::Guests.rows(entries));
        let (took, text) = cost(|| {
            cfs.text(Generated::Version);
            cfs.properties_of_all(&[b"name"]);
            cfs.text(Generated::VmList)
        });
        assert_eq!(text.iter().filter(|byte| **byte == b'{').count() as u64, entries - 4 + 2);
        took
    });
}
