//! In a cluster another member's tree takes the place of this node's while requests wait for the disk:
//! they hear of success only if that tree has what they did.

use crate::support::{Home, mkdir, rename, wait_until, write};
use pmxcfs::engine::{Engine, EngineError};
use pmxcfs::memdb::{Applied, Change, Limits, MemDb, Row, Stamp};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

const UPTIME: Duration = Duration::ZERO;

fn apply(tree: &mut MemDb, writer: u32, change: Change) -> Applied {
    tree.apply(change, Stamp { writer, time: 10 }, Limits::Agreed, UPTIME).unwrap()
}

/// A change of this node comes back from the group; who asked waits for the disk.
fn deliver(db: &Engine, change: Change) -> Receiver<Result<Applied, EngineError>> {
    let (sender, receiver) = channel();
    let applied = db.apply_batch(|tree, _| apply(tree, 1, change)).unwrap();
    db.reply_delivered(applied, true, Box::new(move |result| sender.send(result).unwrap()));
    receiver
}

fn sync_with(start: impl FnOnce(pmxcfs::engine::CommitCallback)) -> Receiver<Result<(), EngineError>> {
    let (sender, receiver) = channel();
    start(Box::new(move |result| sender.send(result).unwrap()));
    receiver
}

fn become_that_of(db: &Engine, leader: &mut MemDb) {
    let rows: Vec<Row> = leader.snapshot_rows().collect();
    db.apply_batch(|tree, _| tree.install_leader_tree(&leader.index(), rows, UPTIME)).unwrap().unwrap();
}

#[test]
fn who_waits_for_what_the_other_tree_lacks_is_not_told_that_it_was_made() {
    let home = Home::golden();
    let db = home.db();
    for path in ["gone", "moved"] {
        db.submit_wait(mkdir(path)).unwrap();
    }
    // From here on nothing can be stored, and everybody waits.
    let other = home.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let common = [deliver(&db, mkdir("common")), deliver(&db, Change::Delete { path: "gone".into() })];
    let file =
        db.apply_batch(|tree, _| apply(tree, 1, Change::Create { path: "file".into() }).inode).unwrap();
    db.apply_batch(|tree, _| apply(tree, 1, write("file", b"text"))).unwrap();
    let flushed = sync_with(|done| db.sync_entry(file, done));

    // The cluster falls apart: the part that this node is in goes on, and so does the other, which has
    // the higher version in the end.
    let mut leader = db.read().clone();
    for path in ["theirs", "theirs/1", "theirs/2", "theirs/3", "theirs/4", "theirs/5"] {
        apply(&mut leader, 2, mkdir(path));
    }
    let lost = [
        deliver(&db, mkdir("ours")),
        deliver(&db, rename("moved", "away")),
        deliver(&db, Change::Delete { path: "common".into() }),
    ];
    db.apply_batch(|tree, _| apply(tree, 1, write("file", b"other text"))).unwrap();
    let not_flushed = sync_with(|done| db.sync_entry(file, done));
    let synced = sync_with(|done| db.sync(done));
    become_that_of(&db, &mut leader);
    let after = deliver(&db, mkdir("after"));

    assert_eq!(after.try_recv(), Err(TryRecvError::Empty));
    other.execute_batch("ROLLBACK").unwrap();
    for answer in common.iter().chain([&after]) {
        answer.recv().unwrap().unwrap();
    }
    for answer in lost {
        assert_eq!(answer.recv().unwrap(), Err(EngineError::TreeReplaced));
    }
    assert_eq!(not_flushed.recv().unwrap(), Err(EngineError::TreeReplaced));
    assert_eq!(synced.recv().unwrap(), Err(EngineError::TreeReplaced), "it was for all of the tree");
    assert_eq!(flushed.recv().unwrap(), Ok(()), "as the file was then it is in the tree");
    assert!(!db.is_failed());
    wait_until("is stored", || db.is_stored(db.read().version()));
    let rows: Vec<Row> = db.read().snapshot_rows().collect();
    db.close().unwrap();
    assert_eq!(crate::support::rows(&home.store()), rows);
}
