//! Listings of directories that change meanwhile. A name that exists throughout a listing is listed exactly
//! once, no name is listed twice, and a position has the same meaning in every handle.
//!
//! `LISTING_SEED=n cargo test --test mount listings` repeats one seed.

use crate::fixture::{Stop, Tree};
use pmxcfs::memdb::{Change, TreePath};
use rustix::fs::RawDir;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::thread;

/// Rounds of the random test, each with its seed.
const SEEDS: std::ops::Range<u64> = 0..200;
/// Buffer for one entry with a short name, in bytes: 24, plus alignment.
const ONE_ENTRY: usize = 40;
/// Buffer for 4,096 such entries, in bytes.
const MANY_ENTRIES: usize = 4096 * 32;

/// An open directory, read with system calls of a chosen size.
struct Listing {
    dir: File,
    buffer: Vec<u8>,
}

/// A listed name, and the position after it.
type Line = (String, u64);

impl Listing {
    fn open(path: &Path, buffer: usize) -> Self {
        Self { dir: File::open(path).expect("a directory"), buffer: Vec::with_capacity(buffer) }
    }

    /// Lines of the next system call that returns any but the two dots; empty at the end.
    fn next(&mut self) -> Vec<Line> {
        loop {
            let mut lines = Vec::new();
            let mut raw = RawDir::new(&self.dir, self.buffer.spare_capacity_mut());
            while let Some(entry) = raw.next() {
                let entry = entry.expect("listed");
                lines
                    .push((entry.file_name().to_str().expect("UTF-8").to_owned(), entry.next_entry_cookie()));
                if raw.is_buffer_empty() {
                    break;
                }
            }
            let is_end = lines.is_empty();
            lines.retain(|(name, _)| name != "." && name != "..");
            if is_end || !lines.is_empty() {
                return lines;
            }
        }
    }

    fn at_least(&mut self, count: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let more = self.next();
            assert!(!more.is_empty(), "the end came early");
            lines.extend(more);
        }
        lines
    }

    fn rest(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            let more = self.next();
            if more.is_empty() {
                return lines;
            }
            lines.extend(more);
        }
    }

    fn position(&self) -> u64 {
        (&self.dir).stream_position().expect("a position")
    }

    fn seek(&self, position: u64) {
        (&self.dir).seek(SeekFrom::Start(position)).expect("sought");
    }
}

/// The sorted names, without duplicates.
#[track_caller]
fn names(lines: &[Line]) -> BTreeSet<String> {
    let names: BTreeSet<String> = lines.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), lines.len(), "listed twice");
    names
}

fn fill(tree: &Tree, dir: &str, count: usize) {
    tree.mkdir(dir);
    for number in 0..count {
        tree.change(create(&format!("{dir}/{number:04}")));
    }
}

fn create(path: &str) -> Change {
    Change::Create { path: TreePath::from(path) }
}

fn delete(path: &str) -> Change {
    Change::Delete { path: TreePath::from(path) }
}

#[test]
fn listing_with_removals_meanwhile_keeps_the_rest() {
    for buffer in [ONE_ENTRY, 500, 5000, MANY_ENTRIES / 8] {
        let tree = Tree::new();
        fill(&tree, "d", 1900);
        let mut slow = Listing::open(&tree.path("d"), buffer);
        let mut lines = slow.at_least(300);
        let mut left = BTreeSet::new();
        for number in 0..1900 {
            let name = format!("{number:04}");
            if number % 9 == 4 {
                fs::remove_file(tree.path("d").join(name)).expect("removed");
            } else {
                left.insert(name);
            }
        }
        assert_eq!(names(&Listing::open(&tree.path("d"), MANY_ENTRIES).rest()), left);
        lines.extend(slow.rest());
        let missing: Vec<_> = left.difference(&names(&lines)).cloned().collect();
        assert!(missing.is_empty(), "{} missing with {buffer} bytes: {missing:?}", missing.len());
    }
}

#[test]
fn removal_while_listing_leaves_nothing() {
    let tree = Tree::new();
    fill(&tree, "d", 3000);
    let path = tree.path("d");
    let mut listing = Listing::open(&path, 4096);
    for round in 0.. {
        let lines = listing.next();
        if lines.is_empty() {
            break;
        }
        for (name, _) in lines {
            fs::remove_file(path.join(name)).expect("removed");
        }
        if round % 7 == 0 {
            Listing::open(&path, 32_768).rest();
        }
    }
    assert_eq!(tree.list("d").len(), 0);
    fs::remove_dir(&path).expect("empty");
}

