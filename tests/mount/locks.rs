//! Locks: directories below `priv/lock`, held for 120 seconds.

use crate::fixture::{Tree, refused};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use std::fs;
use std::path::Path;

fn set_mtime(path: &Path, seconds: u32) -> nix::Result<()> {
    let time = TimeSpec::new(seconds.into(), 0);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)
}

fn tree_with_lock() -> (Tree, std::path::PathBuf) {
    let tree = Tree::new();
    tree.mkdir("priv/lock");
    let lock = tree.path("priv/lock/storage");
    fs::create_dir(&lock).expect("taken");
    (tree, lock)
}

#[test]
fn taken_and_released() {
    let (_tree, lock) = tree_with_lock();
    refused(fs::create_dir(&lock), libc::EEXIST);
    fs::remove_dir(&lock).expect("released");
    fs::create_dir(&lock).expect("taken again");
}

#[test]
fn expiry_is_granted_after_120_seconds() {
    let (tree, lock) = tree_with_lock();
    refused(set_mtime(&lock, 0), libc::EACCES);
    tree.forward.by_seconds(119);
    refused(set_mtime(&lock, 0), libc::EACCES);
    refused(fs::create_dir(&lock), libc::EEXIST);
    tree.forward.by_seconds(2);
    refused(set_mtime(&lock, 0), libc::ENOENT);
    // The next one to try gets it, at once.
    fs::create_dir(&lock).expect("taken by the next");
    refused(set_mtime(&lock, 0), libc::EACCES);
    assert_eq!(tree.list("priv/lock"), ["storage"]);
}

#[test]
fn everybody_sees_that_a_lock_expired() {
    let (tree, lock) = tree_with_lock();
    assert_eq!(tree.list("priv/lock"), ["storage"]);
    tree.forward.by_seconds(121);
    refused(set_mtime(&lock, 0), libc::ENOENT);
    tree.drain();
    refused(fs::metadata(&lock), libc::ENOENT);
    assert!(tree.list("priv/lock").is_empty());
}

#[test]
fn renewal_starts_over() {
    let (tree, lock) = tree_with_lock();
    let now = tree.cfs.clock.unix();
    tree.forward.by_seconds(100);
    set_mtime(&lock, now + 5).expect("renewed");
    tree.forward.by_seconds(100);
    refused(set_mtime(&lock, 0), libc::EACCES);
    refused(set_mtime(&lock, now), libc::EACCES);
    set_mtime(&lock, now + 5).expect("renewed by the same time");
    tree.forward.by_seconds(121);
    refused(set_mtime(&lock, 0), libc::ENOENT);
}

#[test]
fn a_lock_stays_where_it_is() {
    let (tree, lock) = tree_with_lock();
    tree.mkdir("d");
    refused(fs::rename(&lock, tree.path("priv/lock/other")), libc::EACCES);
    refused(fs::rename(&lock, tree.path("d/lock")), libc::EACCES);
    fs::rename(tree.path("d"), tree.path("priv/lock/made")).expect("a directory may become one");
    assert_eq!(tree.list("priv/lock"), ["made", "storage"]);
}

#[test]
fn files_there_are_files() {
    let (tree, lock) = tree_with_lock();
    tree.write("priv/lock/file", "x");
    set_mtime(&tree.path("priv/lock/file"), 0).expect("no lock");
    tree.write("priv/lock/storage/inside", "x");
    refused(fs::remove_dir(&lock), libc::ENOTEMPTY);
    refused(set_mtime(&tree.path("priv/lock/missing"), 0), libc::ENOENT);
}

#[test]
fn ages_start_again_with_the_daemon() {
    let (tree, _) = tree_with_lock();
    tree.forward.by_seconds(1000);
    let tree = tree.reload();
    let lock = tree.path("priv/lock/storage");
    refused(set_mtime(&lock, 0), libc::EACCES);
    tree.forward.by_seconds(121);
    refused(set_mtime(&lock, 0), libc::ENOENT);
}
