//! The answers to the requests that stock daemons do not have: JSON documents, each with the number of
//! its form in `format`. Fields may be added to a form; what changes a field's meaning gets a new number.

use super::super::server::{Access, Client};
use super::Requests;
use crate::cfs::{Cfs, GroupReport, Heard, News};
use crate::counts::KernelRequest;
use crate::dfsm::Mode;
use crate::memdb::{GuestKind, MemDb, TreePath};
use crate::status::clusterlog::record_text;
use serde_json::{Map, Value, json};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The number of the form of both documents.
const FORMAT: u32 = 1;
/// Longest wait for a change.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Changes in one answer; with paths as long as they can be, it is still shorter than a message may be.
const CHANGES_MAX: usize = 512;
/// Bytes of paths, keys and log entries in one answer; they can grow sixfold as JSON.
const CHANGES_BYTES_MAX: usize = 96 << 10;
/// Clients that are named; the others are counted.
const CLIENTS_MAX: usize = 1024;

impl Requests {
    /// What this daemon is and does. Who its clients are is for root.
    pub(super) fn daemon_status(&self, client: &Client) -> String {
        let cfs = &*self.cfs;
        let in_cluster = cfs.engine.is_replicated();
        let document = json!({
            "format": FORMAT,
            "daemon": {
                "version": env!("CARGO_PKG_VERSION"),
                "pid": std::process::id(),
                "uptime_seconds": cfs.clock.uptime().as_secs_f64(),
                "debug": cfs.is_debug(),
            },
            "node": {
                "name": cfs.node.name,
                "address": cfs.node.address.map(|address| address.to_string()),
                "mode": if in_cluster { "cluster" } else { "local" },
                "quorate": cfs.is_quorate(),
            },
            "tree": self.tree.get().map(|tree| json!({
                "mount_point": tree.path.to_string_lossy(),
                "device": tree.device,
            })),
            "database": database(cfs),
            "guests": guests(&cfs.engine.read()),
            "groups": in_cluster.then(|| json!({
                "database": group(&cfs.groups.database),
                "status": group(&cfs.groups.status),
            })),
            "kernel": kernel(cfs),
            "caches": caches(cfs),
            "ipc": self.ipc(client.access),
            "process": process(),
        });
        document.to_string()
    }

    fn ipc(&self, access: Access) -> Value {
        let mut requests: Map<String, Value> =
            self.counts.by_op().map(|(op, count)| (op.name(), count.into())).collect();
        requests.insert("unknown".to_owned(), self.counts.unknown().into());
        let mut document = json!({ "requests": requests, "failed": self.counts.failures() });
        let Some(traffic) = self.clients.get().and_then(|clients| clients.traffic()) else { return document };
        document["clients"] = traffic.clients.len().into();
        document["connects"] = traffic.connects.into();
        document["refused"] = traffic.refused.into();
        if access == Access::ReadWrite {
            let list = traffic.clients.iter().take(CLIENTS_MAX).map(|(client, requests)| {
                json!({
                    "pid": client.pid,
                    "uid": client.uid,
                    "gid": client.gid,
                    "access": if client.access == Access::ReadWrite { "rw" } else { "ro" },
                    "requests": requests,
                })
            });
            document["client_list"] = list.collect();
        }
        document
    }
}

fn database(cfs: &Cfs) -> Value {
    let (version, usage) = {
        let tree = cfs.engine.read();
        (tree.version(), tree.usage())
    };
    let (stats, sizes) = (cfs.engine.commit_stats(), cfs.engine.file_sizes());
    let loss = cfs.engine.file_loss();
    json!({
        "path": cfs.engine.path().to_string_lossy(),
        "version": version,
        "stored_version": cfs.engine.stored_version(),
        "writable": !cfs.engine.is_failed(),
        "file": loss.as_ref().map_or("in-place", |loss| loss.loss.word()),
        "rescued": loss.and_then(|loss| Some(loss.rescued?.to_string_lossy().into_owned())),
        "out_of_space": cfs.engine.is_out_of_space(),
        "entries": usage.entries,
        "blocks": usage.blocks,
        "file_bytes": sizes.database,
        "log_bytes": sizes.log,
        "commits": stats.commits,
        "rows": stats.rows,
        "row_bytes": stats.bytes,
        "failures": stats.failures,
    })
}

fn guests(tree: &MemDb) -> Value {
    let mut counts = GuestKind::ALL.map(|kind| (kind, 0u64));
    for (_, guest) in tree.guests().iter() {
        counts.iter_mut().filter(|(kind, _)| *kind == guest.kind).for_each(|(_, count)| *count += 1);
    }
    counts
        .into_iter()
        .map(|(kind, count)| (kind.as_str().to_owned(), count.into()))
        .collect::<Map<_, _>>()
        .into()
}

