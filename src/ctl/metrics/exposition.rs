//! From the status document to samples, and to Prometheus' text format. What is not known is no sample.

use serde_json::{Map, Value, json};

/// Everything begins with this.
const PREFIX: &str = "pmxcfs_";

/// One name, with what it means and its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// Labels, and the value with them.
    values: Vec<(Vec<(&'static str, String)>, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

impl Metric {
    fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self { name, kind, help, values: Vec::new() }
    }

    /// With the value that stands there in a document, if one does.
    fn with(self, value: &Value) -> Self {
        self.labelled(Vec::new(), value)
    }

    fn labelled(mut self, labels: Vec<(&'static str, String)>, value: &Value) -> Self {
        let value = value.as_f64().or_else(|| value.as_bool().map(|yes| f64::from(u8::from(yes))));
        if let Some(value) = value {
            self.values.push((labels, value));
        }
        self
    }

    /// With all values of an object, by their names.
    fn by(self, label: &'static str, values: &Value) -> Self {
        let all = values.as_object().into_iter().flatten();
        all.fold(self, |metric, (name, value)| metric.labelled(vec![(label, name.clone())], value))
    }
}

fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric::new(Kind::Counter, name, help)
}

fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric::new(Kind::Gauge, name, help)
}

/// That there is no answer.
pub(super) fn down() -> Vec<Metric> {
    vec![gauge("up", "Whether the daemon answers.").with(&json!(0))]
}

/// All that a status document says.
pub(super) fn samples(status: &Value) -> Vec<Metric> {
    let own = &status["daemon"];
    let mut all = node(status);
    all.extend(database(&own["database"]));
    all.extend(groups(&own["groups"]));
    all.extend(requests(own));
    all.extend(process(&own["process"]));
    all.retain(|metric| !metric.values.is_empty());
    all
}

fn node(status: &Value) -> Vec<Metric> {
    let (own, members) = (&status["daemon"], &status["members"]);
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let labels = vec![
        ("node", text(&members["nodename"])),
        ("version", text(&own["daemon"]["version"])),
        ("mode", mode(status)),
    ];
    let nodes = members["nodelist"].as_object().into_iter().flatten();
    let online = nodes
        .fold(gauge("node_online", "Whether a node of the cluster is online."), |metric, (name, node)| {
            metric.labelled(vec![("node", name.clone())], &node["online"])
        });
    let quorate = match &own["node"]["quorate"] {
        Value::Null => &members["cluster"]["quorate"],
        known => known,
    };
    let versions: Map<String, Value> = status["versions"].as_object().cloned().unwrap_or_default();
    let paths =
        versions.into_iter().filter(|(name, _)| !matches!(name.as_str(), "starttime" | "kvstore")).collect();
    vec![
        gauge("up", "Whether the daemon answers.").with(&json!(1)),
        gauge("info", "What runs where; the value is always 1.").labelled(labels, &json!(1)),
        gauge("start_time_seconds", "When the daemon started, in seconds since 1970.")
            .with(&status["versions"]["starttime"]),
        gauge("tree_mounted", "Whether the tree is mounted.").with(&status["tree"]["mounted"]),
        gauge("quorate", "Whether the node has quorum: the tree can be written.").with(quorate),
        gauge("nodes", "Nodes in the cluster's configuration.").with(&members["cluster"]["nodes"]),
        gauge("config_version", "Version of the cluster's configuration.")
            .with(&members["cluster"]["version"]),
        online,
        gauge("guests", "Guests of the cluster, by type.").by("type", &status["guests"]),
        counter("changes_total", "Changes of what clients watch, since the daemon started.")
            .by("path", &Value::Object(paths)),
    ]
}

fn mode(status: &Value) -> String {
    let in_cluster = status["members"]["cluster"].is_object();
    let own = status["daemon"]["node"]["mode"].as_str();
    own.unwrap_or(if in_cluster { "cluster" } else { "local" }).to_owned()
}

