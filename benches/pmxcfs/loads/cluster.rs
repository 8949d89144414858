//! Three nodes on this machine: changes that travel, and how fast an empty node has everything.

use super::tree::write_in_pieces;
use crate::daemon::Side;
use crate::database::{self, CorosyncConf};
use crate::fixture::cluster::{self, Cluster, Mix};
use crate::fixture::node::Kind;
use crate::fixture::wait::{PATIENCE, within};
use crate::table::{Goal, Unit};
use crate::{Bench, Outcome, process};
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

const CREATE: &str = "cluster: create 1 KiB";
const PIECES: &str = "cluster: 1 MiB in 4 KiB pieces";
const AT_ONCE: &str = "cluster: 1 MiB at once";
const JOIN_GUESTS: &str = "cluster: empty node joins 10,000 guests";
const JOIN_FILES: &str = "cluster: empty node joins 40,000 files, 100 MiB";
const MEMORY_LEADER: &str = "  the same, memory of the leader after it";
const MEMORY_JOINER: &str = "  the same, memory of the joiner after it";

/// Milliseconds: the machine may be busy, and nothing here is about lost nodes.
const TOKEN: u32 = 10_000;

/// Clusters of each side, in turns: from one start to the next the time of the same load differs by up to a third,
/// which is more than most changes to the daemons make.
const STARTS: usize = 3;

/// The node that joins.
const JOINER: usize = 3;

/// What one side measured of a join, by what was measured.
type Joins = [Vec<f64>; 3];

pub fn run(bench: &mut Bench) -> Outcome<()> {
    if !bench.wants(&[CREATE, PIECES, AT_ONCE, JOIN_GUESTS, JOIN_FILES, MEMORY_LEADER, MEMORY_JOINER]) {
        return Ok(());
    }
    if let Some(obstacle) = cluster::obstacle() {
        eprintln!("bench: no loads on clusters: {obstacle}");
        return Ok(());
    }
    if bench.wants(&[CREATE, PIECES, AT_ONCE]) {
        changes(bench);
    }
    joins(bench);
    Ok(())
}

fn mix(side: &Side) -> Mix {
    let kind = match side {
        Side::Stock(path) => Kind::Stock(path.clone()),
        Side::Ours => Kind::Ours,
    };
    Mix { kinds: vec![kind; 3] }
}

/// Changes through the mount of one node, which has to be told by the others.
fn changes(bench: &mut Bench) {
    let starts = bench.options.rounds.clamp(1, STARTS);
    let creates = bench.amount(200).div_ceil(starts);
    let rounds = 1..=bench.options.rounds.div_ceil(starts);
    let mut rows: Vec<[Outcome<Vec<f64>>; 3]> =
        bench.sides.iter().map(|_| [const { Ok(Vec::new()) }; 3]).collect();
    for _ in 0..starts {
        for (side, row) in bench.sides.iter().zip(&mut rows) {
            // One cluster at a time: corosync alone keeps a small machine busy.
            let cluster = Cluster::start(&mix(side), TOKEN);
            let tree = cluster[1].tree("");
            let [create, pieces, at_once] = row;
            sample(create, 1..=creates, |index| {
                Ok(fs::write(tree.join(format!("create-{index}")), [b'x'; 1024])?)
            });
            sample(pieces, rounds.clone(), |round| {
                write_in_pieces(tree.join(format!("pieces-{round}")), 1 << 20, 4096)
            });
            sample(at_once, rounds.clone(), |round| {
                Ok(fs::write(tree.join(format!("at-once-{round}")), vec![b'x'; 1 << 20])?)
            });
        }
    }
    let goals = [(CREATE, 1.3), (PIECES, 5.0), (AT_ONCE, 3.0)];
    for (load, goal) in goals {
        let samples = rows.iter_mut().map(|row| {
            let [create, pieces, at_once] = row;
            let taken = match load {
                CREATE => create,
                PIECES => pieces,
                _ => at_once,
            };
            std::mem::replace(taken, Ok(Vec::new()))
        });
        let samples = samples.collect();
        bench.table.add(load, Unit::Milliseconds, Goal::Times(goal), samples);
    }
}

