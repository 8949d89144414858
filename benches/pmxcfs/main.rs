//! The benchmark: prints one table of medians, and with `STOCK=/path/to/a/stock/pmxcfs` the same loads on
//! that daemon in the same run, in turns, with the ratio (of several, `STOCK=a:b:c`, on the first). It owns the options and the order of the loads;
//! it builds no daemon and touches nothing outside of its own temporary directory.
//!
//! Options, after `cargo bench --bench pmxcfs --`:
//! `--quick` each load once and small (goals are not judged), `--rounds N` repeats per load (default 15), `--only TEXT` loads whose
//! name contains TEXT, `--one-core` daemons and clients on one CPU (slower, far less noise).
//! `BENCH_DIR` is where the databases go (default: Cargo's directory for temporary files; must be a disk,
//! since bytes written are measured).

mod client;
mod daemon;
mod database;
#[path = "../../tests/cluster/fixture/fixture.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod fixture;
mod loads;
#[path = "../../tests/common/namespace.rs"]
mod namespace;
mod process;
#[path = "../../tests/scale/shapes.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod shapes;
#[path = "../../tests/stock/daemons.rs"]
mod stock_daemons;
mod table;

use daemon::{Daemon, Side};
use std::path::{Path, PathBuf};
use stock_daemons::stock_daemons;
use table::{Goal, Table, Unit};

/// Anything that can go wrong is told in words, and ends a load or the run.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

/// What was typed.
struct Options {
    /// Loads whose name contains this.
    only: String,
    quick: bool,
    rounds: usize,
    one_core: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self { only: String::new(), quick: false, rounds: 15, one_core: false };
        let mut arguments = arguments.skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (options.quick, options.rounds) = (true, 1),
                "--one-core" => options.one_core = true,
                "--only" => options.only = arguments.next().ok_or("--only needs a text")?,
                "--rounds" => options.rounds = arguments.next().ok_or("--rounds needs a number")?.parse()?,
                // Cargo adds it.
                "--bench" => {}
                other => return Err(format!("unknown option '{other}'").into()),
            }
        }
        Ok(options)
    }
}

/// The run: what is measured, against what, and the table so far.
struct Bench {
    options: Options,
    /// The stock binary first, when there is one: ratios read left to right.
    sides: Vec<Side>,
    /// Everything the run writes is below this.
    dir: PathBuf,
    table: Table,
}

/// Daemons under the same load, one a side.
type Daemons = Vec<Daemon>;

impl Bench {
    /// `full`, or much less of it for a smoke run. Rounds are kept short: in many short ones, what
    /// else happens on the machine spoils some, and the median is of the others.
    fn amount(&self, full: usize) -> usize {
        if self.options.quick { (full / 20).max(4) } else { full }
    }

    /// True when any load of this list was asked for.
    fn wants(&self, loads: &[&str]) -> bool {
        loads.iter().any(|load| load.contains(&self.options.only))
    }

    /// One daemon a side, each with a database that `fill` made.
    fn start(&self, name: &str, fill: impl Fn(&Path) -> Outcome<()>) -> Outcome<Daemons> {
        let mut daemons = Vec::new();
        for side in &self.sides {
            let dir = self.dir.join(format!("{name}-{}", side.name()));
            daemon::prepare(&dir)?;
            fill(&daemon::database_path(&dir))?;
            daemons.push(Daemon::start(side, &dir)?);
        }
        Ok(daemons)
    }

    /// Adds rows whose rounds are long, or hardly vary: at most `rounds` of them.
    fn at_most<T>(&mut self, rounds: usize, add: impl FnOnce(&mut Self) -> T) -> T {
        let all = self.options.rounds;
        self.options.rounds = all.min(rounds);
        let added = add(self);
        self.options.rounds = all;
        added
    }

    /// One row: `load` on each daemon in turns, so that what else happens on the machine hits all alike.
    /// The first turn only warms up.
    fn row(
        &mut self,
        what: &str,
        unit: Unit,
        goal: Goal,
        daemons: &[Daemon],
        mut load: impl FnMut(&Daemon, usize) -> Outcome<f64>,
    ) {
        if !self.wants(&[what]) {
            return;
        }
        let mut samples: Vec<Outcome<Vec<f64>>> = daemons.iter().map(|_| Ok(Vec::new())).collect();
        for round in 0..=self.options.rounds {
            for (daemon, samples) in daemons.iter().zip(&mut samples) {
                let Ok(taken) = samples else { continue };
                match load(daemon, round) {
                    Ok(_) if round == 0 => {}
                    Ok(value) => taken.push(value),
                    Err(failure) => *samples = Err(format!("{what}: {}: {failure}", daemon.name()).into()),
                }
            }
        }
        self.table.add(what, unit, goal, samples);
    }
}

fn run() -> Outcome<bool> {
    let options = Options::parse(std::env::args())?;
    if options.one_core {
        process::stay_on_one_core()?;
    }
    let parent =
        std::env::var_os("BENCH_DIR").map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&parent)?;
    let stock = stock_daemons().into_iter().next().map(Side::Stock);
    let sides: Vec<Side> = stock.into_iter().chain([Side::Ours]).collect();
    let table = Table::new(sides.len() > 1, options.quick);
    let mut bench = Bench { options, sides, dir: dir.path().to_owned(), table };
    println!("{}", process::machine(dir.path()));
    loads::tree::run(&mut bench)?;
    loads::disk::run(&mut bench)?;
    loads::ipc::run(&mut bench)?;
    loads::guests::run(&mut bench)?;
    loads::start::run(&mut bench)?;
    loads::scale::run(&mut bench)?;
    loads::cluster::run(&mut bench)?;
    print!("{}", bench.table);
    Ok(bench.table.is_complete())
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("bench: {failure}");
            std::process::ExitCode::FAILURE
        }
    }
}
