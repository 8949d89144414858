//! Bytes that reach the disk for writes through the mount, until all is settled.

use super::tree::write_in_pieces;
use crate::daemon::{Daemon, NODE};
use crate::table::{Goal, Unit};
use crate::{Bench, Daemons, Outcome, database};
use std::fs::{self, File};
use std::time::{Duration, Instant};

const TINY_PIECES: &str = "bytes to disk: 500 KiB in 512 B pieces";
const PIECES: &str = "bytes to disk: 1 MiB in 4 KiB pieces";
const REPLACE: &str = "bytes to disk: 100 small tmp+rename";
const REPLACE_IN_STOCK: &str = "  the same in a database made by stock";

const BURST_RATE: &str = "burst: 4 writers rewrite 50 guests";
const BURST_LOG: &str = "  longest write-ahead log meanwhile";
const BURST_BYTES: &str = "  bytes to disk for 1000 of them";

const GUESTS: usize = 100;
const BURST_WRITERS: usize = 4;
const BURST_GUESTS: usize = 50;
/// Duration of a burst.
const BURST: Duration = Duration::from_secs(10);

/// Nothing written for this long: no commit waits any more (stock has none, ours at most 50 ms).
const QUIET: Duration = Duration::from_millis(300);

pub fn run(bench: &mut Bench) -> Outcome<()> {
    if bench.wants(&[TINY_PIECES, PIECES, REPLACE]) {
        // Each daemon's own new database, with some guests in it.
        let daemons = bench.start("disk", |_| Ok(()))?;
        for daemon in &daemons {
            daemon.inside(make_guests)?;
        }
        bench.at_most(3, |bench| rows(bench, &daemons));
    }
    if bench.wants(&[BURST_RATE, BURST_LOG, BURST_BYTES]) {
        let daemons = bench.start("disk-burst", |_| Ok(()))?;
        for daemon in &daemons {
            daemon.inside(make_guests)?;
        }
        bench.at_most(3, |bench| bursts(bench, &daemons));
    }
    if bench.wants(&[REPLACE_IN_STOCK]) {
        let daemons =
            bench.start("disk-stock", |path| database::with_guests(path, database::ALONE, NODE, GUESTS))?;
        bench.at_most(3, |bench| {
            bench.row(REPLACE_IN_STOCK, Unit::Megabytes, Goal::Reference, &daemons, replace);
        });
    }
    Ok(())
}

fn rows(bench: &mut Bench, daemons: &Daemons) {
    bench.row(TINY_PIECES, Unit::Megabytes, Goal::AtMost(2.0), daemons, |daemon, round| {
        megabytes(daemon, || write_in_pieces(format!("tiny-{round}"), 500 << 10, 512))
    });
    bench.row(PIECES, Unit::Megabytes, Goal::AtMost(3.2), daemons, |daemon, round| {
        megabytes(daemon, || write_in_pieces(format!("pieces-{round}"), 1 << 20, 4096))
    });
    bench.row(REPLACE, Unit::Megabytes, Goal::AtMost(1.5), daemons, replace);
}

/// One burst, as all of its rows see it.
struct Burst {
    writes: u64,
    log_bytes: u64,
    bytes_written: u64,
}

fn bursts(bench: &mut Bench, daemons: &Daemons) {
    let duration = if bench.options.quick { BURST / 10 } else { BURST };
    bench.row(BURST_RATE, Unit::ThousandsPerSecond, Goal::Times(1.0), daemons, |daemon, _| {
        Ok(burst(daemon, duration)?.writes as f64 / duration.as_secs_f64() / 1e3)
    });
    bench.row(BURST_LOG, Unit::Megabytes, Goal::AtMost(4.3), daemons, |daemon, _| {
        Ok(burst(daemon, duration)?.log_bytes as f64 / 1e6)
    });
    bench.row(BURST_BYTES, Unit::Megabytes, Goal::Times(1.0), daemons, |daemon, _| {
        let burst = burst(daemon, duration)?;
        Ok(burst.bytes_written as f64 / 1e3 / burst.writes as f64)
    });
}

/// Rewrites guests for this long, each writer its own ones in turn.
fn burst(daemon: &Daemon, duration: Duration) -> Outcome<Burst> {
    let log = daemon.database().with_extension("db-wal");
    let before = settled(daemon)?;
    let end = Instant::now() + duration;
    let (writes, log_bytes) = daemon.inside(|| {
        std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..BURST_WRITERS).map(|writer| scope.spawn(move || rewrite(writer, end))).collect();
            let mut longest = 0;
            while Instant::now() < end {
                longest = longest.max(fs::metadata(&log).map_or(0, |log| log.len()));
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut writes = 0;
            for writer in writers {
                writes += writer.join().map_err(|_| "a writer panicked")??;
            }
            Ok((writes, longest))
        })
    })?;
    Ok(Burst { writes, log_bytes, bytes_written: settled(daemon)? - before })
}

fn rewrite(writer: usize, end: Instant) -> Outcome<u64> {
    let mut writes = 0;
    while Instant::now() < end {
        for vmid in (100 + writer..100 + BURST_GUESTS).step_by(BURST_WRITERS) {
            let config = database::guest_config(vmid) + &format!("#{writes}\n");
            fs::write(format!("nodes/{NODE}/qemu-server/{vmid}.conf"), config)?;
            writes += 1;
        }
    }
    Ok(writes)
}

fn make_guests() -> Outcome<()> {
    let dir = format!("nodes/{NODE}/qemu-server");
    fs::create_dir_all(&dir)?;
    for vmid in 100..100 + GUESTS {
        fs::write(format!("{dir}/{vmid}.conf"), database::guest_config(vmid))?;
    }
    Ok(())
}

fn replace(daemon: &Daemon, _round: usize) -> Outcome<f64> {
    megabytes(daemon, || {
        for _ in 0..100 {
            fs::write("small.tmp", [b'x'; 1024])?;
            fs::rename("small.tmp", "small")?;
        }
        Ok(())
    })
}

/// Megabytes that `work` makes the daemon write.
fn megabytes(daemon: &Daemon, work: impl Fn() -> Outcome<()> + Sync) -> Outcome<f64> {
    settled(daemon)?;
    let before = daemon.bytes_written()?;
    daemon.inside(|| {
        work()?;
        Ok(File::open(".")?.sync_all()?)
    })?;
    Ok((settled(daemon)? - before) as f64 / 1e6)
}

/// Bytes written, once no more are.
fn settled(daemon: &Daemon) -> Outcome<u64> {
    let mut bytes = daemon.bytes_written()?;
    let mut quiet_since = Instant::now();
    let deadline = Instant::now() + Duration::from_secs(30);
    while quiet_since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(20));
        let now = daemon.bytes_written()?;
        if now != bytes {
            (bytes, quiet_since) = (now, Instant::now());
        }
        if Instant::now() > deadline {
            return Err("does not stop writing".into());
        }
    }
    Ok(bytes)
}
