//! Properties of all guests of a large cluster, by the service.

use crate::client::{self, Client, Request};
use crate::daemon::{Daemon, NODE};
use crate::table::{Goal, Unit};
use crate::{Bench, Outcome, database};
use std::fs;

const ONE: &str = "IPC 2 properties of 10,000 guests";
const FOUR: &str = "IPC 2 properties of 10,000 guests, 4 clients";
const CHANGED: &str = "IPC the same, one config changed in between";

/// The two properties that a web interface shows for every guest.
const BODY: &[u8] = b"\0\0\0\0\x02name\0tags\0";

pub fn run(bench: &mut Bench) -> Outcome<()> {
    if !bench.wants(&[ONE, FOUR, CHANGED]) {
        return Ok(());
    }
    let guests = bench.amount(10_000);
    let program = client::compile(&bench.dir, client::Library::Libqb)?;
    let daemons = bench.start("guests", |path| database::with_guests(path, database::ALONE, NODE, guests))?;
    let request = Request { id: client::GET_GUEST_CONFIG_PROPERTIES, body: BODY, answer_min: guests * 50 };
    let count = bench.amount(10);
    for (load, clients) in [(ONE, 1), (FOUR, 4)] {
        bench.row(load, Unit::Milliseconds, Goal::Times(20.0), &daemons, |daemon, _| {
            let clients: Outcome<Vec<Client>> =
                (0..clients).map(|_| Client::connect(&program, daemon)).collect();
            Ok(client::call(&mut clients?, &request, count)?.each.as_secs_f64() * 1e3)
        });
    }
    bench.row(CHANGED, Unit::Milliseconds, Goal::Times(20.0), &daemons, |daemon, round| {
        let mut clients = [Client::connect(&program, daemon)?];
        let mut total = 0.0;
        for index in 0..count {
            change_one(daemon, 100 + (round * count + index) % guests)?;
            total += client::call(&mut clients, &request, 1)?.each.as_secs_f64() * 1e3;
        }
        Ok(total / count as f64)
    });
    Ok(())
}

fn change_one(daemon: &Daemon, vmid: usize) -> Outcome<()> {
    let text = database::guest_config(vmid).replace("name: guest", "name: renamed");
    daemon.inside(|| Ok(fs::write(format!("nodes/{NODE}/qemu-server/{vmid}.conf"), text)?))
}
