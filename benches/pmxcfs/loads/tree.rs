//! Loads on files through the mount: reads, small and large writes.

use crate::table::{Goal, Unit};
use crate::{Bench, Daemons, Outcome, database};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const READ: &str = "open+read+close, 1,000 files of 2 KiB";
const PREAD: &str = "pread 2 KiB of an open file";
const PREAD_LOCAL: &str = "pread 2 KiB, local file system";
const STATFS: &str = "statfs: one empty round trip";
const CREATE: &str = "create+write 1 KiB+close";
const REPLACE: &str = "write tmp (1 KiB)+rename";
const PIECES: &str = "1 MiB written in 4 KiB pieces";
const AT_ONCE: &str = "1 MiB written at once";

pub fn run(bench: &mut Bench) -> Outcome<()> {
    if !bench.wants(&[READ, PREAD, PREAD_LOCAL, STATFS, CREATE, REPLACE, PIECES, AT_ONCE]) {
        return Ok(());
    }
    // A database that is not empty, as on any node.
    let daemons =
        bench.start("tree", |path| database::with_guests(path, database::ALONE, crate::daemon::NODE, 100))?;
    round_trip(bench, &daemons);
    reads(bench, &daemons)?;
    small_writes(bench, &daemons);
    bench.at_most(5, |bench| large_writes(bench, &daemons));
    Ok(())
}

/// Microseconds of one of `count` repeats of `action`.
pub fn each_us(count: usize, mut action: impl FnMut(usize) -> Outcome<()>) -> Outcome<f64> {
    let started = Instant::now();
    (0..count).try_for_each(&mut action)?;
    Ok(started.elapsed().as_secs_f64() * 1e6 / count as f64)
}

fn round_trip(bench: &mut Bench, daemons: &Daemons) {
    let count = bench.amount(500);
    bench.row(STATFS, Unit::Microseconds, Goal::Reference, daemons, |daemon, _| {
        daemon.inside(|| {
            each_us(count, |_| {
                nix::sys::statvfs::statvfs(".")?;
                Ok(())
            })
        })
    });
}

fn reads(bench: &mut Bench, daemons: &Daemons) -> Outcome<()> {
    let count = bench.amount(1000);
    if bench.wants(&[READ, PREAD]) {
        for daemon in daemons {
            daemon.inside(|| make_files(count))?;
        }
    }
    bench.row(READ, Unit::Microseconds, Goal::Times(3.0), daemons, |daemon, _| {
        daemon.inside(|| {
            let mut buffer = [0; 2048];
            each_us(count, |index| Ok(File::open(format!("read/{index}"))?.read_exact(&mut buffer)?))
        })
    });
    let repeats = bench.amount(5000);
    let pread = |path: &Path| {
        let file = File::open(path)?;
        let mut buffer = [0; 2048];
        each_us(repeats, |_| Ok(file.read_exact_at(&mut buffer, 0)?))
    };
    let local = bench.dir.join("local-file");
    fs::write(&local, [b'x'; 2048])?;
    bench.row(PREAD_LOCAL, Unit::Microseconds, Goal::Reference, daemons, |_, _| pread(&local));
    // Page-cache speed: what any other file system does, with room for noise.
    let goal = bench.table.ours(PREAD_LOCAL).map_or(Goal::Reference, |local| Goal::AtMost(local * 2.0));
    bench.row(PREAD, Unit::Microseconds, goal, daemons, |daemon, _| {
        daemon.inside(|| pread(Path::new("read/0")))
    });
    Ok(())
}

fn make_files(count: usize) -> Outcome<()> {
    fs::create_dir("read")?;
    for index in 0..count {
        fs::write(format!("read/{index}"), [b'x'; 2048])?;
    }
    Ok(())
}

fn small_writes(bench: &mut Bench, daemons: &Daemons) {
    let count = bench.amount(50);
    let data = [b'x'; 1024];
    bench.row(CREATE, Unit::Microseconds, Goal::Times(2.0), daemons, |daemon, round| {
        daemon.inside(|| {
            let dir = format!("create-{round}");
            fs::create_dir(&dir)?;
            let took = each_us(count, |index| Ok(fs::write(format!("{dir}/{index}"), data)?))?;
            fs::remove_dir_all(&dir)?;
            Ok(took)
        })
    });
    bench.row(REPLACE, Unit::Microseconds, Goal::Times(2.0), daemons, |daemon, _| {
        daemon.inside(|| {
            each_us(count, |_| {
                fs::write("replaced.tmp", data)?;
                Ok(fs::rename("replaced.tmp", "replaced")?)
            })
        })
    });
}

fn large_writes(bench: &mut Bench, daemons: &Daemons) {
    for (load, goal, piece) in [(PIECES, 50.0, 4096), (AT_ONCE, 8.0, 1 << 20)] {
        bench.row(load, Unit::Milliseconds, Goal::Times(goal), daemons, |daemon, round| {
            daemon.inside(|| {
                let path = format!("large-{piece}-{round}");
                let started = Instant::now();
                write_in_pieces(&path, 1 << 20, piece)?;
                let took = started.elapsed().as_secs_f64() * 1e3;
                fs::remove_file(&path)?;
                Ok(took)
            })
        });
    }
}

/// A new file of `size` bytes, a write(2) for each `piece`, closed.
pub fn write_in_pieces(path: impl AsRef<Path>, size: usize, piece: usize) -> Outcome<()> {
    let data = vec![b'x'; piece];
    let mut file = File::create(path)?;
    for _ in 0..size / piece {
        let written = file.write(&data)?;
        if written != piece {
            // What is left of a large write that the daemon takes in parts.
            file.write_all(data.get(written..).unwrap_or_default())?;
        }
    }
    Ok(())
}
