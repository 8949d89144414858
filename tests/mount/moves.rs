//! Renames that succeed: what is replaced, what keeps its number, how modes follow; and that those
//! which fail leave a database that can be loaded.

use crate::fixture::{Stop, Tree, refused};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_file_keeps_its_number_and_contents() {
    let tree = Tree::new();
    tree.mkdir("d");
    let from = tree.write("f", "text");
    let inode = fs::metadata(&from).expect("stat").ino();
    let to = tree.path("d/g");
    fs::rename(&from, &to).expect("rename");
    refused(fs::metadata(&from), libc::ENOENT);
    assert_eq!(fs::metadata(&to).expect("stat").ino(), inode);
    assert_eq!(tree.read("d/g"), b"text");
    assert_eq!((tree.list("d"), tree.list("").contains(&"f".to_owned())), (vec!["g".to_owned()], false));
    assert_eq!(tree.reload().read("d/g"), b"text");
}

#[test]
fn a_file_replaces_a_file_and_a_directory_an_empty_one() {
    let tree = Tree::new();
    tree.write("old", "old");
    tree.write("new", "new");
    fs::rename(tree.path("new"), tree.path("old")).expect("rename");
    assert_eq!(tree.read("old"), b"new");
    refused(fs::metadata(tree.path("new")), libc::ENOENT);
    tree.mkdir("a");
    tree.mkdir("b");
    fs::rename(tree.path("a"), tree.path("b")).expect("rename");
    tree.write("b/f", "f");
    refused(fs::metadata(tree.path("a")), libc::ENOENT);
}

#[test]
fn modes_follow_the_path_at_once() {
    let tree = Tree::new();
    tree.mkdir("priv");
    tree.mkdir("d");
    let mode = |path: &str| fs::metadata(tree.path(path)).expect("stat").mode() & 0o7777;
    for round in 0..50 {
        tree.write("d/f", "x");
        let open = File::open(tree.path("d/f")).expect("open");
        assert_eq!(mode("d/f"), 0o640);
        fs::rename(tree.path("d/f"), tree.path("priv/f")).expect("rename");
        assert_eq!(open.metadata().expect("fstat").mode() & 0o7777, 0o600, "round {round}");
        assert_eq!(mode("priv/f"), 0o600);
        fs::rename(tree.path("priv/f"), tree.path("d/1.mount")).expect("rename");
        assert_eq!(mode("d/1.mount"), 0o740);
        fs::remove_file(tree.path("d/1.mount")).expect("unlink");
    }
    tree.mkdir("d/sub");
    fs::rename(tree.path("d/sub"), tree.path("priv/sub")).expect("rename");
    assert_eq!(mode("priv/sub"), 0o700);
}

#[test]
fn renaming_stamps_the_time() {
    let tree = Tree::new();
    let path = tree.write("f", "x");
    let times = fs::FileTimes::new();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("open");
    file.set_times(times.set_accessed(old).set_modified(old)).expect("utimens");
    drop(file);
    assert_eq!(fs::metadata(&path).expect("stat").mtime(), 1000);
    let now = i64::from(tree.cfs.clock.unix());
    fs::rename(&path, tree.path("g")).expect("rename");
    assert!(fs::metadata(tree.path("g")).expect("stat").mtime() >= now);
}

/// Stock takes the target out of memory before it finds that the source cannot move; the row stays, and
/// with the next entry of that name the database cannot be loaded again.
#[test]
fn a_full_directory_over_an_existing_one_changes_nothing() {
    let tree = Tree::new();
    tree.mkdir("source/inside");
    tree.mkdir("target");
    let before = tree.cfs.engine.read().checksum();
    for _ in 0..3 {
        refused(fs::rename(tree.path("source"), tree.path("target")), libc::ENOTEMPTY);
        refused(fs::rename(tree.path("target"), tree.path("source")), libc::ENOTEMPTY);
    }
    assert_eq!(tree.cfs.engine.read().checksum(), before);
    refused(fs::create_dir(tree.path("target")), libc::EEXIST);
    tree.write("target/f", "x");
    let tree = tree.reload();
    assert_eq!((tree.list("source"), tree.list("target")), (vec!["inside".to_owned()], vec!["f".to_owned()]));
}

#[test]
fn replacing_by_rename_is_atomic_for_readers() {
    let tree = Tree::new();
    let texts = [vec![b'a'; 9000], vec![b'b'; 5000]];
    let path = tree.write("f", &texts[0]);
    let stop = Stop::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = stop.at_end();
            for round in 0..200 {
                tree.write("f.tmp", &texts[round % 2]);
                fs::rename(tree.path("f.tmp"), &path).expect("rename");
            }
        });
        stop.until(|| {
            let mut read = Vec::new();
            File::open(&path).expect("always there").read_to_end(&mut read).expect("read");
            assert!(texts.contains(&read), "{} bytes of neither", read.len());
        });
    });
}
