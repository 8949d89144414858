//! The tree against a naive model: random lists of changes go to both, and after each step both must
//! have the same answer, the same entries, guests and counters. The reported invalidations must
//! cover every difference, what goes to the disk must be the tree, and what a reader holds must stay.
//!
//! A failure prints its seed and a list of steps none of which can be left out. To run one seed again:
//! `MEMDB_MODEL_SEED=N cargo test --test memdb_model`; to run more: `MEMDB_MODEL_SEEDS=N`.

#[path = "model/steps.rs"]
mod steps;
#[path = "model/tree.rs"]
mod tree;

use pmxcfs::errno::ToErrno;
use pmxcfs::memdb::{
    Applied, Batch, ByteRange, Change, Entry, Inode, Invalidation, Limits, MemDb, Name, Row, Stamp,
    is_openvz_script,
};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;
use steps::{Step, steps};
use tree::{Item, Model};

const SEEDS: u64 = 1500;

/// A tree, its model, and a disk.
struct Run {
    db: MemDb,
    model: Model,
    now: u64,
    table: BTreeMap<Inode, Row>,
    /// A batch on its way to the disk, and the rows of the tree when it was taken.
    in_flight: Option<(Batch, Vec<Row>)>,
    held: Vec<(Arc<Vec<u8>>, Vec<u8>)>,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn run(steps: &[Step]) -> Result<(), String> {
    let caught = catch_unwind(|| run_unguarded(steps));
    caught.unwrap_or_else(|_| Err("panicked".into()))
}

fn run_unguarded(steps: &[Step]) -> Result<(), String> {
    let mut run = Run {
        db: MemDb::new(),
        model: Model::new(),
        now: 1000,
        table: BTreeMap::new(),
        in_flight: None,
        held: Vec::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        run.step(step.clone()).map_err(|what| format!("step {number}, {step:?}: {what}"))?;
    }
    run.finish().map_err(|what| format!("in the end: {what}"))
}

impl Run {
    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Apply { change, stamp, right_lock } => self.apply(change, stamp, right_lock)?,
            Step::AskExpiry { path } => {
                let entry = self.db.resolve(path.as_bytes()).map(|entry| entry.inode);
                let checksum = entry.and_then(|inode| self.db.entry_checksum(inode)).unwrap_or_default();
                let real = self.db.lock_expired(&path, &checksum, Duration::from_secs(self.now));
                let model = self.model.lock_expired(path.as_bytes(), self.now);
                ensure(real == model, || format!("expired: {real}, not {model}"))?;
                let other = self.db.lock_expired(&path, &[7; 32], Duration::from_secs(self.now));
                ensure(!other, || "expired with another checksum".into())?;
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Take => self.take(),
            Step::Commit => self.commit()?,
            Step::Fail => {
                if let Some((batch, _)) = self.in_flight.take() {
                    self.db.put_back(batch);
                }
            }
            Step::Hold { path } => {
                let content = self.db.resolve(path.as_bytes()).and_then(Entry::content);
                self.held.extend(content.map(|content| (Arc::clone(content), content.to_vec())));
            }
            Step::Index => drop(self.db.index()),
        }
        self.compare()
    }

    fn apply(&mut self, mut change: Change, stamp: Stamp, right_lock: bool) -> Result<(), String> {
        if let Change::Unlock { path, checksum } = &mut change {
            let inode = self.db.resolve(path.as_bytes()).map(|entry| entry.inode);
            if let (true, Some(right)) = (right_lock, inode.and_then(|inode| self.db.entry_checksum(inode))) {
                *checksum = right;
            }
        }
        let before = Seen::of(&self.db);
        let expected = self.model.apply(&change, stamp, self.now, right_lock);
        let real = self.db.apply(change, stamp, Limits::Enforced, Duration::from_secs(self.now));
        match (&real, expected) {
            (Ok(applied), Ok(())) => before.check_invalidated(&Seen::of(&self.db), applied),
            (Err(error), Err(errno)) => {
                ensure(error.to_errno() == errno, || format!("refused: {error}, not with errno {errno}"))
            }
            _ => Err(format!("gave {real:?}, not {expected:?}")),
        }
    }

