//! How long a start takes with many guests, and how much memory a large database needs.

use crate::daemon::{self, Daemon, NODE};
use crate::table::{Goal, Unit};
use crate::{Bench, Daemons, Outcome, database};
use std::fs;
use std::time::Duration;

const START: &str = "start with 10,000 guests, until it serves";
const LOADED: &str = "memory with 100 MiB in 40,000 files, at start";
const READ: &str = "  the same, peak after reading every file";

pub fn run(bench: &mut Bench) -> Outcome<()> {
    if bench.wants(&[START]) {
        bench.at_most(7, start)?;
    }
    if bench.wants(&[LOADED, READ]) {
        bench.at_most(1, memory)?;
    }
    Ok(())
}

/// The goal counts in milliseconds: 0.25 s on the machine it was set for.
fn start(bench: &mut Bench) -> Outcome<()> {
    let guests = bench.amount(10_000);
    let mut samples: Vec<Outcome<Vec<f64>>> = bench.sides.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..=bench.options.rounds {
        for (side, samples) in bench.sides.iter().zip(&mut samples) {
            let dir = bench.dir.join(format!("start-{}", side.name()));
            if round == 0 {
                daemon::prepare(&dir)?;
                database::with_guests(&daemon::database_path(&dir), database::ALONE, NODE, guests)?;
            }
            let Ok(taken) = samples else { continue };
            match Daemon::start_in_background(side, &dir) {
                Ok(_) if round == 0 => {}
                Ok((_, took)) => taken.push(took.as_secs_f64() * 1e3),
                Err(failure) => *samples = Err(failure),
            }
        }
    }
    bench.table.add(START, Unit::Milliseconds, Goal::AtMost(250.0), samples);
    Ok(())
}

fn memory(bench: &mut Bench) -> Outcome<()> {
    let (files, bytes) = (bench.amount(40_000), bench.amount(100 << 20));
    let daemons: Daemons =
        bench.start("memory", |path| database::with_files(path, database::ALONE, files, bytes))?;
    // Memory that is freed right after a start should have been given back.
    std::thread::sleep(Duration::from_secs(1));
    let megabytes = |daemon: &Daemon, which: &str| Ok(daemon.memory(which)? as f64 / 1e6);
    bench.row(LOADED, Unit::Megabytes, Goal::Times(1.0), &daemons, |daemon, _| megabytes(daemon, "VmRSS"));
    bench.row(READ, Unit::Megabytes, Goal::Times(1.0), &daemons, |daemon, round| {
        if round == 0 {
            daemon.inside(|| read_all(files))?;
        }
        megabytes(daemon, "VmHWM")
    });
    Ok(())
}

fn read_all(files: usize) -> Outcome<()> {
    for index in 0..files {
        let content = fs::read(format!("files/{:04}/{:02}", index / 100, index % 100))?;
        if content.is_empty() {
            return Err("a file without its content".into());
        }
    }
    Ok(())
}
