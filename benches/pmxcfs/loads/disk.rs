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

const GUESTS: usize = 100;

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