fn group(report: &GroupReport) -> Value {
    let state = report.state();
    let members = state.iter().flat_map(|state| &state.members);
    let members = members.map(|(id, synced)| json!({ "node": id.node, "pid": id.pid, "synced": synced }));
    json!({
        "mode": state.as_ref().map(|state| mode_name(state.mode)),
        "since": state.as_ref().map(|state| state.since),
        "epoch": state.as_ref().map(|state| json!({
            "node": state.epoch.node,
            "pid": state.epoch.pid,
            "time": state.epoch.time,
            "counter": state.epoch.counter,
        })),
        "members": members.collect::<Vec<Value>>(),
        "syncs": report.syncs.get(),
        "sent": report.sent.get(),
        "delivered": report.delivered.get(),
        "waiting": report.backlog(),
    })
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Start => "start",
        Mode::StartSync => "start_sync",
        Mode::Synced => "synced",
        Mode::Update => "update",
        Mode::Leave => "leave",
        Mode::VersionError => "version_error",
        Mode::Error => "error",
    }
}

fn kernel(cfs: &Cfs) -> Value {
    let count = |&kind: &KernelRequest| (kind.name().to_owned(), cfs.kernel.requests(kind).get().into());
    let requests: Map<String, Value> = KernelRequest::ALL.iter().map(count).collect();
    json!({ "requests": requests, "invalidations": cfs.kernel.invalidations.get() })
}

fn caches(cfs: &Cfs) -> Value {
    let counts = cfs.cache_counts().map(|(name, counts)| {
        (name.to_owned(), json!({ "hits": counts.hits.get(), "misses": counts.misses.get() }))
    });
    counts.into_iter().collect::<Map<_, _>>().into()
}

/// What the system counts of this process; null where it does not tell.
fn process() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (status, io) = (read("/proc/self/status"), read("/proc/self/io"));
    let open_files = std::fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    json!({
        "resident_bytes": field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
        "threads": field(&status, "Threads:"),
        "written_bytes": field(&io, "write_bytes:"),
        "open_files": open_files,
    })
}

/// What changed after `cursor`, once there is something, or nothing came for as long as asked. What is
/// private is not told to readers.
pub(super) fn changes(cfs: &Cfs, access: Access, cursor: u64, wait: Duration, gone: &AtomicBool) -> String {
    let heard = cfs.changes.wait_unless(gone, cursor, wait.min(WAIT_MAX), CHANGES_MAX);
    let Heard { mut cursor, lost, news } = heard;
    let mut events = Vec::new();
    let (mut bytes, count) = (0, news.len());
    for (done, news) in news.iter().enumerate() {
        if bytes > CHANGES_BYTES_MAX {
            // The rest is asked for again.
            cursor -= (count - done) as u64;
            break;
        }
        if let Some((event, size)) = event(cfs, access, news) {
            events.push(event);
            bytes += size;
        }
    }
    json!({ "format": FORMAT, "cursor": cursor, "lost": lost, "events": events }).to_string()
}

/// An event as JSON, and how many bytes from outside are in it; None if it is not for this client, or
/// what it was about is gone.
fn event(cfs: &Cfs, access: Access, news: &News) -> Option<(Value, usize)> {
    match news {
        News::Content(inode) => {
            let tree = cfs.engine.read();
            let path = tree.path_of(*inode)?;
            entry_event(&tree, access, "content", &path)
        }
        News::Attributes(inode) => {
            let tree = cfs.engine.read();
            let path = tree.path_of(*inode)?;
            entry_event(&tree, access, "attributes", &path)
        }
        News::Name(parent, name) => {
            let tree = cfs.engine.read();
            let path = tree.path_of(*parent)?.join(name);
            entry_event(&tree, access, "name", &path)
        }
        News::Quorum(quorate) => Some((json!({ "kind": "quorum", "quorate": quorate }), 0)),
        News::Members => Some((json!({ "kind": "members" }), 0)),
        News::Status { node, key } => {
            let size = node.len() + key.len();
            Some((json!({ "kind": "status", "node": node, "key": String::from_utf8_lossy(key) }), size))
        }
        News::Logged(entry) => {
            let text = record_text(&entry.record());
            let entry: Value = serde_json::from_str(&text).unwrap_or_default();
            Some((json!({ "kind": "log", "entry": entry }), text.len()))
        }
    }
}

fn entry_event(tree: &MemDb, access: Access, what: &str, path: &TreePath) -> Option<(Value, usize)> {
    if access == Access::ReadOnly && path.is_private() {
        return None;
    }
    let size = path.as_bytes().len();
    let mut event = json!({
        "kind": "tree",
        "change": what,
        "path": String::from_utf8_lossy(path.as_bytes()),
        "type": Value::Null,
    });
    if let Some(entry) = tree.resolve(path.as_bytes()) {
        event["type"] = if entry.is_dir() { "directory" } else { "file" }.into();
        event["size"] = entry.size().into();
        event["version"] = entry.version.into();
        event["writer"] = entry.writer.into();
        event["mtime"] = entry.mtime.into();
    }
    Some((event, size))
}
