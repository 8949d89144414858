//! Mounting, unmounting, what is left by others, and faults of the daemon itself.

use crate::fixture::{PATIENCE, Tree, refused};
use nix::mount::{MntFlags, MsFlags, umount2};
use pmxcfs::fuse::{self, MountError, Options};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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

/// A directory beside a tree, in the same mount namespace.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("directory")
}

/// A FUSE mount whose server does not respond; dead once its device is dropped.
fn mount_fuse(path: &Path, source: &str) -> File {
    let device = File::options().read(true).write(true).open("/dev/fuse").expect("fuse");
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        std::os::fd::AsRawFd::as_raw_fd(&device)
    );
    let (kind, flags) = (Some("fuse"), MsFlags::empty());
    nix::mount::mount(Some(source), path, kind, flags, Some(options.as_str())).expect("mounted");
    device
}

fn mount_tmpfs(path: &Path) -> PathBuf {
    let none = None::<&str>;
    nix::mount::mount(Some("memory"), path, Some("tmpfs"), MsFlags::empty(), none).expect("mounted");
    let file = path.join("of-an-admin");
    fs::write(&file, "kept").expect("written");
    file
}

#[test]
fn foreign_mount_is_refused_and_kept() {
    let (tree, dir) = (Tree::new(), directory());
    let file = mount_tmpfs(dir.path());
    let refused = fuse::mount(Arc::clone(&tree.cfs), dir.path(), Options::default()).expect_err("refused");
    assert!(
        matches!(&refused, MountError::Foreign { kind, from, .. } if kind == "tmpfs" && from == "memory")
    );
    assert!(refused.to_string().contains(&format!("umount {}", dir.path().display())), "{refused}");
    assert_eq!(fs::read_to_string(&file).expect("kept"), "kept");
    umount2(dir.path(), MntFlags::empty()).expect("unmounted");
}

#[test]
fn live_tree_is_refused_and_kept() {
    let tree = Tree::new();
    tree.write("f", "x");
    let refused = fuse::mount(Arc::clone(&tree.cfs), &tree.root(), Options::default()).expect_err("refused");
    assert!(matches!(refused, MountError::Live), "{refused}");
    assert_eq!((tree.read("f"), mount_lines(&tree).len()), (b"x".to_vec(), 1));
}

#[test]
fn tree_that_does_not_answer_is_refused_and_kept() {
    let (tree, dir) = (Tree::new(), directory());
    let device = mount_fuse(dir.path(), "/dev/fuse");
    let refused = fuse::mount(Arc::clone(&tree.cfs), dir.path(), Options::default()).expect_err("refused");
    assert!(matches!(refused, MountError::Silent { .. }), "{refused}");
    // When its process ends the mount is dead, and is unmounted.
    drop(device);
    let mounted = fuse::mount(Arc::clone(&tree.cfs), dir.path(), Options::default()).expect("mounted");
    assert!(mounted.unmount(PATIENCE));
    assert_eq!(fuse::mounted_device(dir.path()), None, "the dead one is gone");
}

#[test]
fn dead_mount_of_another_program_is_refused() {
    let (tree, dir) = (Tree::new(), directory());
    drop(mount_fuse(dir.path(), "user@host:/home"));
    refused(fs::metadata(dir.path()), libc::ENOTCONN);
    let error = fuse::mount(Arc::clone(&tree.cfs), dir.path(), Options::default()).expect_err("refused");
    assert!(matches!(&error, MountError::Foreign { from, .. } if from == "user@host:/home"), "{error}");
    umount2(dir.path(), MntFlags::empty()).expect("it was kept");
}

#[test]
fn unmount_spares_what_lies_over_the_tree() {
    let mut tree = Tree::new();
    let file = mount_tmpfs(&tree.root());
    assert!(tree.unmount());
    assert_eq!(fs::read_to_string(&file).expect("kept"), "kept");
    umount2(&tree.root(), MntFlags::empty()).expect("unmounted");
    umount2(&tree.root(), MntFlags::MNT_DETACH).expect("the tree was left below");
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