/// Adds how many milliseconds a load took, each time, unless it failed before.
fn sample(row: &mut Outcome<Vec<f64>>, times: RangeInclusive<usize>, load: impl Fn(usize) -> Outcome<()>) {
    for index in times {
        let Ok(taken) = row else { return };
        let started = Instant::now();
        match load(index) {
            Ok(()) => taken.push(started.elapsed().as_secs_f64() * 1e3),
            Err(failure) => *row = Err(failure),
        }
    }
}

fn joins(bench: &mut Bench) {
    if bench.wants(&[JOIN_GUESTS]) {
        let guests = bench.amount(10_000);
        let last = format!("nodes/n1/qemu-server/{}.conf", 99 + guests);
        let fill = |path: &Path, conf: CorosyncConf| database::with_guests(path, conf, "n1", guests);
        let [times, _, _] = samples(bench, &fill, &last);
        bench.table.add(JOIN_GUESTS, Unit::Milliseconds, Goal::Times(2.0), times);
    }
    if bench.wants(&[JOIN_FILES, MEMORY_LEADER, MEMORY_JOINER]) {
        let (files, bytes) = (bench.amount(40_000), bench.amount(100 << 20));
        let last = format!("files/{:04}/{:02}", (files - 1) / 100, (files - 1) % 100);
        let fill = |path: &Path, conf: CorosyncConf| database::with_files(path, conf, files, bytes);
        let [times, leader, joiner] = samples(bench, &fill, &last);
        bench.table.add(JOIN_FILES, Unit::Milliseconds, Goal::Times(2.0), times);
        for (load, samples) in [(MEMORY_LEADER, leader), (MEMORY_JOINER, joiner)] {
            bench.table.add(load, Unit::Megabytes, Goal::Times(1.43), samples);
        }
    }
}

/// Times of joins and the memory after them, for each side.
fn samples(
    bench: &Bench,
    fill: &dyn Fn(&Path, CorosyncConf) -> Outcome<()>,
    last: &str,
) -> [Vec<Outcome<Vec<f64>>>; 3] {
    let rounds = bench.options.rounds.min(3);
    let measured: Vec<Outcome<Joins>> =
        bench.sides.iter().map(|side| join(side, fill, last, rounds)).collect();
    [0, 1, 2].map(|which| {
        let pick = |side: &Outcome<Joins>| match side {
            Ok(joins) => Ok(joins[which].clone()),
            Err(failure) => Err(failure.to_string().into()),
        };
        measured.iter().map(pick).collect()
    })
}

/// Two nodes have everything, the third nothing: how long from its start until its tree has `last`.
fn join(
    side: &Side,
    fill: &dyn Fn(&Path, CorosyncConf) -> Outcome<()>,
    last: &str,
    rounds: usize,
) -> Outcome<Joins> {
    let mut joins = Joins::default();
    let mut cluster = Cluster::prepare(&mix(side), TOKEN);
    let conf = cluster.settings.text();
    for number in [1, 2] {
        fill(&cluster[number].database(), CorosyncConf(Some(&conf)))?;
        cluster[number].start();
    }
    cluster.await_members(&[1, 2], &[1, 2]);
    for _ in 0..rounds {
        let started = Instant::now();
        cluster[JOINER].launch();
        let path = cluster[JOINER].tree(last);
        if !within(PATIENCE, || fs::metadata(&path).is_ok_and(|meta| meta.len() > 0)) {
            return Err(format!("the node has not all{}", cluster.story()).into());
        }
        joins[0].push(started.elapsed().as_secs_f64() * 1e3);
        // Memory that is freed after it should have been given back.
        std::thread::sleep(std::time::Duration::from_secs(1));
        for (samples, number) in joins[1..].iter_mut().zip([1, JOINER]) {
            let kilobytes = process::proc_number(cluster[number].daemon().pid().as_raw(), "status", "VmRSS")?;
            samples.push(kilobytes as f64 * 1024.0 / 1e6);
        }
        cluster[JOINER].stop();
        cluster[JOINER].forget()?;
    }
    Ok(joins)
}
