//! The cluster log.

use super::CtlError;
use super::daemon::Daemon;
use super::options::{LogFilter, Options};
use super::text::{plain, print_json, shown, time};
use crate::ipc::calls;
use crate::ipc::ops::Op;
use serde_json::Value;
use std::io::Write;

/// Syslog's names of priorities.
const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

pub(super) fn run(options: &Options, filter: &LogFilter, out: &mut dyn Write) -> Result<(), CtlError> {
    let body = calls::get_cluster_log(filter.entries, filter.user.as_bytes());
    let body = body.map_err(|error| CtlError::Usage(error.to_string()))?;
    let log = Daemon::connect(options)?.ask_json(Op::GetClusterLog, &body, "the cluster log")?;
    let mut entries = log["data"].as_array().cloned().unwrap_or_default();
    entries.reverse();
    if options.json {
        return Ok(print_json(out, &Value::Array(entries))?);
    }
    for entry in &entries {
        writeln!(out, "{}", line(entry))?;
    }
    Ok(())
}

/// An entry as one line.
pub(super) fn line(entry: &Value) -> String {
    let seconds = entry["time"].as_u64().and_then(|time| u32::try_from(time).ok());
    let priority = entry["pri"].as_u64().and_then(|number| PRIORITIES.get(usize::try_from(number).ok()?));
    format!(
        "{} {} {} {}[{}] {}: {}",
        seconds.map_or_else(String::new, time),
        shown(&entry["node"]),
        shown(&entry["user"]),
        shown(&entry["tag"]),
        entry["pid"],
        priority.unwrap_or(&"?"),
        plain(entry["msg"].as_str().unwrap_or_default()),
    )
}
