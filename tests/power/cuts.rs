//! Cuts the power after each event of a trace, and loads the remaining files with the production loader.

use crate::disk::{Event, Trace};
use crate::history::History;
use crate::image::{Disk, Fate, Image, Random};
use pmxcfs::memdb::MemDb;
use pmxcfs::store::Store;
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Number of images for each cut in which a random choice of unsynced calls is lost.
const RANDOM_IMAGES: usize = 3;

/// Result of loading one image.
#[derive(Clone, Copy)]
struct Verdict {
    /// Last state that it holds.
    state: usize,
}

/// Counts of one check.
#[derive(Debug, Default)]
pub struct Report {
    pub cuts: usize,
    pub images: usize,
    /// Number of different images; each of them was loaded.
    pub loaded: usize,
}

/// Power failures of one trace.
pub struct Cuts<'a> {
    trace: &'a Trace,
    history: &'a History,
    seed: u64,
    known: HashMap<u64, Verdict>,
    dir: tempfile::TempDir,
    report: Report,
}

/// Checks that every image holds a complete state, not older than the last one that was acknowledged. Panics with the
/// seed, the cut and the fate of the unsynced calls.
pub fn check(trace: &Trace, history: &History, seed: u64) -> Report {
    check_from(trace, history, seed, 0)
}

/// [`check`], with the first cut after event `first`.
pub fn check_from(trace: &Trace, history: &History, seed: u64, first: usize) -> Report {
    let dir = tempfile::Builder::new().prefix("cut").tempdir_in("/dev/shm").expect("a directory");
    let mut cuts = Cuts { trace, history, seed, known: HashMap::new(), dir, report: Report::default() };
    cuts.run(first);
    cuts.report
}

impl Cuts<'_> {
    fn run(&mut self, first: usize) {
        let mut random = Random(self.seed);
        let (mut disk, mut acknowledged) = (Disk::default(), 0);
        for (index, event) in self.trace.iter().enumerate() {
            disk.on(index, event);
            if let Event::Acknowledged { state } = event {
                acknowledged = *state;
            }
            // A cut during a sync leaves the same images as a cut before the sync.
            if index < first || matches!(event, Event::SyncStarted { .. }) {
                continue;
            }
            self.report.cuts += 1;
            for fate in fates(index, &disk, &mut random) {
                let image = disk.image(fate, &mut random);
                self.report.images += 1;
                let verdict = self.verdict(&image, index, fate, &mut random);
                assert!(
                    verdict.state >= acknowledged,
                    "{}: state {} was acknowledged as synced, the disk holds state {}; the image is in {}",
                    self.name(index, fate),
                    acknowledged,
                    verdict.state,
                    self.keep(&image).display()
                );
            }
        }
    }

    fn verdict(&mut self, image: &Image, index: usize, fate: Fate, random: &mut Random) -> Verdict {
        let mut hasher = DefaultHasher::new();
        image.hash(&mut hasher);
        match self.known.entry(hasher.finish()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                let dir = self.dir.path().join("image");
                write(image, &dir);
                if random.below(4) == 0 {
                    // The shared memory that a crash leaves is stored too, or not.
                    let junk: Vec<u8> = (0..32 << 10).map(|_| random.next() as u8).collect();
                    fs::write(dir.join("config.db-shm"), junk).expect("written");
                }
                self.report.loaded += 1;
                let state = load(&dir.join("config.db"), self.history);
                fs::remove_dir_all(&dir).expect("removed");
                match state {
                    Ok(state) => *vacant.insert(Verdict { state }),
                    Err(what) => {
                        panic!(
                            "{}: {what}; the image is in {}",
                            self.name(index, fate),
                            self.keep(image).display()
                        )
                    }
                }
            }
        }
    }

    fn name(&self, index: usize, fate: Fate) -> String {
        format!("POWER_SEED={} cut after event {index} of {}, {fate:?}", self.seed, self.trace.len())
    }

    fn keep(&self, image: &Image) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pmxcfs-power-{}", self.seed));
        write(image, &dir);
        dir
    }
}

/// Fates to try after this event: each decides which of the unsynced calls reach the disk.
fn fates(index: usize, disk: &Disk<'_>, random: &mut Random) -> Vec<Fate> {
    let unsynced = disk.unsynced();
    if unsynced.is_empty() {
        return vec![Fate::AllKept];
    }
    let mut fates = vec![Fate::AllLost, Fate::AllKept, Fate::NamesLost, Fate::Torn(index)];
    let any = |random: &mut Random| unsynced[random.below(unsynced.len())];
    fates.extend([Fate::Lost(any(random).0), Fate::Kept(any(random).0), Fate::Torn(any(random).0)]);
    if let (_, Event::Written { file, .. } | Event::Resized { file, .. }) = any(random) {
        fates.push(Fate::OnlyFile(*file));
    }
    fates.extend((0..RANDOM_IMAGES).map(|number| Fate::Chance([20, 50, 90][number])));
    fates
}

fn write(image: &Image, dir: &Path) {
    fs::create_dir_all(dir).expect("a directory");
    for (name, bytes) in image {
        fs::write(dir.join(name), bytes).expect("written");
    }
}

/// Starts on a database as the daemon does; returns the number of the state that it holds.
fn load(path: &Path, history: &History) -> Result<usize, String> {
    let store = Store::open(path, 1).map_err(|error| error.to_string())?;
    if store.is_created() {
        return Ok(0);
    }
    let tree = store.load(|rows| MemDb::load(rows, Duration::ZERO)).map_err(|error| error.to_string())?;
    let tree = tree.map_err(|error| error.to_string())?;
    let verdict = rusqlite::Connection::open(path).and_then(|connection| {
        connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    });
    if verdict != Ok("ok".to_owned()) {
        return Err(format!("SQLite finds a fault: {verdict:?}"));
    }
    history.last_number(&tree).ok_or_else(|| format!("version {} never was like that", tree.version()))
}

/// Seeds of random scripts: the one in POWER_SEED, or as many new ones as POWER_RUNS says, or 1 to `default`.
pub fn seeds(default: usize) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("POWER_SEED") {
        return vec![seed];
    }
    match number("POWER_RUNS") {
        None => (1..=default as u64).collect(),
        Some(runs) => {
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
            let first = since.as_secs() << 20;
            (first..first + runs).collect()
        }
    }
}
