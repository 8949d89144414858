//! The status as metrics in Prometheus' text format: printed, put into a file for a node exporter's
//! textfile collector, or served to scrapers on a socket of systemd.

mod exposition;
mod http;
mod listen;
mod request;

use super::CtlError;
use super::daemon::Daemon;
use super::options::{MetricsTarget, Options};
use super::status::gather;
use super::text::print_json;
use crate::dir;
use listen::Listener;
use request::Hosts;
use std::io::{self, Write};
use std::path::Path;

pub(super) fn run(options: &Options, target: &MetricsTarget, out: &mut dyn Write) -> Result<(), CtlError> {
    match target {
        MetricsTarget::Print => print(options, out),
        MetricsTarget::File(path) => write(options, path),
        MetricsTarget::Http { hosts } => serve(options, &Hosts::new(hosts), out),
    }
}

/// Serves HTTP on standard input: a listening socket, or the connection of one client.
fn serve(options: &Options, hosts: &Hosts, out: &mut dyn Write) -> Result<(), CtlError> {
    let metrics = || scrape(options).0;
    let failed = |error: io::Error| CtlError::Failed(format!("cannot serve the socket: {error}"));
    match Listener::of_stdin().map_err(failed)? {
        Some(listener) => listen::serve(listener, hosts, metrics).map_err(failed),
        None => http::serve_one(out, hosts, metrics),
    }
}

fn print(options: &Options, out: &mut dyn Write) -> Result<(), CtlError> {
    let status = gather(&mut Daemon::connect(options)?, options)?;
    let samples = exposition::samples(&status);
    if options.json {
        return Ok(print_json(out, &exposition::as_json(&samples))?);
    }
    Ok(out.write_all(exposition::text(&samples).as_bytes())?)
}

/// The metrics; of a daemon that does not answer only that, and why.
fn scrape(options: &Options) -> (String, Result<(), CtlError>) {
    let status = Daemon::connect(options).and_then(|mut daemon| gather(&mut daemon, options));
    match status {
        Ok(status) => (exposition::text(&exposition::samples(&status)), Ok(())),
        Err(error) => (exposition::text(&exposition::down()), Err(error)),
    }
}

/// Writes the metrics to a file by atomic replacement. The draft's name does not end in `.prom`, so
/// collectors ignore it. The directory often belongs to the collector, so an exposed directory causes no
/// warning. If the daemon does not respond, the file says so and this returns an error.
fn write(options: &Options, path: &Path) -> Result<(), CtlError> {
    let (text, outcome) = scrape(options);
    let failed = |error: io::Error| CtlError::Failed(format!("cannot write '{}': {error}", path.display()));
    // The collector runs as another user, so the file is readable for all.
    dir::replace_file(path, 0o644, text.as_bytes()).map_err(failed)?;
    outcome
}