    fn take(&mut self) {
        if self.in_flight.is_none() {
            self.in_flight = self.db.take_batch().map(|batch| (batch, self.db.snapshot_rows().collect()));
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let Some((batch, rows)) = self.in_flight.take() else { return Ok(()) };
        for inode in &batch.deleted {
            self.table.remove(inode);
        }
        self.table.extend(batch.rows.into_iter().map(|row| (row.inode, row)));
        ensure(self.table[&0].version == batch.version, || "a batch of another version".into())?;
        ensure(self.table.values().eq(&rows), || format!("on disk is {:?}, not {rows:?}", self.table))
    }

    /// The real tree must be the model.
    fn compare(&self) -> Result<(), String> {
        let Self { db, model, .. } = self;
        db.verify()?;
        let root = db.root();
        let stamps = (root.version, root.writer, root.mtime);
        ensure(stamps == (model.version, model.writer, model.mtime), || format!("the root has {stamps:?}"))?;
        let items: BTreeMap<_, _> = db.all_entries().skip(1).map(|entry| item_of(db, entry)).collect();
        ensure(items == model.items, || format!("the tree is {items:?}, not {:?}", model.items))?;

        let guests = db.guests().iter();
        let guests =
            guests.map(|(vmid, g)| (vmid, (g.kind.as_str().to_owned(), g.node.to_string(), g.version)));
        let guests: BTreeMap<_, _> = guests.collect();
        ensure(guests == model.guests, || format!("guests are {guests:?}, not {:?}", model.guests))?;
        let count = db.guests().version();
        ensure(count == model.guest_changes, || {
            format!("{count} guest changes, not {}", model.guest_changes)
        })?;
        for (path, version) in db.versions().iter() {
            let expected = 1 + model.changes.get(path.as_bytes()).copied().unwrap_or(0);
            ensure(version == expected, || format!("{path} counts {version}, not {expected}"))?;
        }
        let bytes: usize = model.items.values().filter_map(|item| item.content.as_ref().map(Vec::len)).sum();
        let usage = (bytes.div_ceil(4096) as u64, model.items.len() as u64 + 1);
        let real = db.usage();
        ensure((real.blocks, real.entries) == usage, || format!("{real:?}, not {usage:?}"))
    }

    /// All goes to the disk, and comes back as it was.
    fn finish(mut self) -> Result<(), String> {
        self.commit()?;
        self.take();
        self.commit()?;
        ensure(self.db.take_batch().is_none(), || "still dirty".into())?;
        let mut loaded =
            MemDb::load(self.table.into_values(), Duration::ZERO).map_err(|err| err.to_string())?;
        loaded.verify()?;
        ensure(loaded.is_clean(), || "dirty after load".into())?;
        ensure(loaded.all_entries().eq(self.db.all_entries()), || "another tree was loaded".into())?;
        ensure(loaded.index() == self.db.index(), || "another index after load".into())?;
        ensure(loaded.checksum() == self.db.checksum(), || "another checksum after load".into())?;
        for (content, expected) in self.held {
            ensure(*content == expected, || "contents changed under a reader".into())?;
        }
        Ok(())
    }
}

fn item_of(db: &MemDb, entry: &Entry) -> (tree::Path, Item) {
    let Entry { inode, version, writer, mtime, .. } = *entry;
    let path = db.path_of(inode).map(|path| path.as_bytes().to_vec()).unwrap_or_default();
    (path, Item { inode, version, writer, mtime, content: entry.content().map(|content| content.to_vec()) })
}

/// Everything that a cache above the tree may hold.
struct Seen {
    names: BTreeMap<(Inode, Name), Inode>,
    inodes: BTreeMap<Inode, SeenInode>,
}

struct SeenInode {
    content: Option<Arc<Vec<u8>>>,
    mtime: u32,
    /// What the mode depends on.
    private: bool,
    script: bool,
}

impl Seen {
    fn of(db: &MemDb) -> Self {
        let entries = || db.all_entries().skip(1);
        let names = entries().map(|entry| ((entry.parent, entry.name.clone()), entry.inode)).collect();
        let inodes = entries().map(|entry| {
            let private = db.path_of(entry.inode).is_some_and(|path| path.is_private());
            // A copy, so that the tree may still change its own in place.
            let content = entry.content().map(|content| Arc::new(content.to_vec()));
            let script = is_openvz_script(&entry.name);
            (entry.inode, SeenInode { content, mtime: entry.mtime, private, script })
        });
        Self { names, inodes: inodes.collect() }
    }

