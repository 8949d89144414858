//! Random operations on the tree and on a plain directory, which must agree: in results, in errnos, in
//! what open files read, and in what is there afterwards. A third of the changes are made behind the
//! kernel's back, as when they come from another node.
//!
//! `MOUNT_SEED=n cargo test --test mount differential` runs one seed again.

use crate::fixture::Tree;
use pmxcfs::memdb::{Change, TreePath, WriteAt};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Few paths, so that operations meet.
const PATHS: [&str; 12] = ["a", "b", "f", "g", "a/c", "a/f", "a/g", "b/c", "b/f", "a/c/f", "a/c/g", "b/c/f"];
const STEPS: usize = 400;
const SEEDS: std::ops::Range<u64> = 0..8;
const OPEN_MAX: usize = 5;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn path(&mut self) -> &'static str {
        PATHS[self.below(PATHS.len())]
    }

    fn data(&mut self) -> Vec<u8> {
        let length = [0, 1, 10, 100, 4096, 5000, 9000][self.below(7)];
        vec![b'a' + self.below(26) as u8; length]
    }
}

/// One file, open on both sides.
struct Pair {
    ours: File,
    plain: File,
    is_append: bool,
    removed: Option<Removal>,
}

/// By whom a file was removed. What is removed here is used on as in any directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removal {
    Here,
    Elsewhere,
}

impl Pair {
    fn note(&mut self, removal: Removal) {
        if self.removed.is_none() && self.plain.metadata().expect("fstat").nlink() == 0 {
            self.removed = Some(removal);
        }
    }
}

struct World {
    tree: Tree,
    plain: tempfile::TempDir,
    open: Vec<Pair>,
    random: Random,
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: io::Result<T>, plain: io::Result<T>) {
    let errno = |error: io::Error| error.raw_os_error();
    assert_eq!(ours.map_err(errno), plain.map_err(errno), "{what}: ours, then that of a plain directory");
}

impl World {
    fn new(seed: u64) -> Self {
        let plain = tempfile::tempdir().expect("directory");
        Self { tree: Tree::new(), plain, open: Vec::new(), random: Random(seed) }
    }

    fn both(&self, path: &str) -> (PathBuf, PathBuf) {
        (self.tree.path(path), self.plain.path().join(path))
    }

    fn step(&mut self) {
        let path = self.random.path();
        let elsewhere = self.random.below(3) == 0;
        match self.random.below(12) {
            0 => self.make_dir(path, elsewhere),
            1 | 2 => self.write(path, elsewhere),
            3 => self.remove(path, elsewhere),
            4 | 5 => self.rename(path, elsewhere),
            6 => self.truncate(path, elsewhere),
            7 => self.append(path, elsewhere),
            8 => self.open(path),
            9 => self.write_open(),
            10 => self.truncate_open(),
            _ => self.close(),
        }
        for pair in &mut self.open {
            pair.note(if elsewhere { Removal::Elsewhere } else { Removal::Here });
            check_open(pair);
        }
    }

    fn make_dir(&mut self, path: &str, elsewhere: bool) {
        let (ours, plain) = self.both(path);
        if !elsewhere {
            return same(&format!("mkdir {path}"), fs::create_dir(ours), fs::create_dir(plain));
        }
        if fs::create_dir(plain).is_ok() {
            self.tree.elsewhere(Change::Mkdir { path: TreePath::from(path) });
        }
    }

