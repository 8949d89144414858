//! Images of a disk after a power failure: files that a trace of calls may have left.
//!
//! A call that was synced is there. For each other one chance decides: it is there, or not, or in part. The order in
//! which calls were made does not matter. This allows more than file systems do, for example a directory entry that is
//! lost although its file was synced.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use super::disk::{Event, FileId};
use std::collections::BTreeMap;

/// Disks write whole sectors.
const SECTOR: usize = 512;

/// Files by name.
pub type Image = BTreeMap<String, Vec<u8>>;

/// Random numbers from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn has_chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Fate of the calls that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// None is there.
    AllLost,
    /// All are there.
    AllKept,
    /// All are there but this event.
    Lost(usize),
    /// None is there but this event.
    Kept(usize),
    /// All are there; of this event only some sectors.
    Torn(usize),
    /// All calls on the files themselves are there, but no change of the directory.
    NamesLost,
    /// All calls on one file are there, and none on others.
    OnlyFile(FileId),
    /// Each is there with this chance in percent, and one in four only in part.
    Chance(usize),
}

/// A file while its calls are replayed.
#[derive(Default, Clone)]
struct Platter {
    /// Longer than a truncated file: bytes behind the end may show up again.
    bytes: Vec<u8>,
    size: usize,
}

impl Platter {
    fn resize(&mut self, size: usize, shows_old: bool) {
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        if size > self.size && !shows_old {
            self.bytes[self.size..size].fill(0);
        }
        self.size = size;
    }

    fn write(&mut self, offset: usize, data: &[u8], shows_old: bool, mut keeps: impl FnMut() -> bool) {
        if offset + data.len() > self.size {
            self.resize(offset + data.len(), shows_old);
        }
        let mut at = 0;
        while at < data.len() {
            let end = data.len().min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
            if keeps() {
                self.bytes[offset + at..offset + end].copy_from_slice(&data[at..end]);
            }
            at = end;
        }
    }
}

/// The disk while a trace is replayed: synced files, and later calls that are on it or not.
#[derive(Default)]
pub struct Disk<'a> {
    files: BTreeMap<FileId, Platter>,
    names: BTreeMap<String, FileId>,
    /// Calls that are not synced, with their numbers in the trace.
    unsynced: Vec<(usize, &'a Event)>,
}

impl<'a> Disk<'a> {
    /// The next call.
    pub fn on(&mut self, index: usize, event: &'a Event) {
        match event {
            Event::SyncEnded { started, target } => self.sync(*started, *target),
            Event::SyncStarted { .. } | Event::Acknowledged { .. } => {}
            _ => self.unsynced.push((index, event)),
        }
    }

    /// A sync of a file covers the calls on it that were made before the sync started.
    fn sync(&mut self, started: usize, target: Option<FileId>) {
        let is_covered = |index: usize, event: &Event| {
            let of = match event {
                Event::Written { file, .. } | Event::Resized { file, .. } => Some(*file),
                _ => None,
            };
            index < started && of == target
        };
        let (covered, rest) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|(index, event)| is_covered(*index, event));
        self.unsynced = rest;
        let covered: Vec<(usize, &Event)> = covered;
        for (_, event) in covered {
            replay(&mut self.files, &mut self.names, event, false, || true);
        }
    }

    pub fn unsynced(&self) -> &[(usize, &'a Event)] {
        &self.unsynced
    }

    /// The files after a power failure.
    pub fn image(&self, fate: Fate, random: &mut Random) -> Image {
        let (mut files, mut names) = (self.files.clone(), self.names.clone());
        let shows_old = matches!(fate, Fate::Chance(_)) && random.has_chance(50);
        for &(index, event) in &self.unsynced {
            let is_name = matches!(event, Event::Created { .. } | Event::Removed { .. });
            let (is_kept, is_torn) = match fate {
                Fate::AllLost => (false, false),
                Fate::AllKept => (true, false),
                Fate::Lost(lost) => (index != lost, false),
                Fate::Kept(kept) => (index == kept || is_name, false),
                Fate::Torn(torn) => (true, index == torn),
                Fate::NamesLost => (!is_name, false),
                Fate::OnlyFile(only) => match event {
                    Event::Written { file, .. } | Event::Resized { file, .. } => (*file == only, false),
                    _ => (true, false),
                },
                Fate::Chance(percent) => (random.has_chance(percent), random.has_chance(25)),
            };
            if is_kept {
                replay(&mut files, &mut names, event, shows_old, || !is_torn || random.has_chance(50));
            }
        }
        let file = |(name, file): (String, FileId)| {
            let platter = files.remove(&file).unwrap_or_default();
            (name, platter.bytes[..platter.size].to_vec())
        };
        names.into_iter().map(file).collect()
    }
}

fn replay(
    files: &mut BTreeMap<FileId, Platter>,
    names: &mut BTreeMap<String, FileId>,
    event: &Event,
    shows_old: bool,
    keeps_sector: impl FnMut() -> bool,
) {
    match event {
        Event::Created { name, file } => drop(names.insert(name.clone(), *file)),
        Event::Removed { name, .. } => drop(names.remove(name)),
        Event::Written { file, offset, data } => {
            files.entry(*file).or_default().write(*offset as usize, data, shows_old, keeps_sector);
        }
        Event::Resized { file, size } => files.entry(*file).or_default().resize(*size as usize, shows_old),
        Event::SyncStarted { .. } | Event::SyncEnded { .. } | Event::Acknowledged { .. } => {}
    }
}

/// The files as they are without a power failure.
pub fn complete(trace: &[Event]) -> Image {
    let mut disk = Disk::default();
    for (index, event) in trace.iter().enumerate() {
        disk.on(index, event);
    }
    disk.image(Fate::AllKept, &mut Random(0))
}
