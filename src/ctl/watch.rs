//! Changes as they happen. The daemon holds the request until there is one, so nothing is polled; when
//! it is restarted, it is looked for again every second, and what happened meanwhile is said to be unknown. A stock daemon does
//! not tell of changes: there the counters that it has are looked at once a second.

use super::daemon::{Daemon, NoAnswer};
use super::options::{Options, WatchFilter};
use super::text::{plain, shown, time};
use super::{CtlError, log};
use crate::clock::Clock;
use crate::ipc::ops::Op;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use versions::Counters;

mod versions;

/// How long the daemon holds a request to which there is no answer.
const WAIT: Duration = Duration::from_secs(25);
/// How often to look whether a daemon that is gone is back.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often the counters of a stock daemon are looked at.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(1);

/// What is printed, and how much of it was.
struct Watch<'a> {
    options: &'a Options,
    filter: &'a WatchFilter,
    out: &'a mut dyn Write,
    clock: Clock,
    printed: u64,
}

/// Up to where the changes of a daemon are known.
enum Known {
    Nothing,
    Cursor(u64),
    Counters(Counters),
}

pub(super) fn run(options: &Options, filter: &WatchFilter, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut daemon = Daemon::connect(options)?;
    let mut watch = Watch { options, filter, out, clock: Clock::start(), printed: 0 };
    let mut known = Known::Nothing;
    loop {
        match watch.look(&mut daemon, &mut known) {
            Ok(events) => {
                for event in &events {
                    if watch.event(event)? {
                        return Ok(());
                    }
                }
            }
            Err(CtlError::NotRunning { .. } | CtlError::TimedOut { .. }) => {
                watch.tell(&json!({ "kind": "disconnected" }))?;
                daemon = reconnect(options)?;
                watch.tell(&json!({ "kind": "connected" }))?;
            }
            Err(other) => return Err(other),
        }
    }
}

fn ask_counters(daemon: &mut Daemon<'_>) -> Result<Counters, CtlError> {
    Ok(versions::counters(&daemon.ask_json(Op::GetFsVersion, &[], "versions")?))
}

/// Waits until there is a daemon again.
fn reconnect(options: &Options) -> Result<Daemon<'_>, CtlError> {
    loop {
        std::thread::sleep(RETRY_INTERVAL);
        match Daemon::connect(options) {
            Err(CtlError::NotRunning { .. } | CtlError::TimedOut { .. }) => {}
            other => return other,
        }
    }
}

impl Watch<'_> {
    /// Waits for changes, for a while; remembers how far they are known then.
    fn look(&mut self, daemon: &mut Daemon<'_>, known: &mut Known) -> Result<Vec<Value>, CtlError> {
        let (cursor, wait) = match known {
            Known::Nothing => (0, Duration::ZERO),
            Known::Cursor(cursor) => (*cursor, WAIT),
            Known::Counters(before) => {
                std::thread::sleep(COUNTERS_INTERVAL);
                let now = ask_counters(daemon)?;
                return Ok(versions::events(&std::mem::replace(before, now), before));
            }
        };
        let answer = match daemon.changes(cursor, wait) {
            Ok(answer) => answer,
            Err(NoAnswer::Unknown) => {
                self.tell(&json!({ "kind": "connected", "counters_only": true }))?;
                *known = Known::Counters(ask_counters(daemon)?);
                return Ok(Vec::new());
            }
            Err(other) => return Err(other.into()),
        };
        if matches!(known, Known::Nothing) {
            self.tell(&json!({ "kind": "connected" }))?;
        }
        *known = Known::Cursor(answer["cursor"].as_u64().unwrap_or(0));
        if answer["lost"] == true {
            self.tell(&json!({ "kind": "lost" }))?;
        }
        Ok(answer["events"].as_array().cloned().unwrap_or_default())
    }

    /// Prints an event if it is wanted; true when enough were.
    fn event(&mut self, event: &Value) -> Result<bool, CtlError> {
        if self.filter.wants(event) {
            self.tell(event)?;
            self.printed += 1;
        }
        Ok(self.filter.count.is_some_and(|count| self.printed >= count))
    }

    fn tell(&mut self, event: &Value) -> Result<(), CtlError> {
        let now = self.clock.unix();
        if self.options.json {
            let mut event = event.clone();
            event["time"] = now.into();
            writeln!(self.out, "{event}")?;
        } else {
            writeln!(self.out, "{} {}", time(now), line(event))?;
        }
        Ok(self.out.flush()?)
    }
}

