//! Changes as they happen. The daemon holds the request until there is one, so nothing is polled; when
//! it is restarted, it is looked for again every second, and what happened meanwhile is said to be unknown.

use super::daemon::{Daemon, NoAnswer};
use super::options::{Options, WatchFilter};
use super::text::{plain, shown, time};
use super::{CtlError, log};
use crate::clock::Clock;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// How long the daemon holds a request to which there is no answer.
const WAIT: Duration = Duration::from_secs(25);
/// How often to look whether a daemon that is gone is back.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What is printed, and how much of it was.
struct Watch<'a> {
    options: &'a Options,
    filter: &'a WatchFilter,
    out: &'a mut dyn Write,
    clock: Clock,
    printed: u64,
}

pub(super) fn run(options: &Options, filter: &WatchFilter, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut daemon = Daemon::connect(options)?;
    let mut watch = Watch { options, filter, out, clock: Clock::start(), printed: 0 };
    let mut cursor = 0;
    loop {
        let wait = if cursor == 0 { Duration::ZERO } else { WAIT };
        let answer = match daemon.changes(cursor, wait) {
            Ok(answer) => answer,
            Err(NoAnswer::Unknown) => return Err(CtlError::Unsupported("watch")),
            Err(NoAnswer::Other(CtlError::NotRunning { .. } | CtlError::TimedOut { .. })) => {
                watch.tell(&json!({ "kind": "disconnected" }))?;
                daemon = reconnect(options)?;
                watch.tell(&json!({ "kind": "connected" }))?;
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        if cursor == 0 {
            watch.tell(&json!({ "kind": "connected" }))?;
        }
        cursor = answer["cursor"].as_u64().unwrap_or(0);
        if answer["lost"] == true {
            watch.tell(&json!({ "kind": "lost" }))?;
        }
        for event in answer["events"].as_array().into_iter().flatten() {
            if watch.event(event)? {
                return Ok(());
            }
        }
        watch.out.flush()?;
    }
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
        "connected" => "watching".to_owned(),
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
