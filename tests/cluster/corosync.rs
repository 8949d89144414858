//! Corosync's configuration and process on one node.

use crate::network::address;
use crate::process::Process;
use crate::space::Space;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What tests may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Milliseconds after which a node counts as gone. Generous where the test is not about time: the
    /// machine may be busy.
    pub token: u32,
    pub version: u32,
    pub nodes: usize,
}

impl Settings {
    pub fn text(&self) -> String {
        let Self { token, version, nodes } = self;
        let mut text = format!(
            "totem {{\n  version: 2\n  cluster_name: testing\n  config_version: {version}\n  transport: knet\n  \
             crypto_cipher: none\n  crypto_hash: none\n  token: {token}\n  interface {{\n    linknumber: 0\n    \
             knet_ping_interval: 100\n    knet_ping_timeout: {token}\n    knet_pong_count: 1\n  }}\n}}\n\
             quorum {{\n  provider: corosync_votequorum\n}}\n\
             logging {{\n  to_stderr: yes\n  to_syslog: no\n  to_logfile: no\n}}\nnodelist {{\n"
        );
        for number in 1..=*nodes {
            let address = address(number);
            let node = format!(
                "  node {{\n    name: n{number}\n    nodeid: {number}\n    quorum_votes: 1\n    ring0_addr: {address}\n  }}\n"
            );
            text.write_str(&node).expect("memory");
        }
        text + "}\n"
    }
}

/// Starts corosync, whose files are those of the place.
pub fn start(space: &Space, dir: &Path) -> Process {
    Process::start(space, &["/usr/sbin/corosync", "-f"], &dir.join("corosync.log"))
}

/// Whether the machine has corosync.
pub fn is_installed() -> bool {
    fs::exists("/usr/sbin/corosync").unwrap_or(false)
}
