//! fsync(2) and its kin: the log of the database is on the disk when they return, and only then.

use crate::disk::Recording;
use crate::fixture::{Tree, refused};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::thread;

/// More than there are event loops.
const CALLERS: usize = 8;

/// A tree with nothing to sync, and the recorder of its database.
fn synced_tree() -> (Tree, Arc<Recording>) {
    let tree = Tree::new();
    let recording = Recording::start(tree.database().parent().expect("a directory"));
    tree.cfs.engine.fsync_wait().expect("synced");
    (tree, recording)
}

fn assert_synced(tree: &Tree, what: &str) {
    assert!(tree.cfs.engine.is_synced(), "{what} returned without a sync");
}

#[test]
fn fsync_and_synchronous_writes_sync_log() {
    let (tree, recording) = synced_tree();
    let syncs = || recording.syncs_of("config.db-wal");
    let before = syncs();
    tree.mkdir("d");
    tree.write("d/f", "x");
    fs::rename(tree.path("d/f"), tree.path("d/g")).expect("rename");
    let mut file = OpenOptions::new().append(true).open(tree.path("d/g")).expect("open");
    assert!(!tree.cfs.engine.is_synced() && syncs() == before, "mkdir, close and rename make no sync");

    file.write_all(b"y").expect("write");
    file.sync_all().expect("fsync");
    assert_synced(&tree, "fsync");
    file.write_all(b"y").expect("write");
    file.sync_data().expect("fdatasync");
    assert_synced(&tree, "fdatasync");
    tree.mkdir("d/e");
    File::open(tree.path("d")).expect("open").sync_all().expect("fsync of a directory");
    assert_synced(&tree, "fsync of a directory");
    assert!(syncs() >= before + 3);
    for flag in [libc::O_SYNC, libc::O_DSYNC] {
        let file = OpenOptions::new().write(true).custom_flags(flag).open(tree.path("d/g")).expect("open");
        file.write_all_at(b"z", 0).expect("write");
        assert_synced(&tree, "a synchronous write");
    }
    let reader = File::open(tree.path("d/g")).expect("open");
    let before = syncs();
    reader.sync_all().expect("fsync");
    assert_eq!(syncs(), before, "nothing was left to sync");
}

#[test]
fn slow_sync_blocks_only_its_callers() {
    let (tree, recording) = synced_tree();
    for number in 0..CALLERS {
        tree.write(&format!("f{number}"), "x");
    }
    recording.hold_syncs(true);
    thread::scope(|scope| {
        let fsync = |number| File::open(tree.path(&format!("f{number}"))).and_then(|file| file.sync_all());
        let callers: Vec<_> = (0..CALLERS).map(|number| scope.spawn(move || fsync(number))).collect();
        recording.wait_for_held_sync();
        for round in 0..20 {
            tree.mkdir("d");
            tree.write("d/new", format!("{round}"));
            fs::rename(tree.path("d/new"), tree.path("d/file")).expect("rename");
            assert_eq!(tree.read("d/file"), format!("{round}").as_bytes());
            fs::remove_dir_all(tree.path("d")).expect("removed");
        }
        assert!(callers.iter().all(|caller| !caller.is_finished()), "all wait for the sync");
        recording.hold_syncs(false);
        for caller in callers {
            caller.join().expect("ended").expect("fsync");
        }
    });
}

#[test]
fn failed_sync_is_an_io_error() {
    let (tree, recording) = synced_tree();
    recording.fail_syncs(true);
    let path = tree.write("f", "x");
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    refused(file.sync_all(), libc::EIO);
    refused(File::open(tree.root()).expect("open").sync_all(), libc::EIO);
    let synchronous = OpenOptions::new().write(true).custom_flags(libc::O_SYNC).open(&path).expect("open");
    refused(synchronous.write_all_at(b"y", 0), libc::EIO);
    drop((file, synchronous));
    tree.write("g", "all else goes on");
    recording.fail_syncs(false);
}