    fn write(&mut self, path: &str, elsewhere: bool) {
        let (data, offset) = (self.random.data(), self.random.below(3) * 3000);
        let (ours, plain) = self.both(path);
        let write = |path: &Path| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).open(path)?;
            file.write_all_at(&data, offset as u64)
        };
        if !elsewhere {
            return same(&format!("write {path}"), write(&ours), write(&plain));
        }
        let is_new = !plain.exists();
        if write(&plain).is_err() {
            return;
        }
        if is_new {
            self.tree.elsewhere(Change::Create { path: TreePath::from(path) });
        }
        if !data.is_empty() {
            self.tree.write_elsewhere(path, offset as u64, &data);
        }
    }

    fn append(&mut self, path: &str, elsewhere: bool) {
        let data = self.random.data();
        let (ours, plain) = self.both(path);
        let append = |path: &Path| OpenOptions::new().append(true).open(path)?.write_all(&data);
        if !elsewhere {
            return same(&format!("append {path}"), append(&ours), append(&plain));
        }
        if append(&plain).is_ok() && !data.is_empty() {
            self.tree.elsewhere(Change::Write { path: TreePath::from(path), at: WriteAt::End, data });
        }
    }

    fn remove(&mut self, path: &str, elsewhere: bool) {
        let (ours, plain) = self.both(path);
        let is_dir = plain.is_dir();
        let remove = |path: &Path| if is_dir { fs::remove_dir(path) } else { fs::remove_file(path) };
        if !elsewhere {
            return same(&format!("remove {path}"), remove(&ours), remove(&plain));
        }
        if remove(&plain).is_ok() {
            self.tree.elsewhere(Change::Delete { path: TreePath::from(path) });
        }
    }

    fn rename(&mut self, from: &'static str, elsewhere: bool) {
        let to = self.random.path();
        let ((from_ours, from_plain), (to_ours, to_plain)) = (self.both(from), self.both(to));
        let is_full = fs::read_dir(&from_plain).is_ok_and(|mut entries| entries.next().is_some());
        if is_full && from != to {
            // Only empty directories move.
            assert!(fs::rename(from_ours, to_ours).is_err(), "rename {from} {to}");
        } else if !elsewhere {
            let what = format!("rename {from} {to}");
            same(&what, fs::rename(from_ours, to_ours), fs::rename(from_plain, to_plain));
        } else if from != to && fs::rename(from_plain, to_plain).is_ok() {
            self.tree.elsewhere(Change::Rename { from: TreePath::from(from), to: TreePath::from(to) });
        }
    }

    fn truncate(&mut self, path: &str, elsewhere: bool) {
        let size = self.random.below(3) as u64 * 2500;
        let (ours, plain) = self.both(path);
        let truncate = |path: &Path| nix::unistd::truncate(path, size as i64).map_err(io::Error::from);
        if !elsewhere {
            return same(&format!("truncate {path}"), truncate(&ours), truncate(&plain));
        }
        if truncate(&plain).is_ok() {
            self.tree.elsewhere(Change::Truncate { path: TreePath::from(path), size });
        }
    }

    fn open(&mut self, path: &str) {
        let is_append = self.random.below(3) == 0;
        let (ours, plain) = self.both(path);
        let open = |path: &Path| OpenOptions::new().read(true).write(true).append(is_append).open(path);
        let (ours, plain) = (open(&ours), open(&plain));
        let errno = |result: &io::Result<File>| result.as_ref().err().and_then(io::Error::raw_os_error);
        assert_eq!(errno(&ours), errno(&plain), "open {path}");
        if let (Ok(ours), Ok(plain)) = (ours, plain) {
            self.open.push(Pair { ours, plain, is_append, removed: None });
            if self.open.len() > OPEN_MAX {
                self.open.remove(0);
            }
        }
    }

    fn any_open(&mut self) -> Option<usize> {
        if self.open.is_empty() { None } else { Some(self.random.below(self.open.len())) }
    }

    fn write_open(&mut self) {
        let (data, offset) = (self.random.data(), self.random.below(3) as u64 * 3000);
        let Some(pair) = self.any_open().map(|index| &self.open[index]) else { return };
        if pair.removed == Some(Removal::Elsewhere) {
            let result = pair.ours.write_at(b"x", offset).map_err(|error| error.raw_os_error());
            assert_eq!(result, Err(Some(libc::ENOENT)));
            return;
        }
        let write = |mut file: &File| match pair.is_append {
            true => file.write_all(&data),
            false => file.write_all_at(&data, offset),
        };
        same("write of an open file", write(&pair.ours), write(&pair.plain));
        self.tree.drain();
    }

    fn truncate_open(&mut self) {
        let size = self.random.below(3) as u64 * 2500;
        let Some(pair) = self.any_open().map(|index| &self.open[index]) else { return };
        if pair.removed != Some(Removal::Elsewhere) {
            same("truncate of an open file", pair.ours.set_len(size), pair.plain.set_len(size));
        }
    }

    fn close(&mut self) {
        if let Some(index) = self.any_open() {
            self.open.remove(index);
        }
    }

    fn check(&self) {
        check_dir(&self.tree.root(), self.plain.path(), true);
    }
}

fn check_open(pair: &Pair) {
    let (ours, plain) = (pair.ours.metadata().expect("fstat"), pair.plain.metadata().expect("fstat"));
    assert_eq!((ours.size(), ours.nlink()), (plain.size(), plain.nlink()), "of an open file");
    let read = |file: &File, size: u64| {
        let mut data = vec![0; size as usize + 10];
        let length = file.read_at(&mut data, 0).expect("read");
        data.truncate(length);
        data
    };
    assert!(read(&pair.ours, ours.size()) == read(&pair.plain, plain.size()), "contents of an open file");
}

fn check_dir(ours: &Path, plain: &Path, is_root: bool) {
    let names = |path: &Path| {
        let entries = fs::read_dir(path).expect("list");
        let names = entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"));
        let mut names: Vec<String> = names.filter(|name| !is_root || name.len() == 1).collect();
        names.sort();
        names
    };
    assert_eq!(names(ours), names(plain), "names in {}", plain.display());
    for name in names(plain) {
        let (ours, plain) = (ours.join(&name), plain.join(&name));
        let (stat, expected) = (fs::metadata(&ours).expect("stat"), fs::metadata(&plain).expect("stat"));
        assert_eq!(stat.is_dir(), expected.is_dir(), "{}", plain.display());
        if stat.is_dir() {
            check_dir(&ours, &plain, false);
        } else {
            assert_eq!(stat.size(), expected.size(), "{}", plain.display());
            assert!(fs::read(&ours).expect("read") == fs::read(&plain).expect("read"), "{}", plain.display());
        }
    }
}

#[test]
fn as_a_plain_directory() {
    let chosen = std::env::var("MOUNT_SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in chosen.map_or(SEEDS, |seed| seed..seed + 1) {
        println!("MOUNT_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            world.check();
        }
        world.open.clear();
        let World { tree, plain, .. } = world;
        let tree = tree.reload();
        check_dir(&tree.root(), plain.path(), true);
    }
}
