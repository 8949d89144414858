//! kill -9 at any moment: what a writer was told is done is there afterwards, what it was doing is
//! there whole or not at all, and the daemon starts again by itself.
//!
//! Each writer works in a directory of its own on a model of it. After the crash its directory must
//! equal the model before or after the one operation that was not answered. The seed is printed;
//! CRASH_SEED repeats a run's choices (not the moments of the kills), CRASH_ROUNDS sets its length.

use crate::fixture::Root;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const WRITERS: u64 = 4;
const ROUNDS: u64 = 6;

/// Name to content; None is a directory.
type Model = BTreeMap<String, Option<Vec<u8>>>;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// What a writer does next. Every one of them is durable when it returns.
#[derive(Debug, Clone)]
enum Step {
    Replace { name: String, content: Vec<u8> },
    Append { name: String, content: Vec<u8> },
    MakeDirectory { name: String },
    Remove { name: String },
    Move { from: String, to: String },
}

impl Step {
    fn choose(model: &Model, random: &mut Random) -> Self {
        let name = format!("f{}", random.below(6));
        let other = format!("f{}", random.below(6));
        let content = |random: &mut Random| {
            let size = [3, 700, 5_000, 60_000][random.below(4) as usize];
            vec![b'a' + random.below(26) as u8; size]
        };
        match (model.get(&name), random.below(5)) {
            (None, 0) => Self::MakeDirectory { name },
            (Some(None), _) | (Some(Some(_)), 0) => Self::Remove { name },
            (Some(Some(_)), 1) if name != other && !matches!(model.get(&other), Some(None)) => {
                Self::Move { from: name, to: other }
            }
            (Some(Some(old)), 2) if old.len() < 400_000 => Self::Append { name, content: content(random) },
            _ => Self::Replace { name, content: content(random) },
        }
    }

    fn run(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Replace { name, content } => {
                let temporary = dir.join(format!("{name}.tmp"));
                let mut file = File::create(&temporary)?;
                for piece in content.chunks(4096) {
                    file.write_all(piece)?;
                }
                // A close whose answer was an error is not seen here; the rename after it is.
                drop(file);
                fs::rename(temporary, dir.join(name))
            }
            Self::Append { name, content } => {
                let mut file = OpenOptions::new().append(true).open(dir.join(name))?;
                file.write_all(content)?;
                file.sync_all()
            }
            Self::MakeDirectory { name } => fs::create_dir(dir.join(name)),
            Self::Remove { name } => {
                let path = dir.join(name);
                if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
            }
            Self::Move { from, to } => fs::rename(dir.join(from), dir.join(to)),
        }
    }

    fn apply(&self, model: &mut Model) {
        match self {
            Self::Replace { name, content } => {
                model.insert(name.clone(), Some(content.clone()));
            }
            Self::Append { name, content } => {
                if let Some(Some(old)) = model.get_mut(name) {
                    old.extend_from_slice(content);
                }
            }
            Self::MakeDirectory { name } => {
                model.insert(name.clone(), None);
            }
            Self::Remove { name } => {
                model.remove(name);
            }
            Self::Move { from, to } => {
                if let Some(content) = model.remove(from) {
                    model.insert(to.clone(), content);
                }
            }
        }
    }
}

/// One writer: its directory as it was last acknowledged, and the step that was not answered.
struct Writer {
    dir: PathBuf,
    model: Model,
    unanswered: Option<Step>,
}

impl Writer {
    /// Works until the daemon is gone.
    fn work(&mut self, random: &mut Random, done: &AtomicU64) {
        loop {
            let step = Step::choose(&self.model, random);
            if step.run(&self.dir).is_err() {
                self.unanswered = Some(step);
                // A daemon that ended by itself must not leave the test waiting for steps.
                done.fetch_add(u64::from(u32::MAX), Ordering::Relaxed);
                return;
            }
            step.apply(&mut self.model);
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Compares the directory with the model; what is found becomes the model.
    fn verify(&mut self, seed: u64) {
        let mut found = Model::new();
        for entry in fs::read_dir(&self.dir).expect("the directory was acknowledged") {
            let entry = entry.expect("entry");
            let name = entry.file_name().into_string().expect("our names");
            let content = entry.path().is_file().then(|| fs::read(entry.path()).expect("readable"));
            found.insert(name, content);
        }
        // A temporary file of the interrupted step may be there, in any state: it was not closed.
        found.retain(|name, _| !name.ends_with(".tmp"));
        let mut after = self.model.clone();
        let step = self.unanswered.take();
        if let Some(step) = &step {
            step.apply(&mut after);
        }
        let torn = matches!(step, Some(Step::Append { .. })) && is_prefix_state(&found, &self.model, &after);
        assert!(
            found == self.model || found == after || torn,
            "CRASH_SEED={seed} {}: neither before nor after {step:?}\nfound {}\nbefore {}\nafter {}",
            self.dir.display(),
            sizes(&found),
            sizes(&self.model),
            sizes(&after),
        );
        self.model = found;
    }
}

/// An append of more than one request may have come only in part, but from its beginning.
fn is_prefix_state(found: &Model, before: &Model, after: &Model) -> bool {
    found.keys().eq(after.keys())
        && found.iter().all(|(name, content)| match (content, &before[name], &after[name]) {
            (Some(found), Some(before), Some(after)) => found.starts_with(before) && after.starts_with(found),
            (found, _, after) => found == after,
        })
}

fn sizes(model: &Model) -> String {
    let one = |(name, content): (&String, &Option<Vec<u8>>)| match content {
        Some(bytes) => format!("{name}:{}", bytes.len()),
        None => format!("{name}/"),
    };
    model.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_when_killed() {
    let seed = number_from("CRASH_SEED").unwrap_or_else(|| (u64::from(std::process::id()) << 16) | 1);
    let rounds = number_from("CRASH_ROUNDS").unwrap_or(ROUNDS);
    println!("CRASH_SEED={seed}");
    let root = Root::new();
    let mut writers: Vec<Writer> = (0..WRITERS)
        .map(|number| Writer { dir: root.tree(&format!("w{number}")), model: Model::new(), unanswered: None })
        .collect();
    let mut random = Random(seed | 1);
    for round in 0..rounds {
        let mut daemon = root.serve(&["-l"]);
        for writer in &mut writers {
            if round == 0 {
                fs::create_dir(&writer.dir).expect("a new tree");
            }
            writer.verify(seed);
        }
        let done = AtomicU64::new(0);
        let enough = 50 + random.below(400);
        thread::scope(|scope| {
            for (number, writer) in writers.iter_mut().enumerate() {
                let mut random = Random(seed ^ (round << 8) ^ ((number as u64) << 4) | 1);
                let done = &done;
                scope.spawn(move || writer.work(&mut random, done));
            }
            // The moment of the kill is wherever the writers are after that many steps.
            while done.load(Ordering::Relaxed) < enough {
                thread::yield_now();
            }
            daemon.signal(Signal::SIGKILL);
        });
        daemon.wait();
    }
    let mut daemon = root.serve(&["-l"]);
    for writer in &mut writers {
        writer.verify(seed);
    }
    assert_eq!(daemon.stop().0.code(), Some(0));
}
