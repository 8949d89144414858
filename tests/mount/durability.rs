//! What is on disk when a call returns, and what nobody waits for.

use crate::fixture::{Tree, refused};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

fn is_stored(tree: &Tree) -> bool {
    let version = tree.cfs.engine.read().version();
    tree.cfs.engine.is_stored(version)
}

#[test]
fn calls_that_return_after_the_commit() {
    let tree = Tree::new();
    for round in 0..20 {
        fs::create_dir(tree.path("d")).expect("mkdir");
        assert!(is_stored(&tree), "mkdir, round {round}");
        tree.write("d/f", "x");
        assert!(is_stored(&tree), "close, round {round}");
        drop(File::create(tree.path("d/f")).expect("truncated"));
        assert!(is_stored(&tree), "close after truncation, round {round}");
        drop(File::create(tree.path("d/empty")).expect("create"));
        assert!(is_stored(&tree), "close after create, round {round}");
        fs::rename(tree.path("d/f"), tree.path("d/empty")).expect("rename");
        assert!(is_stored(&tree), "rename, round {round}");
        let mut file = OpenOptions::new().append(true).open(tree.path("d/empty")).expect("open");
        file.write_all(b"y").expect("write");
        file.sync_data().expect("fdatasync");
        assert!(is_stored(&tree), "fdatasync, round {round}");
        file.write_all(b"z").expect("write");
        File::open(tree.path("d")).expect("open").sync_all().expect("fsync of a directory");
        assert!(is_stored(&tree), "fsync of a directory, round {round}");
        file.write_all(b"z").expect("write");
        fs::remove_file(tree.path("d/empty")).expect("unlink");
        assert!(is_stored(&tree), "unlink, round {round}");
        fs::remove_dir(tree.path("d")).expect("rmdir");
        assert!(is_stored(&tree), "rmdir, round {round}");
    }
}

#[test]
fn readers_cause_no_commit() {
    let tree = Tree::new();
    tree.mkdir("d");
    tree.write("d/f", "x");
    let before = tree.cfs.engine.commit_stats();
    for _ in 0..10 {
        tree.read("d/f");
        tree.list("d");
        drop(OpenOptions::new().read(true).write(true).open(tree.path("d/f")).expect("open"));
    }
    assert_eq!(tree.cfs.engine.commit_stats(), before);
}

#[test]
fn many_writes_share_a_commit() {
    let tree = Tree::new();
    let file = File::create(tree.path("f")).expect("create");
    let before = tree.cfs.engine.commit_stats();
    let start = tree.cfs.clock.uptime();
    for piece in 0..1000 {
        file.write_all_at(&[b'x'; 512], piece * 512).expect("write");
    }
    drop(file);
    let took = tree.cfs.clock.uptime() - start;
    let commits = tree.cfs.engine.commit_stats().commits - before.commits;
    // One for each 50 ms that it took, one that ran meanwhile, and that of the close.
    let most = u64::try_from(took.as_millis() / 50).expect("short") + 2;
    assert!(commits <= most, "{commits} commits in {took:?}");
}

/// While the disk keeps commits waiting, whoever asked for one waits, and nobody else does: not for the
/// event loops, of which there are fewer than calls here, and not for the tree.
#[test]
fn readers_do_not_wait_for_the_disk() {
    const WAITING: usize = 8;
    let tree = Tree::new();
    tree.mkdir("read");
    for number in 0..WAITING {
        tree.mkdir(&format!("d{number}"));
        tree.write(&format!("d{number}/old"), "old");
        tree.write(&format!("read/{number}"), "text");
    }
    let disk = rusqlite::Connection::open(tree.database()).expect("database");
    disk.execute_batch("BEGIN IMMEDIATE").expect("nobody else can write now");
    std::thread::scope(|scope| {
        let call = |number: usize| match number % 4 {
            0 => fs::create_dir(tree.path(&format!("d{number}/new"))).expect("mkdir"),
            1 => fs::remove_file(tree.path(&format!("d{number}/old"))).expect("unlink"),
            2 => fs::write(tree.path(&format!("d{number}/new")), "new").expect("write and close"),
            _ => {
                let path = |name| tree.path(&format!("d{number}/{name}"));
                fs::rename(path("old"), path("new")).expect("rename");
            }
        };
        let before = tree.cfs.engine.read().version();
        let waiting: Vec<_> = (0..WAITING).map(|number| scope.spawn(move || call(number))).collect();
        // Each is in memory already, a new file with its contents as two changes.
        let all = before + WAITING as u64 + WAITING as u64 / 4;
        while tree.cfs.engine.read().version() < all {
            std::thread::yield_now();
        }
        for number in 0..WAITING {
            assert_eq!(tree.read(&format!("read/{number}")), b"text");
            assert!(fs::metadata(tree.path(&format!("read/{number}/x"))).is_err());
        }
        assert_eq!(tree.list("read").len(), WAITING);
        assert!(tree.read(".version").starts_with(b"{"));
        let file = OpenOptions::new().write(true).open(tree.path("read/0")).expect("open");
        file.write_all_at(b"more", 0).expect("a write need not be stored at once");
        assert!(waiting.iter().all(|call| !call.is_finished()), "all still wait");
        disk.execute_batch("COMMIT").expect("the disk is back");
    });
    assert!(is_stored(&tree));
    assert_eq!((tree.list("d0"), tree.list("d1").len()), (vec!["new".to_owned(), "old".to_owned()], 0));
}

#[test]
fn a_closed_database_refuses_changes_and_is_read_on() {
    let tree = Tree::new();
    tree.mkdir("d");
    tree.write("d/f", "x");
    tree.cfs.engine.close().expect("closed");
    refused(fs::create_dir(tree.path("d/e")), libc::EIO);
    refused(File::create(tree.path("d/g")), libc::EIO);
    refused(fs::write(tree.path("d/f"), "y"), libc::EIO);
    refused(fs::rename(tree.path("d/f"), tree.path("d/g")), libc::EIO);
    refused(fs::remove_file(tree.path("d/f")), libc::EIO);
    tree.drain();
    assert_eq!((tree.read("d/f"), tree.list("d")), (b"x".to_vec(), vec!["f".to_owned()]));
}
