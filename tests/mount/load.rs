//! Many threads at once: nobody gets lost, and in the end tree, database and disk agree.

use crate::fixture::Tree;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread;

/// A generator for test data: small, and the same from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Changes one file at random places, in the tree and in memory alike.
fn write_at_random(tree: &Tree, name: &str, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut expected = Vec::new();
    for _ in 0..20 {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(tree.path(name));
        let file = file.expect("open");
        for _ in 0..10 {
            let (at, length) = (random.below(30_000), random.below(9000));
            let data = vec![random.below(256) as u8; length];
            file.write_all_at(&data, at as u64).expect("write");
            if length > 0 {
                expected.resize(expected.len().max(at + length), 0);
                expected[at..at + length].copy_from_slice(&data);
            }
        }
        if random.below(4) == 0 {
            let size = random.below(30_000);
            file.set_len(size as u64).expect("truncate");
            expected.resize(size, 0);
        }
        let mut read = vec![0; expected.len()];
        file.read_exact_at(&mut read, 0).expect("read");
        assert!(read == expected, "{name}, seed {seed}");
    }
    expected
}

#[test]
fn writers_readers_and_listings_at_once() {
    let tree = Tree::new();
    tree.mkdir("d");
    tree.write("d/read", vec![b'r'; 50_000]);
    let written: Vec<(String, Vec<u8>)> = thread::scope(|scope| {
        let tree = &tree;
        let writer = |number: u64| {
            let name = format!("d/{number}");
            let content = write_at_random(tree, &name, number);
            (name, content)
        };
        let writers: Vec<_> = (0..4).map(|number| scope.spawn(move || writer(number))).collect();
        scope.spawn(|| {
            for round in 0..300 {
                assert!(tree.read("d/read") == vec![b'r'; 50_000], "round {round}");
            }
        });
        scope.spawn(|| {
            for round in 0..100 {
                tree.write("d/tmp", format!("{round}"));
                fs::rename(tree.path("d/tmp"), tree.path("d/moved")).expect("rename");
                fs::create_dir(tree.path("d/sub")).expect("mkdir");
                fs::remove_dir(tree.path("d/sub")).expect("rmdir");
            }
        });
        scope.spawn(|| {
            for _ in 0..200 {
                let names = tree.list("d");
                assert!(names.contains(&"read".to_owned()), "{names:?}");
            }
        });
        writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
    });
    for (name, content) in &written {
        assert!(tree.read(name) == *content, "{name}");
    }
    let tree = tree.reload();
    for (name, content) in &written {
        assert!(tree.read(name) == *content, "{name}, after a restart");
    }
    assert_eq!(tree.list("d"), ["0", "1", "2", "3", "moved", "read"]);
}

#[test]
fn appends_of_many_processes_are_all_there() {
    let tree = Tree::new();
    tree.write("log", "");
    thread::scope(|scope| {
        for writer in 0..4 {
            let tree = &tree;
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).open(tree.path("log")).expect("open");
                for line in 0..100 {
                    file.write_all(format!("{writer} {line:02}\n").as_bytes()).expect("append");
                }
            });
        }
    });
    let mut text = String::new();
    File::open(tree.path("log")).expect("open").read_to_string(&mut text).expect("read");
    for writer in 0..4 {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&writer.to_string())).collect();
        let expected: Vec<String> = (0..100).map(|line| format!("{writer} {line:02}")).collect();
        assert_eq!(lines, expected);
    }
    assert_eq!(text.lines().count(), 400);
}

#[test]
fn one_lock_of_many_who_want_it() {
    let tree = Tree::new();
    tree.mkdir("priv/lock");
    let holder = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut taken = 0;
                while taken < 25 {
                    if fs::create_dir(tree.path("priv/lock/x")).is_ok() {
                        let others = holder.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(others, 0, "two hold the lock");
                        holder.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        fs::remove_dir(tree.path("priv/lock/x")).expect("released");
                        taken += 1;
                    }
                }
            });
        }
    });
}

#[test]
fn large_directories_are_listed_and_removed() {
    let tree = Tree::new();
    tree.mkdir("d");
    for number in 0..3000 {
        let change = pmxcfs::memdb::Change::Create { path: format!("d/file-{number:05}").as_str().into() };
        tree.cfs.engine.submit_wait(change).expect("created");
    }
    let names = tree.list("d");
    assert_eq!((names.len(), names.first().map(String::as_str)), (3000, Some("file-00000")));
    let find = Command::new("find").arg(tree.path("d")).arg("-type").arg("f").output().expect("find");
    assert_eq!(find.stdout.iter().filter(|byte| **byte == b'\n').count(), 3000);
    // Removing while listing misses none.
    let mut left = 3000;
    for entry in fs::read_dir(tree.path("d")).expect("list") {
        fs::remove_file(entry.expect("entry").path()).expect("unlink");
        left -= 1;
    }
    assert_eq!(left, 0);
    fs::remove_dir(tree.path("d")).expect("empty");
}
