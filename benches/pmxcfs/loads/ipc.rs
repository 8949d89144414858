//! Loads on the service: connect, small requests, many clients. The goals are for the stock client library;
//! our own client shows what of a round trip is the client's.

use crate::client::{self, Client, Library, Request};
use crate::daemon::Daemon;
use crate::table::{Goal, Unit};
use crate::{Bench, Outcome, database};
use std::fs;

const CONNECT: &str = "IPC connect+disconnect";
const VERSION: &str = "IPC version";
const CONFIG: &str = "IPC config of 2 KiB";
const VERSION_NATIVE: &str = "IPC version, our client";
const VERSION_8: &str = "IPC version, 8 clients at once";
const CONFIG_8: &str = "IPC config of 2 KiB, 8 clients at once";
const CONNECT_SHARE: &str = "IPC connect+disconnect, libpmxcfs / libqb";
const VERSION_SHARE: &str = "IPC version, libpmxcfs / libqb";
const CONFIG_SHARE: &str = "IPC config of 2 KiB, libpmxcfs / libqb";
const LONG_SHARE: &str = "IPC config of 128 KiB, libpmxcfs / libqb";

/// Far more than an answer that every connection has memory for.
const LONG: usize = 128 << 10;

pub fn run(bench: &mut Bench) -> Outcome<()> {
    let shares = [CONNECT_SHARE, VERSION_SHARE, CONFIG_SHARE, LONG_SHARE];
    let all = [&[CONNECT, VERSION, CONFIG, VERSION_NATIVE, VERSION_8, CONFIG_8][..], &shares].concat();
    if !bench.wants(&all) {
        return Ok(());
    }
    let program = client::compile(&bench.dir, Library::Libqb)?;
    let daemons =
        bench.start("ipc", |path| database::with_guests(path, database::ALONE, crate::daemon::NODE, 100))?;
    for daemon in &daemons {
        daemon.inside(|| Ok(fs::write("config", [b'x'; 2048])?))?;
        daemon.inside(|| Ok(fs::write("long", vec![b'x'; LONG])?))?;
    }
    let version = Request { id: client::GET_FS_VERSION, body: b"", answer_min: 100 };
    let config = Request { id: client::GET_CONFIG, body: b"config\0", answer_min: 2048 };
    let connects = bench.amount(20);
    bench.row(CONNECT, Unit::Milliseconds, Goal::Times(3.0), &daemons, |daemon, _| {
        let mut client = Client::connect(&program, daemon)?;
        Ok(client.time_connect(connects)?.as_secs_f64() * 1e3)
    });
    let count = bench.amount(1000);
    bench.row(VERSION_NATIVE, Unit::Microseconds, Goal::Reference, &daemons, |daemon, _| {
        Ok(client::call_native(daemon, &version, count)?.as_secs_f64() * 1e6)
    });
    for (load, request) in [(VERSION, &version), (CONFIG, &config)] {
        bench.row(load, Unit::Microseconds, Goal::Times(1.3), &daemons, |daemon, _| {
            let mut clients = [Client::connect(&program, daemon)?];
            Ok(client::call(&mut clients, request, count)?.each.as_secs_f64() * 1e6)
        });
    }
    for (load, request) in [(VERSION_8, &version), (CONFIG_8, &config)] {
        bench.row(load, Unit::ThousandsPerSecond, Goal::Times(1.5), &daemons, |daemon, _| {
            let clients: Outcome<Vec<Client>> = (0..8).map(|_| Client::connect(&program, daemon)).collect();
            Ok(client::call(&mut clients?, request, count)?.per_second / 1e3)
        });
    }
    // The two libraries on the same daemon, ours, one right after the other.
    let own = client::compile(&bench.dir, Library::Libpmxcfs)?;
    let ours = &daemons[daemons.len() - 1..];
    let pair = |daemon: &Daemon| -> Outcome<[Client; 2]> {
        Ok([Client::connect(&own, daemon)?, Client::connect(&program, daemon)?])
    };
    bench.row(CONNECT_SHARE, Unit::Share, Goal::AtMost(0.5), ours, |daemon, _| {
        let [mut own, mut libqb] = pair(daemon)?;
        let times = [own.time_connect(connects)?, libqb.time_connect(connects)?];
        Ok(times[0].as_secs_f64() / times[1].as_secs_f64())
    });
    let long = Request { id: client::GET_CONFIG, body: b"long\0", answer_min: LONG };
    for (load, request) in [(VERSION_SHARE, &version), (CONFIG_SHARE, &config), (LONG_SHARE, &long)] {
        bench.row(load, Unit::Share, Goal::AtMost(1.0), ours, |daemon, _| {
            let times: Outcome<Vec<f64>> = pair(daemon)?
                .into_iter()
                .map(|client| Ok(client::call(&mut [client], request, count)?.each.as_secs_f64()))
                .collect();
            let times = times?;
            Ok(times[0] / times[1])
        });
    }
    Ok(())
}