impl WatchFilter {
    fn wants(&self, event: &Value) -> bool {
        let kind = event["kind"].as_str().unwrap_or_default();
        let path = event["path"].as_str();
        let is_kind = self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind);
        // A path means what is below it, too.
        let below = |wanted: &String| {
            let wanted = wanted.trim_matches('/');
            let rest = path.and_then(|path| path.strip_prefix(wanted));
            rest.is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        is_kind && self.below.as_ref().is_none_or(below)
    }
}

/// An event as one line.
fn line(event: &Value) -> String {
    match event["kind"].as_str().unwrap_or_default() {
        "connected" if event["counters_only"] == true => {
            "watching what a stock daemon counts, once a second: some paths, guests, members and status"
                .to_owned()
        }
        "connected" => "watching".to_owned(),
        "guests" => "guests changed".to_owned(),
        "disconnected" => "the daemon is gone; waiting for it".to_owned(),
        "lost" => "some changes before this are not known".to_owned(),
        "quorum" if event["quorate"] == true => "quorum gained".to_owned(),
        "quorum" => "quorum lost".to_owned(),
        "members" => "members, who is online, or addresses changed".to_owned(),
        "status" => format!("status of {}: {}", shown(&event["node"]), shown(&event["key"])),
        "log" => format!("log: {}", log::line(&event["entry"])),
        "tree" => tree_line(event),
        other => plain(other),
    }
}

fn tree_line(event: &Value) -> String {
    let path = shown(&event["path"]);
    if event["change"] == "counted" {
        return format!("changed {path}");
    }
    let what = match (event["change"].as_str().unwrap_or_default(), event["type"].is_null()) {
        (_, true) => return format!("gone {path}"),
        ("name", false) => "new",
        ("attributes", false) => "attributes",
        _ => "written",
    };
    let writer = event["writer"].as_u64().filter(|writer| *writer != 0);
    let writer = writer.map(|writer| format!(", by node {writer}")).unwrap_or_default();
    let size = if event["type"] == "file" { format!("{} bytes, ", event["size"]) } else { String::new() };
    format!("{what} {path} ({size}version {}{writer})", event["version"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_is_below_them() {
        let filter =
            |below: &str| WatchFilter { kinds: Vec::new(), below: Some(below.to_owned()), count: None };
        let event = json!({ "kind": "tree", "path": "nodes/n1/lxc" });
        for below in ["", "/", "nodes", "/nodes/n1/", "nodes/n1/lxc"] {
            assert!(filter(below).wants(&event), "{below}");
        }
        for below in ["node", "nodes/n1/lx", "nodes/n1/lxc/100.conf"] {
            assert!(!filter(below).wants(&event), "{below}");
        }
        assert!(!filter("nodes").wants(&json!({ "kind": "quorum" })));
    }

    #[test]
    fn lines() {
        let event = json!({ "kind": "tree", "change": "content", "path": "a", "type": "file", "size": 3, "version": 7, "writer": 2 });
        assert_eq!(line(&event), "written a (3 bytes, version 7, by node 2)");
        let event = json!({ "kind": "tree", "change": "name", "path": "a\n", "type": null });
        assert_eq!(line(&event), "gone a\u{fffd}");
        assert_eq!(line(&json!({ "kind": "quorum", "quorate": false })), "quorum lost");
    }
}