/// A kernel that caches listings may mix parts of several ones: lines from before a creation must not appear
/// in a listing that begins afterwards.
#[test]
fn listing_after_a_creation_has_the_name() {
    for elsewhere in [false, true] {
        let tree = Tree::new();
        fill(&tree, "d", 600);
        let path = tree.path("d");
        let mut early = Listing::open(&path, 5000);
        early.at_least(400);
        for number in 0..50 {
            let name = format!("d/{:04}x", number * 12);
            if elsewhere {
                tree.elsewhere(create(&name));
            } else {
                tree.write(&name, "");
            }
        }
        let mut late = Listing::open(&path, 400);
        let mut lines = late.at_least(5);
        early.rest();
        lines.extend(late.rest());
        assert_eq!(names(&lines).len(), 650, "elsewhere: {elsewhere}");
    }
}

#[test]
fn position_means_the_same_in_every_handle() {
    let tree = Tree::new();
    fill(&tree, "d", 500);
    let path = tree.path("d");
    let lines = Listing::open(&path, 5000).rest();
    for number in (0..500).step_by(3) {
        fs::remove_file(path.join(format!("{number:04}"))).expect("removed");
    }
    let left: BTreeSet<String> = tree.list("d").into_iter().collect();
    for index in [0, 1, 7, 250, 498, 499] {
        // This handle never read from the start.
        let mut other = Listing::open(&path, 300);
        other.seek(lines[index].1);
        let behind: BTreeSet<String> = lines[index + 1..].iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names(&other.rest()), behind.intersection(&left).cloned().collect(), "behind {index}");
        other.seek(0);
        assert_eq!(names(&other.rest()), left);
    }
}

/// Generator of test data: small, and reproducible from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// A handle in the random test.
struct Reader {
    listing: Listing,
    /// Names that exist since the handle last read from the start.
    lasting: BTreeSet<String>,
    /// Position at which this pass began.
    from: u64,
    listed: BTreeSet<String>,
}

/// A directory with its entries and readers.
struct World {
    /// Declared first: closed before the tree is unmounted.
    readers: Vec<Reader>,
    tree: Tree,
    random: Random,
    present: BTreeSet<String>,
    /// The position after each name that was ever listed.
    positions: BTreeMap<String, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        for _ in 0..5 {
            random.below(2);
        }
        let tree = Tree::new();
        let count = [0, 3, 30, 130, 400][random.below(5)];
        fill(&tree, "d", count);
        let present = (0..count).map(|number| format!("{number:04}")).collect();
        Self { tree, random, present, readers: Vec::new(), positions: BTreeMap::new() }
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0 => self.open(),
            1 => {
                if let Some(index) = self.pick() {
                    self.readers.swap_remove(index);
                }
            }
            2 | 3 => self.change(),
            4 => self.seek(),
            _ => self.read(),
        }
    }

    fn pick(&mut self) -> Option<usize> {
        if self.readers.is_empty() { None } else { Some(self.random.below(self.readers.len())) }
    }

    fn open(&mut self) {
        let buffer = [ONE_ENTRY, 100, 1000, 4096, 32_768, MANY_ENTRIES][self.random.below(6)];
        let listing = Listing::open(&self.tree.path("d"), buffer);
        let (lasting, listed) = (self.present.clone(), BTreeSet::new());
        self.readers.push(Reader { listing, lasting, from: 0, listed });
    }

    /// Seeks to the start, or to a position that any handle has seen.
    fn seek(&mut self) {
        let Some(index) = self.pick() else { return };
        let known: Vec<u64> = self.positions.values().copied().collect();
        let from = if known.is_empty() { 0 } else { known[self.random.below(known.len())] };
        let from = if self.random.below(3) == 0 { 0 } else { from };
        let reader = &mut self.readers[index];
        reader.listing.seek(from);
        reader.from = from;
        reader.listed.clear();
    }

    fn read(&mut self) {
        let Some(index) = self.pick() else { return };
        let reader = &mut self.readers[index];
        if reader.listing.position() == 0 {
            reader.lasting.clone_from(&self.present);
        }
        let lines = reader.listing.next();
        for (name, position) in &lines {
            let before = self.positions.insert(name.clone(), *position);
            assert!(before.is_none_or(|before| before == *position), "{name} moved to {position}");
            assert!(*position > reader.from, "{name} at {position} is not behind {}", reader.from);
            assert!(reader.listed.insert(name.clone()), "{name} is listed twice");
        }
        if lines.is_empty() {
            for name in &reader.lasting {
                let is_due = self.positions.get(name).is_some_and(|position| *position > reader.from);
                // The position of a name that was never listed is unknown, but after the start.
                let is_due = is_due || reader.from == 0;
                assert!(!is_due || reader.listed.contains(name), "{name} is not listed");
            }
        }
    }

    /// Creates, removes, or replaces a file, through this mount or as another node.
    fn change(&mut self) {
        let name = format!("{:04}", self.random.below(500));
        let (path, temporary) = (format!("d/{name}"), format!("d/{name}.tmp"));
        let elsewhere = self.random.below(2) == 0;
        if self.random.below(3) == 0 {
            self.make(&temporary, elsewhere);
            let elsewhere = self.random.below(2) == 0;
            self.replace(&temporary, &path, elsewhere);
            self.present.insert(name);
        } else if self.present.remove(&name) {
            for reader in &mut self.readers {
                reader.lasting.remove(&name);
            }
            if elsewhere {
                self.tree.elsewhere(delete(&path));
            } else {
                fs::remove_file(self.tree.path(&path)).expect("removed");
            }
        } else {
            self.make(&path, elsewhere);
            self.present.insert(name);
        }
    }

    fn make(&self, path: &str, elsewhere: bool) {
        if elsewhere {
            self.tree.elsewhere(create(path));
        } else {
            self.tree.write(path, "");
        }
    }

    fn replace(&self, from: &str, to: &str, elsewhere: bool) {
        if elsewhere {
            self.tree.elsewhere(Change::Rename { from: TreePath::from(from), to: TreePath::from(to) });
        } else {
            fs::rename(self.tree.path(from), self.tree.path(to)).expect("renamed");
        }
    }
}

