//! Changes that the kernel did not make are seen as soon as it was told, whatever it had cached.

use crate::fixture::{Stop, Tree};
use pmxcfs::memdb::{Change, TreePath};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};

fn create(path: &str) -> Change {
    Change::Create { path: TreePath::from(path) }
}

fn mkdir(path: &str) -> Change {
    Change::Mkdir { path: TreePath::from(path) }
}

fn delete(path: &str) -> Change {
    Change::Delete { path: TreePath::from(path) }
}

fn rename(from: &str, to: &str) -> Change {
    Change::Rename { from: TreePath::from(from), to: TreePath::from(to) }
}

fn truncate(path: &str, size: u64) -> Change {
    Change::Truncate { path: TreePath::from(path), size }
}

#[test]
fn names_that_appear() {
    let tree = Tree::new();
    tree.mkdir("d");
    assert!(tree.list("d").is_empty(), "listed, and cached");
    assert!(!tree.path("d/asked").exists(), "not there, and cached");
    tree.elsewhere(create("d/asked"));
    tree.elsewhere(create("d/unasked"));
    tree.elsewhere(mkdir("d/sub"));
    assert_eq!(tree.list("d"), ["asked", "sub", "unasked"]);
    assert!(
        tree.path("d/asked").is_file() && tree.path("d/unasked").is_file() && tree.path("d/sub").is_dir()
    );
    tree.elsewhere(create("top"));
    assert!(tree.list("").contains(&"top".to_owned()));
}

#[test]
fn names_that_vanish() {
    let tree = Tree::new();
    tree.mkdir("d/sub");
    tree.write("d/f", "x");
    assert_eq!(tree.list("d"), ["f", "sub"]);
    tree.elsewhere(delete("d/f"));
    tree.elsewhere(delete("d/sub"));
    assert!(tree.list("d").is_empty());
    assert!(!tree.path("d/f").exists() && !tree.path("d/sub").exists());
    // And what takes their place is something else.
    tree.write("d/sub", "a file now");
    assert_eq!(tree.read("d/sub"), b"a file now");
}

#[test]
fn names_that_move() {
    let tree = Tree::new();
    tree.mkdir("a");
    tree.mkdir("b");
    tree.write("a/f", "moved");
    tree.write("b/g", "replaced");
    assert_eq!((tree.read("a/f"), tree.read("b/g")), (b"moved".to_vec(), b"replaced".to_vec()));
    tree.elsewhere(rename("a/f", "b/g"));
    assert!(!tree.path("a/f").exists());
    assert_eq!((tree.read("b/g"), tree.list("a").len(), tree.list("b").len()), (b"moved".to_vec(), 0, 1));
}

#[test]
fn contents_and_sizes() {
    let tree = Tree::new();
    let path = tree.write("f", vec![b'a'; 10_000]);
    let open = File::open(&path).expect("open");
    let mut read = vec![0; 10_000];
    open.read_exact_at(&mut read, 0).expect("read");
    tree.write_elsewhere("f", 5000, b"same size");
    open.read_exact_at(&mut read, 0).expect("read");
    assert_eq!(&read[4999..5010], b"asame sizea");
    assert_eq!(&tree.read("f")[4999..5010], b"asame sizea");
    tree.write_elsewhere("f", 10_000, b"longer");
    assert_eq!(fs::metadata(&path).expect("stat").size(), 10_006);
    assert!(tree.read("f").ends_with(b"alonger"));
    let mut tail = [0; 6];
    open.read_exact_at(&mut tail, 10_000).expect("beyond the end that was");
    assert_eq!(&tail, b"longer");
    tree.elsewhere(truncate("f", 3));
    assert_eq!((tree.read("f"), open.metadata().expect("fstat").size()), (b"aaa".to_vec(), 3));
    assert_eq!(open.read_at(&mut tail, 3).expect("read"), 0);
    tree.elsewhere(truncate("f", 6));
    assert_eq!(tree.read("f"), b"aaa\0\0\0");
}

#[test]
fn times() {
    let tree = Tree::new();
    let path = tree.write("f", "x");
    assert_ne!(fs::metadata(&path).expect("stat").mtime(), 99);
    tree.elsewhere(Change::SetMtime { path: "f".into(), mtime: 99 });
    assert_eq!(fs::metadata(&path).expect("stat").mtime(), 99);
}

#[test]
fn descriptors_of_directories() {
    let tree = Tree::new();
    let dir = tree.mkdir("d");
    let open = File::open(&dir).expect("open");
    tree.elsewhere(create("d/new"));
    let relative = format!("/proc/self/fd/{}/new", std::os::fd::AsRawFd::as_raw_fd(&open));
    assert!(fs::metadata(relative).is_ok());
}

/// Makes a change while others look, tells the kernel, and waits until the others are done: one who
/// looks at the very moment in which the kernel takes new attributes over may still see old ones.
fn change_while_others(look: impl Fn() + Sync, change: impl FnOnce()) {
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for _ in 0..3 {
            scope.spawn(|| stop.until(&look));
        }
        change();
    });
}

/// Lookups that read the tree before a change, and are answered after the kernel was told, must not
/// be what it keeps.
#[test]
fn lookups_in_flight_are_not_kept() {
    let tree = Tree::new();
    tree.mkdir("d");
    let look = || {
        let _ = fs::metadata(tree.path("d/f"));
        let _ = fs::read_dir(tree.path("d")).map(Iterator::count);
    };
    for round in 1..150_u64 {
        change_while_others(look, || {
            tree.elsewhere(create("d/f"));
            tree.elsewhere(truncate("d/f", round));
        });
        assert_eq!(fs::metadata(tree.path("d/f")).expect("there").size(), round);
        assert_eq!(tree.list("d"), ["f"]);
        change_while_others(look, || tree.elsewhere(delete("d/f")));
        assert!(!tree.path("d/f").exists(), "round {round}");
        assert!(tree.list("d").is_empty(), "round {round}");
    }
}

#[test]
fn modes_under_load() {
    let tree = Tree::new();
    tree.mkdir("d");
    for number in 0..50 {
        tree.write(&format!("d/{number}"), "x");
    }
    let look = || {
        for number in 0..50 {
            let _ = fs::metadata(tree.path(&format!("d/{number}")));
        }
        let _ = fs::symlink_metadata(tree.path("local"));
    };
    for round in 0..40 {
        let quorate = round % 2 == 1;
        change_while_others(look, || tree.set_quorate(quorate));
        let (file, dir, link) = if quorate { (0o640, 0o755, 0o755) } else { (0o440, 0o555, 0o555) };
        let mode = |path: &str| fs::symlink_metadata(tree.path(path)).expect("stat").mode() & 0o7777;
        for number in 0..50 {
            assert_eq!(mode(&format!("d/{number}")), file, "round {round}");
        }
        assert_eq!((mode("d"), mode("local")), (dir, link), "round {round}");
    }
}

#[test]
fn a_reader_follows_a_growing_file() {
    let tree = Tree::new();
    let path = tree.write("log", "");
    let mut reader = File::open(&path).expect("open");
    for round in 0..100_u64 {
        tree.write_elsewhere("log", round * 10, format!("line {round:04}\n").as_bytes());
        let mut line = String::new();
        reader.read_to_string(&mut line).expect("read");
        assert_eq!(line, format!("line {round:04}\n"));
    }
}
