//! Mounting, unmounting, what is left by others, and faults of the daemon itself.

use crate::fixture::{PATIENCE, Tree, refused};
use nix::mount::{MntFlags, umount2};
use pmxcfs::fuse::{self, Options};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

fn mount_lines(tree: &Tree) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").expect("mounts");
    let root = tree.root().to_string_lossy().into_owned();
    mounts.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect()
}

#[test]
fn it_shows_as_the_stock_daemons_mount() {
    let tree = Tree::new();
    let options = "rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other";
    let expected = format!("/dev/fuse {} fuse {options} 0 0", tree.root().display());
    assert_eq!(mount_lines(&tree), [expected]);
}

#[test]
fn unmounting_while_files_are_open() {
    let mut tree = Tree::new();
    let path = tree.write("f", "still here");
    let mut file = File::open(&path).expect("open");
    assert_eq!(mount_lines(&tree).len(), 1);
    let ended = tree.unmount_within(Duration::from_millis(50));
    assert!(!ended, "somebody has a file open");
    assert_eq!(mount_lines(&tree), [""; 0], "but nobody finds it any more");
    refused(fs::metadata(&path), libc::ENOENT);
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "still here");
}

#[test]
fn the_daemon_learns_that_somebody_unmounted_it() {
    let (sender, receiver) = mpsc::channel();
    let on_end = Box::new(move || sender.send(()).expect("heard"));
    let tree = Tree::with_options(Options { on_end, ..Options::default() });
    tree.write("f", "x");
    assert!(receiver.try_recv().is_err());
    let status = Command::new("umount").arg(tree.root()).status().expect("umount");
    assert!(status.success());
    receiver.recv_timeout(PATIENCE).expect("told");
    assert!(tree.mounted().wait(PATIENCE));
}

#[test]
fn unmounting_it_oneself_is_no_news() {
    let (sender, receiver) = mpsc::channel();
    let on_end = Box::new(move || sender.send(()).expect("heard"));
    let mut tree = Tree::with_options(Options { on_end, ..Options::default() });
    assert!(tree.unmount());
    assert_eq!(receiver.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn what_a_killed_daemon_left_is_cleared() {
    let tree = Tree::new();
    let file = File::open(tree.write("f", "x")).expect("open");
    // Ends the connection as the death of the daemon does, and leaves the mount point behind.
    refused(umount2(&tree.root(), MntFlags::MNT_FORCE), libc::EBUSY);
    assert!(tree.mounted().wait(PATIENCE));
    refused(fs::metadata(tree.root()), libc::ENOTCONN);
    let again = fuse::mount(Arc::clone(&tree.cfs), &tree.root(), Options::default()).expect("mounted");
    assert_eq!(tree.read("f"), b"x");
    assert_eq!(mount_lines(&tree).len(), 1);
    drop(file);
    assert!(again.unmount(PATIENCE));
}

#[test]
fn mount_points_are_made() {
    let tree = Tree::new();
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("a/b/c");
    let second = fuse::mount(Arc::clone(&tree.cfs), &path, Options::default()).expect("mounted");
    assert_eq!(second.path(), path);
    tree.write("f", "x");
    assert_eq!(fs::read(path.join("f")).expect("read"), b"x");
    assert!(second.unmount(PATIENCE));
    let file = dir.path().join("file");
    fs::write(&file, "").expect("write");
    assert!(fuse::mount(Arc::clone(&tree.cfs), &file.join("x"), Options::default()).is_err());
}

#[test]
fn a_panic_fails_one_request() {
    let tree = Tree::new();
    let path = tree.write("f", "x");
    tree.cfs.engine.observe(Box::new(|_| panic!("on purpose")));
    refused(File::open(&path).and(fs::write(&path, "y")), libc::EIO);
    for _ in 0..20 {
        assert!(tree.list("").contains(&"f".to_owned()));
        let mut byte = [0];
        let _ = File::open(&path).expect("open").read_at(&mut byte, 0).expect("read");
        refused(fs::create_dir(tree.path("d")), libc::EIO);
    }
}
