//! The generated texts `.version`, `.members` and `.vmlist`, in the stock daemon's format. Each is
//! built anew from values that are handed in; caching is up to the caller.

use super::Status;
use super::json::{push_number, push_string};
use super::members::Member;
use super::values::KeyValues;

/// One guest of the guest list.
#[derive(Debug, Clone, Copy)]
pub struct GuestLine<'a> {
    pub vmid: u32,
    pub node: &'a [u8],
    /// `qemu`, `openvz` or `lxc`.
    pub kind: &'a str,
    pub version: u32,
}

impl Status {
    /// The `.version` text. `vmlist` is the counter of the guest list, `watched` the counters of the
    /// watched paths in their order.
    pub fn version_text<'a>(&self, vmlist: u64, watched: impl IntoIterator<Item = (&'a str, u64)>) -> String {
        let mut out = String::with_capacity(2048);
        out.push_str("{\n");
        push_counter(&mut out, b"starttime", u64::from(self.start_time));
        push_counter(&mut out, b"clinfo", u64::from(self.cluster_info_version));
        push_counter(&mut out, b"vmlist", vmlist);
        for (path, version) in watched {
            push_counter(&mut out, path.as_bytes(), version);
        }
        out.push_str("\"kvstore\": {\n");
        push_key_versions(&mut out, &self.node, &self.own);
        for member in self.members.iter().flat_map(|members| members.iter()) {
            if let Some(values) = &member.values {
                out.push_str(",\n");
                push_key_versions(&mut out, &member.node.name, values);
            }
        }
        out.push_str("}\n}\n");
        out
    }

    /// The `.members` text.
    pub fn members_text(&self) -> String {
        let mut out = String::with_capacity(1024);
        out.push_str("{\n\"nodename\": ");
        push_string(&mut out, self.node.as_bytes());
        out.push_str(",\n\"version\": ");
        push_number(&mut out, u64::from(self.cluster_info_version));
        if let Some(members) = self.members.as_ref().filter(|members| members.len() > 0) {
            out.push_str(",\n\"cluster\": { \"name\": ");
            push_string(&mut out, members.cluster_name.as_bytes());
            out.push_str(", \"version\": ");
            push_number(&mut out, members.config_version);
            out.push_str(", \"nodes\": ");
            push_number(&mut out, members.len() as u64);
            out.push_str(", \"quorate\": ");
            push_number(&mut out, u64::from(self.quorate));
            out.push_str(" },\n\"nodelist\": {\n");
            for (index, member) in members.iter().enumerate() {
                out.push_str(if index > 0 { ",\n" } else { "" });
                self.push_member(&mut out, member);
            }
            out.push_str("\n  }");
        }
        out.push_str("\n}\n");
        out
    }

    fn push_member(&self, out: &mut String, member: &Member) {
        out.push_str("  ");
        push_string(out, member.node.name.as_bytes());
        out.push_str(": { \"id\": ");
        push_number(out, u64::from(member.node.id));
        out.push_str(", \"online\": ");
        push_number(out, u64::from(member.online));
        if let Some(address) = self.address(&member.node.name) {
            out.push_str(", \"ip\": ");
            push_string(out, address);
        }
        out.push('}');
    }
}

/// The `.vmlist` text. `version` is the counter of the guest list.
pub fn vmlist_text<'a>(version: u64, guests: impl IntoIterator<Item = GuestLine<'a>>) -> String {
    let mut guests = guests.into_iter().peekable();
    let mut out = String::with_capacity(64 + guests.size_hint().0 * 72);
    out.push_str("{\n\"version\": ");
    push_number(&mut out, version);
    if guests.peek().is_none() {
        out.push_str("\n\n}\n");
        return out;
    }
    out.push_str(",\n\"ids\": {\n");
    let mut separator = "\"";
    for guest in guests {
        out.push_str(separator);
        separator = ",\n\"";
        push_number(&mut out, u64::from(guest.vmid));
        out.push_str("\": { \"node\": ");
        push_string(&mut out, guest.node);
        out.push_str(", \"type\": ");
        push_string(&mut out, guest.kind.as_bytes());
        out.push_str(", \"version\": ");
        push_number(&mut out, u64::from(guest.version));
        out.push_str(" }");
    }
    out.push_str("}\n\n}\n");
    out
}

fn push_counter(out: &mut String, name: &[u8], value: u64) {
    push_string(out, name);
    out.push_str(": ");
    push_number(out, value);
    out.push_str(",\n");
}

