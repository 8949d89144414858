//! Mount of the tree as `pmxcfs-ctl status` shows it: the daemon's report against the system's mounts.

use crate::fixture::Root;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Status of the daemon of `root`, found by its service alone.
fn status(root: &Root, options: &[&str]) -> (Value, String) {
    let ask = |format: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmxcfs-ctl"));
        command.args(["--service", &root.service, "status"]).args(options).args(format);
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let document: Value = serde_json::from_str(&ask(&["--json"])).expect("JSON");
    let text = ask(&[]);
    let line = text.lines().find(|line| line.starts_with("tree ")).expect("a line of the tree");
    (document["tree"].clone(), line["tree ".len()..].trim().to_owned())
}

#[test]
fn tree_is_where_the_daemon_mounted_it() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let path = root.path("etc/pve");
    let (tree, line) = status(&root, &[]);
    assert_eq!(tree, json!({ "path": path, "mounted": true, "covered_by": null }));
    assert_eq!(line, format!("mounted at {}", path.display()));

    let elsewhere = root.path("elsewhere");
    let (tree, line) = status(&root, &["--mount", elsewhere.to_str().expect("text")]);
    assert_eq!(tree, json!({ "path": elsewhere, "mounted": false, "covered_by": null }));
    let (elsewhere, place) = (elsewhere.display(), path.display());
    assert_eq!(line, format!("NOT mounted at {elsewhere}: this daemon mounted it at {place}"));
    daemon.stop();
}

#[test]
fn tree_of_other_daemon_is_not_ours() {
    let (root, other) = (Root::new(), Root::new());
    let (mut daemon, mut other_daemon) = (root.serve(&["--local"]), other.serve(&["--local"]));
    let path = other.path("");
    let (tree, _) = status(&root, &["--root", path.to_str().expect("text")]);
    assert_eq!(tree, json!({ "path": other.path("etc/pve"), "mounted": false, "covered_by": "fuse" }));
    daemon.stop();
    other_daemon.stop();
}

#[test]
fn tree_below_other_mount_is_not_mounted() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let path = root.path("etc/pve");
    let none: Option<&Path> = None;
    mount(none, &path, Some("tmpfs"), MsFlags::empty(), none).expect("mounted");
    let (tree, line) = status(&root, &[]);
    assert_eq!(tree, json!({ "path": path, "mounted": false, "covered_by": "tmpfs" }));
    let place = path.display();
    assert_eq!(line, format!("NOT mounted at {place}: another file system (tmpfs) is mounted there"));
    umount2(&path, MntFlags::empty()).expect("unmounted");
    assert_eq!(status(&root, &[]).0["mounted"], true);

    daemon.stop();
}
