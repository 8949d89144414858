//! The status document as text: one line for each part, then tables.

use crate::ctl::text::{UNKNOWN, bytes, duration, plain, shown, table, time};
use serde_json::Value;
use std::io::{self, Write};

/// Requests that are named, of each sort.
const NAMED_MAX: usize = 6;

pub(super) fn print(out: &mut dyn Write, status: &Value) -> io::Result<()> {
    let own = &status["daemon"];
    let lines = [
        ("node", node(status)),
        ("daemon", daemon(status)),
        ("tree", tree(status)),
        ("cluster", cluster(&status["members"])),
        ("database", database(&own["database"])),
        ("commits", commits(&own["database"])),
        ("database group", group(own, "database")),
        ("status group", group(own, "status")),
        ("guests", guests(&status["guests"])),
        ("kernel", kernel(own, &status["rates"])),
        ("caches", caches(&own["caches"])),
        ("clients", clients(own, &status["rates"])),
        ("process", process(&own["process"])),
        ("versions", versions(&status["versions"])),
    ];
    let rows: Vec<Vec<String>> = lines.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
    table(out, &rows)?;
    print_members(out, &status["members"])?;
    print_clients(out, &own["ipc"]["client_list"])
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn amount(value: &Value) -> String {
    value.as_u64().map_or_else(|| UNKNOWN.to_owned(), bytes)
}

fn at(value: &Value) -> String {
    let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
    seconds.map_or_else(|| UNKNOWN.to_owned(), time)
}

fn node(status: &Value) -> String {
    let (members, own) = (&status["members"], &status["daemon"]["node"]);
    let name = shown(&members["nodename"]);
    let in_cluster = members["cluster"].is_object();
    let quorate = match (own["quorate"].as_bool(), number(&members["cluster"]["quorate"])) {
        (Some(true), _) | (None, 1) => "quorate: the tree can be written",
        (Some(false), _) => "NOT quorate: the tree is read-only",
        (None, _) if in_cluster => "NOT quorate: the tree is read-only",
        (None, _) => "quorum unknown",
    };
    let address = own["address"].as_str().map(|address| format!(" ({})", plain(address))).unwrap_or_default();
    let mode = own["mode"].as_str().unwrap_or(if in_cluster { "cluster" } else { "local" });
    format!("{name}{address}, {} mode, {quorate}", plain(mode))
}

fn daemon(status: &Value) -> String {
    let (own, started) = (&status["daemon"]["daemon"], at(&status["versions"]["starttime"]));
    let process = format!("process {}, service {}", status["pid"], shown(&status["service"]));
    if own.is_null() {
        return format!(
            "stock pmxcfs or another, {process}, since {started}; it does not tell more of itself"
        );
    }
    let up = duration(own["uptime_seconds"].as_f64().unwrap_or(0.0) as u64);
    let debug = if own["debug"] == true { ", logs debug messages" } else { "" };
    format!("pmxcfs {}, {process}, since {started} ({up}){debug}", shown(&own["version"]))
}

fn tree(status: &Value) -> String {
    let (tree, reported) = (&status["tree"], &status["daemon"]["tree"]["mount_point"]);
    let path = shown(&tree["path"]);
    match (tree["mounted"].as_bool(), tree["covered_by"].as_str()) {
        (Some(true), _) => format!("mounted at {path}"),
        (None, _) => format!("perhaps mounted at {path}"),
        (Some(false), Some(kind)) => {
            format!("NOT mounted at {path}: another file system ({}) is mounted there", plain(kind))
        }
        (Some(false), None) if reported.is_string() && *reported != tree["path"] => {
            format!("NOT mounted at {path}: this daemon mounted it at {}", shown(reported))
        }
        (Some(false), None) => format!("NOT mounted at {path}"),
    }
}

fn cluster(members: &Value) -> String {
    let cluster = &members["cluster"];
    if cluster.is_null() {
        return "none".to_owned();
    }
    let nodes = members["nodelist"].as_object();
    let online = nodes.into_iter().flatten().filter(|(_, node)| node["online"] == 1).count();
    let (name, version) = (shown(&cluster["name"]), &cluster["version"]);
    format!("{name}, configuration {version}, {online} of {} nodes online", cluster["nodes"])
}

fn database(database: &Value) -> String {
    if database.is_null() {
        return UNKNOWN.to_owned();
    }
    let (version, stored) = (number(&database["version"]), number(&database["stored_version"]));
    let on_disk = if stored >= version { "on disk".to_owned() } else { format!("{stored} on disk") };
    let failed = match super::lost_file(database) {
        Some(lost) => format!(", {lost}"),
        None if database["writable"] != false => String::new(),
        None if database["out_of_space"] == true => {
            ", CANNOT BE WRITTEN (no space left on its file system)".to_owned()
        }
        None => ", CANNOT BE WRITTEN (see the log)".to_owned(),
    };
    format!(
        "version {version} ({on_disk}), {} entries, {} and {} of log{failed}",
        database["entries"],
        amount(&database["file_bytes"]),
        amount(&database["log_bytes"])
    )
}

fn commits(database: &Value) -> String {
    if database.is_null() {
        return UNKNOWN.to_owned();
    }
    let (commits, rows, failures) = (&database["commits"], &database["rows"], &database["failures"]);
    format!("{commits} with {rows} rows of {}, {failures} failed", amount(&database["row_bytes"]))
}

fn group(own: &Value, name: &str) -> String {
    if own.is_null() {
        return UNKNOWN.to_owned();
    }
    let group = &own["groups"][name];
    if group.is_null() {
        return "none: local mode".to_owned();
    }
    let members = group["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let synced = members.iter().filter(|member| member["synced"] == true).count();
    let (mode, epoch) = (shown(&group["mode"]), &group["epoch"]);
    let waiting = match number(&group["waiting"]) {
        0 => String::new(),
        waiting => format!(", {waiting} messages wait to be sent"),
    };
    format!(
        "{mode} since {}, {synced} of {} members synced, epoch {}/{}/{:08X}, {} rounds, {} messages sent, {} received{waiting}",
        at(&group["since"]),
        members.len(),
        epoch["node"],
        epoch["pid"],
        number(&epoch["counter"]),
        group["syncs"],
        group["sent"],
        group["delivered"],
    )
}

fn guests(guests: &Value) -> String {
    let counts: Vec<(String, u64)> =
        guests.as_object().into_iter().flatten().map(|(kind, count)| (kind.clone(), number(count))).collect();
    let sum: u64 = counts.iter().map(|(_, count)| count).sum();
    let kinds: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    if kinds.is_empty() { "none".to_owned() } else { format!("{sum}: {}", kinds.join(", ")) }
}

/// How many requests there were, and the most frequent of them.
fn requests(counts: &Value) -> String {
    let all = counts.as_object().into_iter().flatten();
    let mut counts: Vec<(&String, u64)> = all.map(|(name, count)| (name, number(count))).collect();
    let sum: u64 = counts.iter().map(|(_, count)| count).sum();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = counts.iter().filter(|(_, count)| *count > 0).take(NAMED_MAX);
    let named: Vec<String> = named.map(|(name, count)| format!("{} {count}", plain(name))).collect();
    if named.is_empty() { "0 requests".to_owned() } else { format!("{sum} requests ({})", named.join(", ")) }
}

fn rate(rates: &Value, name: &str) -> String {
    rates[name].as_f64().map_or_else(|| UNKNOWN.to_owned(), |rate| format!("{rate:.1}/s"))
}

fn kernel(own: &Value, rates: &Value) -> String {
    if own.is_null() {
        return UNKNOWN.to_owned();
    }
    let kernel = &own["kernel"];
    format!(
        "{}, {}; {} invalidations of its caches",
        requests(&kernel["requests"]),
        rate(rates, "kernel_requests"),
        kernel["invalidations"]
    )
}

fn caches(caches: &Value) -> String {
    let all = caches.as_object().into_iter().flatten();
    let shown = all.map(|(name, counts)| {
        let (hits, misses) = (number(&counts["hits"]), number(&counts["misses"]));
        format!("{} {hits} of {}", plain(name), hits + misses)
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { UNKNOWN.to_owned() } else { format!("used again: {}", shown.join(", ")) }
}

fn clients(own: &Value, rates: &Value) -> String {
    if own.is_null() {
        return UNKNOWN.to_owned();
    }
    let ipc = &own["ipc"];
    format!(
        "{} now, {} connects, {} refused; {}, {}, {} failed",
        shown(&ipc["clients"]),
        shown(&ipc["connects"]),
        shown(&ipc["refused"]),
        requests(&ipc["requests"]),
        rate(rates, "ipc_requests"),
        ipc["failed"]
    )
}

fn process(process: &Value) -> String {
    if process.is_null() {
        return UNKNOWN.to_owned();
    }
    format!(
        "{} of memory, {} written, {} threads, {} open files",
        amount(&process["resident_bytes"]),
        amount(&process["written_bytes"]),
        shown(&process["threads"]),
        shown(&process["open_files"])
    )
}

/// The counters of the paths that changed since the start, when they are 1 or 0.
fn versions(versions: &Value) -> String {
    let is_path = |name: &str| !matches!(name, "starttime" | "kvstore");
    let all = versions.as_object().into_iter().flatten();
    let changed = all.filter(|(name, count)| is_path(name) && number(count) > 1);
    let named: Vec<String> = changed.map(|(name, count)| format!("{} {count}", plain(name))).collect();
    if named.is_empty() { "nothing changed since the start".to_owned() } else { named.join(", ") }
}

fn print_members(out: &mut dyn Write, members: &Value) -> io::Result<()> {
    let Some(nodes) = members["nodelist"].as_object() else { return Ok(()) };
    let mut nodes: Vec<(&String, &Value)> = nodes.iter().collect();
    nodes.sort_by_key(|(_, node)| number(&node["id"]));
    let mut rows = vec![["ID", "NODE", "STATE", "ADDRESS"].map(str::to_owned).to_vec()];
    for (name, node) in nodes {
        let state = if node["online"] == 1 { "online" } else { "offline" };
        rows.push(vec![node["id"].to_string(), plain(name), state.to_owned(), shown(&node["ip"])]);
    }
    writeln!(out)?;
    table(out, &rows)
}

fn print_clients(out: &mut dyn Write, clients: &Value) -> io::Result<()> {
    let Some(clients) = clients.as_array() else { return Ok(()) };
    let mut rows = vec![["PID", "UID", "GID", "ACCESS", "REQUESTS", "PROGRAM"].map(str::to_owned).to_vec()];
    for client in clients {
        let mut row: Vec<String> =
            ["pid", "uid", "gid", "access", "requests"].map(|name| shown(&client[name])).to_vec();
        row.push(program(&client["pid"]));
        rows.push(row);
    }
    writeln!(out)?;
    table(out, &rows)
}

/// What runs as a process, if it can be seen.
fn program(pid: &Value) -> String {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", number(pid)));
    name.map(|name| plain(name.trim_end())).unwrap_or_default()
}
