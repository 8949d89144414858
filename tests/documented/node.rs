//! A node below a directory, on which scripts of the pages run unchanged: paths lead below the directory, and
//! where a command is the machine's, a stand-in does the same to this node's daemon.

use crate::fixture::{Root, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The node.
pub struct Node {
    pub root: Root,
}

impl Node {
    pub fn new() -> Self {
        let node = Self { root: Root::new() };
        for dir in ["bin", "root", "etc/corosync", "var/lib/pve-cluster"] {
            fs::create_dir_all(node.root.path(dir)).expect("a directory");
        }
        let (root, service) = (node.root.path(""), &node.root.service);
        let root = root.to_str().expect("text").trim_end_matches('/').to_owned();
        let daemon = env!("CARGO_BIN_EXE_pmxcfs");
        node.program(
            "pmxcfs",
            &format!("exec '{daemon}' --root {root} --node alive --ip 192.0.2.1 --service {service} \"$@\""),
        );
        // The default of these verbs is the database of the machine.
        let database = node.root.database();
        let of_node = format!("verb=$1; shift; set -- $verb --database {} \"$@\"", database.display());
        let tool = env!("CARGO_BIN_EXE_pmxcfs-db");
        node.program(
            "pmxcfs-db",
            &format!("case $1 in backup|restore) {of_node} ;; esac\nexec '{tool}' \"$@\""),
        );
        node.program(
            "pmxcfs-ctl",
            &format!("exec '{}' --service {service} --root {root} \"$@\"", env!("CARGO_BIN_EXE_pmxcfs-ctl")),
        );
        // Only what the pages ask of it.
        let stop = format!(
            "pid=$(cat {root}/run/pve-cluster.pid 2>/dev/null) || exit 0\nkill $pid\nwhile kill -0 $pid 2>/dev/null; do sleep 0.02; done"
        );
        node.program(
            "systemctl",
            &format!("case \"$*\" in\n'start pve-cluster') exec pmxcfs ;;\n'stop pve-cluster'|'stop pve-cluster corosync')\n{stop}\n;;\n*) exit 64 ;;\nesac"),
        );
        node
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.root.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// A file in the tree while the daemon runs.
    pub fn tree(&self, path: &str) -> PathBuf {
        self.root.tree(path)
    }

    /// Runs a script; its output, and whether every command did well.
    pub fn run(&self, options: &str, script: &str) -> (bool, String) {
        let mut script = script.to_owned();
        for dir in ["/etc/", "/var/lib/", "/run/", "/root/"] {
            script = script.replace(dir, self.root.path(&dir[1..]).to_str().expect("text"));
        }
        let path = std::env::var("PATH").expect("where programs are");
        let path = format!("{}:{path}", self.root.path("bin").display());
        // The daemon outlives the script: it must not hold its output.
        let log = fs::File::create(self.root.path("output")).expect("a file");
        let status = Command::new("sh")
            .args([options, "-c", &script])
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .status()
            .expect("sh runs");
        let output = fs::read(self.root.path("output")).expect("written");
        (status.success(), String::from_utf8_lossy(&output).into_owned())
    }

    /// The same for a script in which every command must do well.
    pub fn does(&self, script: &str) -> String {
        let (good, output) = self.run("-eux", script);
        assert!(good, "{script}\n{output}");
        output
    }

    pub fn is_served(&self) -> bool {
        self.tree(".version").exists()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let (_, output) = self.run("-u", "systemctl stop pve-cluster\n");
        if !std::thread::panicking() {
            wait_until(&format!("the daemon ends {output}"), || !self.root.is_mounted());
        }
    }
}