fn push_key_versions(out: &mut String, node: &str, values: &KeyValues) {
    push_string(out, node.as_bytes());
    out.push_str(": {\n");
    for (index, (key, version)) in values.versions().enumerate() {
        out.push_str(if index > 0 { ",\n" } else { "" });
        push_string(out, key);
        out.push_str(": ");
        push_number(out, u64::from(version));
    }
    out.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ClusterInfo, ClusterNode};
    use serde_json::{Value, json};
    use std::time::Duration;

    const NOW: Duration = Duration::ZERO;

    fn cluster() -> Status {
        let mut status = Status::new("n1", 1_795_359_929, 1);
        let node = |id: u32| ClusterNode { id, name: format!("n{id}"), votes: 1 };
        status.set_cluster(ClusterInfo {
            name: "testcl".to_owned(),
            config_version: 3,
            nodes: (1..=3).map(node).collect(),
        });
        status.set_online(&[1, 2, 3]);
        status.set_quorate(true);
        status.set(b"nodeip", b"10.77.0.1\0", NOW).unwrap();
        status.set_peer(2, b"nodeip", b"10.77.0.2\0", NOW).unwrap();
        status.set_peer(3, b"nodeip", b"10.77.0.3\0", NOW).unwrap();
        status.set_online(&[1, 2, 3]);
        status
    }

    /// As recorded.
    #[test]
    fn members_of_a_cluster() {
        assert_eq!(
            cluster().members_text(),
            "{\n\"nodename\": \"n1\",\n\"version\": 6,\n\
             \"cluster\": { \"name\": \"testcl\", \"version\": 3, \"nodes\": 3, \"quorate\": 1 },\n\
             \"nodelist\": {\n  \
             \"n1\": { \"id\": 1, \"online\": 1, \"ip\": \"10.77.0.1\"},\n  \
             \"n2\": { \"id\": 2, \"online\": 1, \"ip\": \"10.77.0.2\"},\n  \
             \"n3\": { \"id\": 3, \"online\": 1, \"ip\": \"10.77.0.3\"}\n  }\n}\n"
        );
    }

    #[test]
    fn members_of_a_node_by_itself() {
        let mut status = Status::new("n1", 5, 1);
        assert_eq!(status.members_text(), "{\n\"nodename\": \"n1\",\n\"version\": 0\n}\n");
        status.set_cluster(ClusterInfo { name: "c".to_owned(), config_version: 1, nodes: Vec::new() });
        assert_eq!(status.members_text(), "{\n\"nodename\": \"n1\",\n\"version\": 1\n}\n");
    }

    /// As recorded, with fewer watched paths.
    #[test]
    fn versions() {
        let watched = [("corosync.conf", 1), ("storage.cfg", 4)];
        assert_eq!(
            cluster().version_text(6, watched),
            "{\n\"starttime\": 1795359929,\n\"clinfo\": 6,\n\"vmlist\": 6,\n\
             \"corosync.conf\": 1,\n\"storage.cfg\": 4,\n\"kvstore\": {\n\"n1\": {\n}\n}\n}\n"
        );
    }

    #[test]
    fn versions_of_keys_of_all_nodes() {
        let mut status = cluster();
        for key in [&b"kv/a"[..], b"kv/a", b"odd \"\\\xff\n"] {
            status.set(key, b"v", NOW).unwrap();
        }
        status.set_peer(3, b"k", b"v", NOW).unwrap();
        status.set_peer(2, b"k", b"v", NOW).unwrap();
        status.set_peer(2, b"k", b"", NOW).unwrap();
        let text = status.version_text(0, []);
        assert!(text.contains("\"kv/a\": 1,\n\"odd "), "{text}");
        let text: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"n1": {"kv/a": 1, "odd \"\\\u{fffd}\n": 0}, "n2": {}, "n3": {"k": 0}});
        assert_eq!(text["kvstore"], expected);
    }

    fn guest<'a>(vmid: u32, node: &'a str, kind: &'a str, version: u32) -> GuestLine<'a> {
        GuestLine { vmid, node: node.as_bytes(), kind, version }
    }

    /// As recorded, but in the order of VMIDs.
    #[test]
    fn guests() {
        let guests = [guest(100, "n1", "qemu", 2), guest(101, "n2", "lxc", 4), guest(102, "n1", "qemu", 6)];
        assert_eq!(
            vmlist_text(6, guests),
            "{\n\"version\": 6,\n\"ids\": {\n\
             \"100\": { \"node\": \"n1\", \"type\": \"qemu\", \"version\": 2 },\n\
             \"101\": { \"node\": \"n2\", \"type\": \"lxc\", \"version\": 4 },\n\
             \"102\": { \"node\": \"n1\", \"type\": \"qemu\", \"version\": 6 }}\n\n}\n"
        );
        assert_eq!(vmlist_text(1, []), "{\n\"version\": 1\n\n}\n");
    }

    /// The text of a long list is built without growing much beyond the guess.
    #[test]
    fn many_guests() {
        let guests = (100..10_100).map(|vmid| guest(vmid, "somenode", "qemu", vmid));
        let text = vmlist_text(1, guests);
        assert!(text.capacity() < 2 * text.len());
        let text: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text["ids"].as_object().unwrap().len(), 10_000);
    }
}