fn database(database: &Value) -> Vec<Metric> {
    vec![
        gauge("database_version", "Version of the database in memory.").with(&database["version"]),
        gauge("database_stored_version", "Version of the database on disk.")
            .with(&database["stored_version"]),
        gauge("database_writable", "Whether the last commit succeeded.").with(&database["writable"]),
        gauge("database_file_in_place", "Whether the path of the database leads to the file in use.")
            .with(&file_in_place(&database["file"])),
        gauge("database_out_of_space", "Whether it failed because the file system is full.")
            .with(&database["out_of_space"]),
        gauge("database_entries", "Files and directories.").with(&database["entries"]),
        gauge("database_blocks", "Blocks of 4096 bytes in use, of 32768.").with(&database["blocks"]),
        gauge("database_file_bytes", "Size of the database file.").with(&database["file_bytes"]),
        gauge("database_log_bytes", "Size of its write-ahead log.").with(&database["log_bytes"]),
        counter("database_commits_total", "Transactions on disk.").with(&database["commits"]),
        counter("database_rows_total", "Rows stored by them.").with(&database["rows"]),
        counter("database_row_bytes_total", "Bytes of files in these rows.").with(&database["row_bytes"]),
        counter("database_commit_failures_total", "Transactions that failed.").with(&database["failures"]),
    ]
}

fn file_in_place(file: &Value) -> Value {
    file.as_str().map_or(Value::Null, |word| (word == "in-place").into())
}

/// A metric of both groups.
fn of_groups(metric: Metric, groups: &Value, value: impl Fn(&Value) -> Value) -> Metric {
    let all = groups.as_object().into_iter().flatten();
    all.fold(metric, |metric, (name, group)| metric.labelled(vec![("group", name.clone())], &value(group)))
}

fn groups(groups: &Value) -> Vec<Metric> {
    let members = |group: &Value| group["members"].as_array().cloned().unwrap_or_default();
    let synced = |group: &Value| members(group).iter().filter(|member| member["synced"] == true).count();
    let is_synced = |group: &Value| json!(group["mode"] == "synced");
    let modes = groups.as_object().into_iter().flatten().fold(
        gauge("group_mode", "What the node does in a process group; the value is always 1."),
        |metric, (name, group)| {
            let mode = group["mode"].as_str().unwrap_or("unknown").to_owned();
            metric.labelled(vec![("group", name.clone()), ("mode", mode)], &json!(1))
        },
    );
    vec![
        modes,
        of_groups(gauge("group_synced", "Whether the node has what the group has."), groups, is_synced),
        of_groups(gauge("group_members", "Members of a process group."), groups, |group| {
            members(group).len().into()
        }),
        of_groups(gauge("group_members_synced", "Members with the same data."), groups, |group| {
            synced(group).into()
        }),
        of_groups(
            gauge("group_messages_waiting", "Messages that corosync has not taken."),
            groups,
            |group| group["waiting"].clone(),
        ),
        of_groups(counter("group_syncs_total", "Rounds of synchronisation."), groups, |group| {
            group["syncs"].clone()
        }),
        of_groups(counter("group_messages_sent_total", "Messages sent."), groups, |group| {
            group["sent"].clone()
        }),
        of_groups(
            counter("group_messages_received_total", "Messages delivered, own ones included."),
            groups,
            |group| group["delivered"].clone(),
        ),
    ]
}

