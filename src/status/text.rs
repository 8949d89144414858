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
