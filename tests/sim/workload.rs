//! What clients do: a few locks, guests and files that they fight for.

use crate::checkers::{self};
use crate::node::name;
use crate::rng::Rng;
use pmxcfs::dcdb::wire::Request;
use pmxcfs::memdb::{Change, EntryChange, Limits, MemDb, Stamp, TreePath, WriteAt};
use std::sync::Arc;
use std::time::Duration;

const LOCKS: [&str; 2] = ["priv/lock/a", "priv/lock/b"];
const FILES: [&str; 4] = ["f", "d/f", "d/g", "user.cfg"];
const DIRS: [&str; 3] = ["d", "e", "d/x"];

/// The tree that a cluster begins with.
pub fn first_database(nodes: u32) -> MemDb {
    let mut db = MemDb::new();
    let mut apply = |change| {
        let stamp = Stamp { writer: 1, time: 1_799_999_999 };
        db.apply(change, stamp, Limits::Agreed, Duration::ZERO).expect("applies");
    };
    let mut dirs: Vec<String> = ["nodes", "priv", "priv/lock"].map(str::to_owned).to_vec();
    for node in 1..=nodes {
        dirs.push(format!("nodes/{}", name(node)));
        dirs.push(format!("nodes/{}/qemu-server", name(node)));
    }
    dirs.iter().for_each(|path| apply(Change::Mkdir { path: path.as_str().into() }));
    checkers::Appends::files().iter().for_each(|path| apply(Change::Create { path: (*path).into() }));
    db
}

fn guest(rng: &mut Rng, nodes: u32) -> TreePath {
    let node = 1 + rng.below(nodes as usize) as u32;
    let vmid = 100 + rng.below(2);
    format!("nodes/{}/qemu-server/{vmid}.conf", name(node)).as_str().into()
}

/// What a client of this node asks for next.
pub fn next_change(rng: &mut Rng, nodes: u32, serial: u64) -> Change {
    let lock = |rng: &mut Rng| TreePath::from(rng.pick(&LOCKS));
    let file = |rng: &mut Rng| TreePath::from(rng.pick(&FILES));
    let data = format!("{serial};").into_bytes();
    match rng.below(16) {
        0 | 1 => Change::Mkdir { path: lock(rng) },
        2 => Change::Delete { path: lock(rng) },
        3 => Change::SetMtime { path: lock(rng), mtime: u32::MAX },
        4 | 5 => Change::Create { path: guest(rng, nodes) },
        6 => Change::Delete { path: guest(rng, nodes) },
        7 => Change::Rename { from: guest(rng, nodes), to: guest(rng, nodes) },
        8 => Change::Create { path: file(rng) },
        9 => Change::Write { path: file(rng), at: WriteAt::Offset(rng.below(20) as u64), data },
        10 => Change::Delete { path: file(rng) },
        11 => Change::Truncate { path: file(rng), size: rng.below(30) as u64 },
        12 => Change::Rename { from: file(rng), to: file(rng) },
        13 => Change::Mkdir { path: rng.pick(&DIRS).into() },
        _ => {
            let path = rng.pick(&checkers::Appends::files()).into();
            Change::Write { path, at: WriteAt::End, data: format!("line {serial}\n").into_bytes() }
        }
    }
}

/// The same change, sometimes through an open descriptor of the file that is at the path.
pub fn by_descriptor(rng: &mut Rng, db: &MemDb, change: Change) -> Change {
    let (path, bound) = match &change {
        Change::Write { path, at, data } => {
            (path, EntryChange::Write { at: *at, data: Arc::new(data.clone()) })
        }
        Change::Truncate { path, size } => (path, EntryChange::Truncate { size: *size }),
        _ => return change,
    };
    match db.resolve(path.as_bytes()) {
        Some(entry) if !entry.is_dir() && rng.one_in(2) => {
            Change::Entry { inode: entry.inode, place: None, change: bound }
        }
        _ => change,
    }
}

/// A client thinks that a lock has expired.
pub fn expire(rng: &mut Rng, db: &MemDb) -> Option<Request> {
    let path = TreePath::from(rng.pick(&LOCKS));
    let lock = db.resolve(path.as_bytes())?.inode;
    Some(Request::Expire { path, checksum: db.entry_checksum(lock)? })
}