fn requests(own: &Value) -> Vec<Metric> {
    let (kernel, ipc) = (&own["kernel"], &own["ipc"]);
    let cache = |metric: Metric, name: &str| {
        let all = own["caches"].as_object().into_iter().flatten();
        all.fold(metric, |metric, (cache, counts)| {
            metric.labelled(vec![("cache", cache.clone())], &counts[name])
        })
    };
    vec![
        cache(counter("cache_hits_total", "Kept answers that were still right."), "hits"),
        cache(counter("cache_misses_total", "Kept answers that had to be made."), "misses"),
        counter("kernel_requests_total", "Requests of the kernel, by kind.")
            .by("request", &kernel["requests"]),
        counter("kernel_invalidations_total", "Things that the kernel was told to drop from its caches.")
            .with(&kernel["invalidations"]),
        counter("ipc_requests_total", "Requests of clients, by kind.").by("request", &ipc["requests"]),
        counter("ipc_failures_total", "Requests of clients that got an error.").with(&ipc["failed"]),
        gauge("ipc_clients", "Clients that are connected.").with(&ipc["clients"]),
        counter("ipc_connects_total", "Clients that were admitted.").with(&ipc["connects"]),
        counter("ipc_refused_total", "Clients that were not.").with(&ipc["refused"]),
    ]
}

fn process(process: &Value) -> Vec<Metric> {
    vec![
        gauge("process_resident_memory_bytes", "Memory in use.").with(&process["resident_bytes"]),
        counter("process_written_bytes_total", "Bytes that the process had written to disk.")
            .with(&process["written_bytes"]),
        gauge("process_threads", "Threads.").with(&process["threads"]),
        gauge("process_open_fds", "Open files.").with(&process["open_files"]),
    ]
}

/// The text format, version 0.0.4.
pub(super) fn text(metrics: &[Metric]) -> String {
    let mut out = String::new();
    for Metric { name, kind, help, values } in metrics {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        out.push_str(&format!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
        for (labels, value) in values {
            let labels: Vec<String> =
                labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            out.push_str(&format!("{PREFIX}{name}{labels} {value}\n"));
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The same as JSON: a list of samples.
pub(super) fn as_json(metrics: &[Metric]) -> Value {
    let samples = metrics.iter().flat_map(|metric| {
        metric.values.iter().map(|(labels, value)| {
            let labels: Map<String, Value> =
                labels.iter().map(|(label, text)| ((*label).to_owned(), text.as_str().into())).collect();
            json!({ "name": format!("{PREFIX}{}", metric.name), "labels": labels, "value": value })
        })
    });
    samples.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_no_sample() {
        let stock = json!({
            "members": { "nodename": "n1", "version": 1 },
            "versions": { "starttime": 5, "vmlist": 2, "kvstore": { "n1": {} } },
            "guests": { "qemu": 2 },
            "tree": { "mounted": true },
            "daemon": null,
        });
        let text = text(&samples(&stock));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "pmxcfs_up 1",
                "pmxcfs_info{node=\"n1\",version=\"unknown\",mode=\"local\"} 1",
                "pmxcfs_start_time_seconds 5",
                "pmxcfs_tree_mounted 1",
                "pmxcfs_guests{type=\"qemu\"} 2",
                "pmxcfs_changes_total{path=\"vmlist\"} 2",
            ]
        );
    }

    #[test]
    fn labels_are_escaped_and_numbers_whole() {
        let metric = gauge("x", "X.").labelled(vec![("a", "q\"\\\n".to_owned())], &json!(1u64 << 40));
        assert_eq!(
            text(&[metric]),
            "# HELP pmxcfs_x X.\n# TYPE pmxcfs_x gauge\npmxcfs_x{a=\"q\\\"\\\\\\n\"} 1099511627776\n"
        );
    }

    #[test]
    fn groups_have_their_modes() {
        let member = |synced: bool| json!({ "node": 1, "pid": 1, "synced": synced });
        let status = json!({ "daemon": { "groups": { "database": { "mode": "update", "members": [member(true), member(false)], "sent": 3 } } } });
        let text = text(&samples(&status));
        for line in [
            "pmxcfs_group_mode{group=\"database\",mode=\"update\"} 1",
            "pmxcfs_group_synced{group=\"database\"} 0",
            "pmxcfs_group_members{group=\"database\"} 2",
            "pmxcfs_group_members_synced{group=\"database\"} 1",
            "pmxcfs_group_messages_sent_total{group=\"database\"} 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
