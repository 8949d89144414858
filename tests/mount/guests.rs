//! A guest's number is unique in the cluster: configurations are made, moved and removed under that.

use crate::fixture::{Tree, refused};
use serde_json::Value;
use std::fs::{self, File};

fn tree() -> Tree {
    let tree = Tree::new();
    for node in ["a", "b"] {
        for kind in ["qemu-server", "lxc", "openvz"] {
            tree.mkdir(&format!("nodes/{node}/{kind}"));
        }
    }
    tree
}

/// Node and type of each guest in `.vmlist`.
fn guests(tree: &Tree) -> Vec<(String, String, String)> {
    let list: Value = serde_json::from_slice(&tree.read(".vmlist")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let guest = |(vmid, guest): (&String, &Value)| (vmid.clone(), text(&guest["node"]), text(&guest["type"]));
    list["ids"].as_object().map(|ids| ids.iter().map(guest).collect()).unwrap_or_default()
}

fn guest(vmid: &str, node: &str, kind: &str) -> (String, String, String) {
    (vmid.to_owned(), node.to_owned(), kind.to_owned())
}

#[test]
fn a_number_is_given_once() {
    let tree = tree();
    let at = |path: &str| tree.path(path);
    tree.write("nodes/a/qemu-server/100.conf", "a");
    for path in ["nodes/b/qemu-server/100.conf", "nodes/a/lxc/100.conf", "nodes/b/openvz/100.conf"] {
        refused(File::create(at(path)), libc::EEXIST);
        refused(fs::metadata(at(path)), libc::ENOENT);
        tree.write("nodes/b/tmp", "x");
        refused(fs::rename(at("nodes/b/tmp"), at(path)), libc::EEXIST);
    }
    tree.write("nodes/a/qemu-server/100.conf", "rewritten");
    fs::rename(at("nodes/b/tmp"), at("nodes/a/qemu-server/100.conf")).expect("replaced by its own path");
    assert_eq!(guests(&tree), [guest("100", "a", "qemu")]);
    fs::remove_file(at("nodes/a/qemu-server/100.conf")).expect("unlink");
    assert_eq!(guests(&tree), []);
    tree.write("nodes/b/lxc/100.conf", "b");
    assert_eq!(guests(&tree), [guest("100", "b", "lxc")]);
}

#[test]
fn guests_move() {
    let tree = tree();
    let at = |path: &str| tree.path(path);
    tree.write("nodes/a/qemu-server/100.conf", "a");
    fs::rename(at("nodes/a/qemu-server/100.conf"), at("nodes/b/qemu-server/100.conf")).expect("migration");
    assert_eq!(guests(&tree), [guest("100", "b", "qemu")]);
    fs::rename(at("nodes/b/qemu-server/100.conf"), at("nodes/b/lxc/100.conf")).expect("as in stock");
    assert_eq!(guests(&tree), [guest("100", "b", "lxc")]);
    fs::rename(at("nodes/b/lxc/100.conf"), at("nodes/b/lxc/101.conf")).expect("another number");
    assert_eq!(guests(&tree), [guest("101", "b", "lxc")]);
    let tree = tree.reload();
    assert_eq!(guests(&tree), [guest("101", "b", "lxc")]);
}

#[test]
fn what_is_no_configuration_is_free() {
    let tree = tree();
    tree.write("nodes/a/qemu-server/100.conf", "");
    for path in ["nodes/b/qemu-server/0100.conf", "nodes/b/lxc/4294967296.conf", "nodes/b/100.conf"] {
        tree.write(path, "");
    }
    tree.mkdir("nodes/b/lxc/100.conf");
    assert_eq!(guests(&tree), [guest("100", "a", "qemu")]);
}
