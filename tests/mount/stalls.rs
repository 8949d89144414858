//! Waiting requests hold locks of the kernel. Only invalidations that need such a lock wait with them.

use crate::fixture::{PATIENCE, Tree};
use pmxcfs::memdb::{Change, Invalidation, Name, TreePath};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time until the kernel shows a change whose invalidation needs no held lock.
const SOON: Duration = Duration::from_secs(1);
/// Number of directories with a waiting request.
const STALLED: usize = 8;

/// Repeats a check; fails after `limit`.
#[track_caller]
fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::yield_now();
    }
}

fn mode(tree: &Tree, path: &str) -> u32 {
    fs::metadata(tree.path(path)).expect("there").mode() & 0o777
}

/// Creates an empty file as another node does, and queues its invalidation; does not wait for the disk or the
/// kernel.
fn appears_elsewhere(tree: &Tree, dir: &str, name: &str) -> Receiver<()> {
    let (sender, stored) = channel();
    let path = TreePath::from(format!("{dir}/{name}").as_str());
    tree.cfs.engine.submit(
        Change::Create { path },
        Box::new(move |result| {
            result.expect("made");
            // The test may have ended.
            let _ = sender.send(());
        }),
    );
    let parent = tree.cfs.engine.read().resolve(dir.as_bytes()).expect("a directory").inode;
    let name = Name::new(name.as_bytes()).expect("a name");
    tree.mounted().invalidate().queue(&[Invalidation::Entry { parent, name }]);
    stored
}

/// Directories, each with a name that the kernel has cached as missing.
fn tree_with_directories() -> Tree {
    let tree = Tree::new();
    for number in 0..STALLED {
        tree.write(&format!("{}f", tree.mkdir(&format!("x{number}/")).display()), "text");
        assert!(!tree.path(&format!("x{number}/new")).exists());
    }
    tree.mkdir("y");
    tree.write("y/f", "old");
    tree
}

/// Blocks a mkdir in each of `stalled` directories on the disk, adds entries of another node to them, so that
/// their invalidations wait, and runs `check`.
fn while_stalled(stalled: usize, check: impl FnOnce(&Tree)) {
    let tree = tree_with_directories();
    assert_eq!((tree.read("y/f"), tree.path("y/new").exists()), (b"old".to_vec(), false));
    let disk = rusqlite::Connection::open(tree.database()).expect("database");
    disk.execute_batch("BEGIN IMMEDIATE").expect("no other commit from now on");
    thread::scope(|scope| {
        let before = tree.cfs.engine.read().version();
        let tree = &tree;
        let make = |number: usize| scope.spawn(move || fs::create_dir(tree.path(&format!("x{number}/held"))));
        let waiting: Vec<_> = (0..stalled).map(make).collect();
        // Each one is in memory, and waits for the disk.
        within(PATIENCE, "all are asked for", || tree.cfs.engine.read().version() == before + stalled as u64);
        for number in 0..stalled {
            appears_elsewhere(tree, &format!("x{number}"), "new");
        }
        check(tree);
        assert!(!tree.mounted().invalidate().wait(Duration::ZERO), "names are still waited for");
        assert!(waiting.iter().all(|call| !call.is_finished()), "all still wait");
        disk.execute_batch("COMMIT").expect("the disk is back");
        waiting.into_iter().for_each(|call| call.join().expect("no panic").expect("made"));
    });
    tree.set_quorate(true);
    for number in 0..stalled {
        assert!(tree.path(&format!("x{number}/new")).is_file(), "x{number}");
    }
}

#[test]
fn stalled_directories_stall_no_contents() {
    for stalled in [1, STALLED] {
        while_stalled(stalled, |tree| {
            let data = b"new".to_vec();
            let at = pmxcfs::memdb::WriteAt::Offset(0);
            for path in ["y/f", "x0/f"] {
                tree.change(Change::Write { path: path.into(), at, data: data.clone() });
            }
            within(SOON, "new contents", || tree.read("y/f") == b"new");
            within(SOON, "new contents in a stalled directory", || tree.read("x0/f") == b"newt");
        });
    }
}

#[test]
fn stalled_directories_stall_no_times() {
    while_stalled(STALLED, |tree| {
        for path in ["y/f", "x0/f"] {
            let mtime = || fs::metadata(tree.path(path)).expect("there").mtime();
            assert_ne!(mtime(), 99, "and the kernel keeps that");
            tree.change(Change::SetMtime { path: path.into(), mtime: 99 });
            within(SOON, path, || mtime() == 99);
        }
    });
}

#[test]
fn stalled_directories_stall_no_names_of_others() {
    while_stalled(STALLED, |tree| {
        appears_elsewhere(tree, "y", "new");
        within(SOON, "the new name", || tree.path("y/new").is_file());
    });
}

#[test]
fn stalled_directories_do_not_hide_loss_of_quorum() {
    while_stalled(STALLED, |tree| {
        assert_eq!((mode(tree, "y/f"), mode(tree, "x0/f"), mode(tree, "x0")), (0o640, 0o640, 0o755));
        tree.cfs.set_quorate(false);
        within(SOON, "modes", || {
            (mode(tree, "y/f"), mode(tree, "x0/f"), mode(tree, "x0")) == (0o440, 0o440, 0o555)
        });
    });
}
