//! Everything about a node at a glance: what all daemons tell (versions, members, guests), and what only
//! this project's daemon does.

use super::CtlError;
use super::daemon::Daemon;
use super::options::Options;
use super::text::{plain, print_json};
use crate::ipc::ops::Op;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::time::Duration;

mod print;
mod tree;

/// The number of the form of the document.
const FORMAT: u32 = 1;

pub(super) fn run(
    options: &Options,
    interval: Option<Duration>,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let mut daemon = Daemon::connect(options)?;
    let before = match interval {
        Some(interval) => {
            let before = daemon.status()?.ok_or(CtlError::Unsupported("--interval"))?;
            std::thread::sleep(interval);
            before
        }
        None => Value::Null,
    };
    let mut status = gather(&mut daemon, options)?;
    status["rates"] = rates(&before, &status["daemon"]);
    if options.json {
        print_json(out, &status)?;
    } else {
        print::print(out, &status)?;
    }
    match lost_file(&status["daemon"]["database"]) {
        Some(lost) => Err(CtlError::FileLost(lost)),
        None => Ok(()),
    }
}

/// Loss of the daemon's database file, with the path of the copy of its tree; `None` while its path leads
/// to it, and for daemons that do not report it.
fn lost_file(database: &Value) -> Option<String> {
    let word = database["file"].as_str().filter(|word| *word != "in-place")?;
    let copy = match database["rescued"].as_str() {
        Some(path) => format!("copy saved in '{}'", plain(path)),
        None => "no copy saved".to_owned(),
    };
    Some(format!("FILE LOST ({}): changes are refused, {copy} (see the log)", plain(word)))
}

/// The status as one document. `daemon` is null if it is a stock one.
pub(super) fn gather(daemon: &mut Daemon<'_>, options: &Options) -> Result<Value, CtlError> {
    let own = daemon.status()?;
    let list = daemon.ask_json(Op::GetGuestList, &[], "the guest list")?;
    Ok(json!({
        "format": FORMAT,
        "service": options.service,
        "pid": daemon.process().pid,
        "tree": tree::tree(options.mount.as_deref(), own.as_ref().unwrap_or(&Value::Null)),
        "versions": daemon.ask_json(Op::GetFsVersion, &[], "versions")?,
        "members": daemon.ask_json(Op::GetClusterInfo, &[], "members")?,
        "guests": count_guests(&list["ids"]),
        "daemon": own,
    }))
}

fn count_guests(ids: &Value) -> Value {
    let mut counts = Map::new();
    for kind in ["qemu", "lxc", "openvz"] {
        let all = ids.as_object().into_iter().flatten();
        counts.insert(kind.to_owned(), all.filter(|(_, guest)| guest["type"] == kind).count().into());
    }
    counts.into()
}

/// What happened each second between two reports; since the start if the first is null.
fn rates(before: &Value, now: &Value) -> Value {
    let sum = |requests: &Value| -> f64 {
        requests.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum()
    };
    let number =
        |report: &Value, pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let seconds = number(now, "/daemon/uptime_seconds") - number(before, "/daemon/uptime_seconds");
    if now.is_null() || seconds <= 0.0 {
        return Value::Null;
    }
    let rate = |amount: f64| (amount / seconds * 1000.0).round() / 1000.0;
    let of = |pointer: &str| rate(number(now, pointer) - number(before, pointer));
    let of_all = |pointer: &str| {
        let all = |report: &Value| report.pointer(pointer).map_or(0.0, sum);
        rate(all(now) - all(before))
    };
    json!({
        "seconds": seconds,
        "kernel_requests": of_all("/kernel/requests"),
        "invalidations": of("/kernel/invalidations"),
        "ipc_requests": of_all("/ipc/requests"),
        "commits": of("/database/commits"),
        "row_bytes": of("/database/row_bytes"),
        "written_bytes": of("/process/written_bytes"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between() {
        let report = |uptime: f64, lookups: u64, commits: u64| {
            json!({
                "daemon": { "uptime_seconds": uptime },
                "kernel": { "requests": { "lookup": lookups, "read": 10 }, "invalidations": 0 },
                "ipc": { "requests": {} },
                "database": { "commits": commits, "row_bytes": 0 },
                "process": { "written_bytes": null },
            })
        };
        let rates_since = rates(&Value::Null, &report(20.0, 30, 5));
        assert_eq!((&rates_since["kernel_requests"], &rates_since["commits"]), (&json!(2.0), &json!(0.25)));
        let between = rates(&report(20.0, 30, 5), &report(22.0, 34, 5));
        assert_eq!((&between["kernel_requests"], &between["commits"]), (&json!(2.0), &json!(0.0)));
        assert_eq!(rates(&Value::Null, &Value::Null), Value::Null);
    }
}