#[test]
fn random_listings_have_each_lasting_name_once() {
    let chosen = std::env::var("LISTING_SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in chosen.map_or(SEEDS, |seed| seed..seed + 1) {
        let run = move || {
            let mut world = World::new(seed);
            for _ in 0..150 {
                world.step();
            }
            assert_eq!(names(&Listing::open(&world.tree.path("d"), 4096).rest()), world.present);
        };
        assert!(thread::spawn(run).join().is_ok(), "seed {seed}");
    }
}

/// The same with many threads: some names stay, and are replaced repeatedly; others come and go.
#[test]
fn listings_among_threads_have_each_lasting_name_once() {
    let tree = Tree::new();
    fill(&tree, "d", 300);
    let lasting: BTreeSet<String> = (0..300).map(|number| format!("{number:04}")).collect();
    let stop = Stop::default();
    thread::scope(|scope| {
        let (tree, stop, lasting) = (&tree, &stop, &lasting);
        let _end = stop.at_end();
        for writer in 0..2_u64 {
            let mut random = Random(writer);
            scope.spawn(move || {
                stop.until(|| {
                    let name = format!("d/{:04}", random.below(300));
                    let temporary = format!("{name}.tmp.{writer}");
                    tree.write(&temporary, "");
                    fs::rename(tree.path(&temporary), tree.path(&name)).expect("renamed");
                });
            });
        }
        let mut random = Random(7);
        scope.spawn(move || {
            stop.until(|| {
                let (name, temporary) = (format!("d/{:04}", random.below(300)), "d/elsewhere.tmp");
                tree.change(create(temporary));
                let (from, to) = (TreePath::from(temporary), TreePath::from(name.as_str()));
                tree.change(Change::Rename { from, to });
            });
        });
        let readers: Vec<_> = [ONE_ENTRY, 700, 4096, MANY_ENTRIES]
            .map(|buffer| {
                scope.spawn(move || {
                    for _ in 0..60 {
                        let lines = Listing::open(&tree.path("d"), buffer).rest();
                        let missing: Vec<_> = lasting.difference(&names(&lines)).cloned().collect();
                        assert!(missing.is_empty(), "missing with {buffer} bytes: {missing:?}");
                    }
                })
            })
            .into();
        readers.into_iter().for_each(|reader| reader.join().expect("each listing had all"));
    });
}