    /// The invalidations must cover every difference.
    fn check_invalidated(&self, after: &Self, applied: &Applied) -> Result<(), String> {
        let stale: Vec<&Invalidation> = applied.invalidations.iter().collect();
        let all_names = self.names.keys().chain(after.names.keys());
        for (parent, name) in all_names {
            let key = (*parent, name.clone());
            let told = stale.contains(&&Invalidation::Entry { parent: *parent, name: name.clone() });
            let same = self.names.get(&key) == after.names.get(&key);
            ensure(same || told, || format!("name {key:?} changed, told was {stale:?}"))?;
        }
        for (&inode, was) in &self.inodes {
            let Some(is) = after.inodes.get(&inode) else {
                let (content, mtime) = (&was.content, was.mtime);
                let told = stale.iter().any(|stale| match stale {
                    Invalidation::Removed { inode: left, content: last, mtime: time, .. } => {
                        (*left, last, *time) == (inode, content, mtime)
                    }
                    _ => false,
                });
                ensure(told, || format!("{inode} left, told was {stale:?}"))?;
                continue;
            };
            let ranges: Vec<ByteRange> = stale.iter().filter_map(|stale| content_of(inode, stale)).collect();
            let bytes = |seen: &SeenInode, at| seen.content.as_ref().and_then(|bytes| bytes.get(at).copied());
            let longest = [was, is].map(|seen| seen.content.as_ref().map_or(0, |bytes| bytes.len()));
            let changed = (0..longest[0].max(longest[1])).filter(|at| bytes(was, *at) != bytes(is, *at));
            let missed =
                changed.into_iter().find(|at| !ranges.iter().any(|range| range.contains(*at as u64)));
            ensure(missed.is_none(), || {
                format!("byte {missed:?} of {inode} was written, told was {stale:?}")
            })?;
            let attributes = !ranges.is_empty() || stale.contains(&&Invalidation::Attributes { inode });
            let same = (was.mtime, was.private, was.script) == (is.mtime, is.private, is.script);
            ensure(same || attributes, || format!("{inode} changed, told was {stale:?}"))?;
        }
        Ok(())
    }
}

/// Bytes of this file that an invalidation covers.
fn content_of(file: Inode, stale: &Invalidation) -> Option<ByteRange> {
    match stale {
        Invalidation::Content { inode, range } if *inode == file => Some(*range),
        _ => None,
    }
}

/// A list that still fails but would not without any one of its steps.
fn shrink(mut failing: Vec<Step>) -> Vec<Step> {
    let without = |list: &[Step], at: usize| [&list[..at], &list[at + 1..]].concat();
    while let Some(shorter) =
        (0..failing.len()).map(|at| without(&failing, at)).find(|list| run(list).is_err())
    {
        failing = shorter;
    }
    failing
}

#[test]
fn random_lists_do_as_the_model_does() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let seeds = match number("MEMDB_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MEMDB_MODEL_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let list = steps(seed);
        if run(&list).is_err() {
            let short = shrink(list);
            let what = run(&short).expect_err("it still fails");
            panic!("MEMDB_MODEL_SEED={seed}: {what}\nshortest list: {short:#?}");
        }
    }
}
