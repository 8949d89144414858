//! Generated files: current at every open, one text per open, right sizes; and `.debug`.

use crate::fixture::{NODE, Tree, refused};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

fn json(tree: &Tree, name: &str) -> Value {
    serde_json::from_slice(&tree.read(name)).expect("JSON")
}

#[test]
fn texts_are_current_at_every_open() {
    let tree = Tree::new();
    assert_eq!(json(&tree, ".members")["nodename"], NODE);
    assert_eq!(json(&tree, ".clusterlog")["data"][0]["msg"], "starting cluster log");
    assert_eq!(tree.read(".rrd"), b"");
    assert!(json(&tree, ".vmlist").get("ids").is_none());
    tree.mkdir("nodes/alpha/qemu-server");
    for vmid in 100..150 {
        tree.write(&format!("nodes/alpha/qemu-server/{vmid}.conf"), "");
        let list = json(&tree, ".vmlist");
        assert_eq!(list["ids"][vmid.to_string()]["type"], "qemu", "{vmid}");
        assert_eq!(list["ids"].as_object().map(serde_json::Map::len), Some(vmid - 99));
    }
    let counter = |tree: &Tree| json(tree, ".version")["storage.cfg"].as_u64().expect("a counter");
    let before = counter(&tree);
    tree.write("storage.cfg", "dir: local\n");
    assert!(counter(&tree) > before);
    tree.cfs.set_status(b"key", b"value").expect("set");
    assert_eq!(json(&tree, ".version")["kvstore"][NODE]["key"], 0);
}

#[test]
fn an_open_file_keeps_its_text() {
    let tree = Tree::new();
    tree.mkdir("nodes/alpha/lxc");
    for vmid in 100..400 {
        tree.write(&format!("nodes/alpha/lxc/{vmid}.conf"), "");
    }
    let before = tree.read(".vmlist");
    let mut file = File::open(tree.path(".vmlist")).expect("open");
    let mut start = vec![0; 1000];
    file.read_exact(&mut start).expect("read");
    fs::remove_file(tree.path("nodes/alpha/lxc/399.conf")).expect("unlink");
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).expect("read");
    assert!([start, rest].concat() == before, "one text from start to end");
    assert!(tree.read(".vmlist") != before);
}

#[test]
fn sizes_are_those_of_the_texts() {
    let tree = Tree::new();
    tree.mkdir("nodes/alpha/lxc");
    for vmid in 100..300 {
        tree.write(&format!("nodes/alpha/lxc/{vmid}.conf"), "");
    }
    for name in [".version", ".members", ".vmlist", ".rrd", ".clusterlog", ".debug"] {
        let stat = fs::metadata(tree.path(name)).expect("stat");
        assert_eq!(stat.size(), tree.read(name).len() as u64, "{name}");
        assert_eq!((stat.nlink(), stat.blocks(), stat.mtime(), stat.uid()), (1, 0, 0, 0), "{name}");
    }
    let script = "cat .vmlist | wc -c; wc -c < .vmlist; tail -c 2 .vmlist; cp .vmlist /dev/stdout | wc -c; \
                  perl -e 'open F, \".vmlist\"; sysread F, $x, -s F; print length $x'";
    let output = Command::new("sh").arg("-c").arg(script).current_dir(tree.root()).output().expect("sh");
    let size = tree.read(".vmlist").len();
    let expected = format!("{size}\n{size}\n}}\n{size}\n{size}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
}

#[test]
fn read_only_texts_refuse_writes_of_root() {
    let tree = Tree::new();
    for name in [".version", ".members", ".vmlist", ".rrd", ".clusterlog"] {
        let path = tree.path(name);
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("root may open");
        refused(file.write_at(b"x", 0), libc::EIO);
        refused(file.set_len(0), libc::EIO);
        refused(nix::unistd::truncate(&path, 5), libc::EIO);
        refused(File::create(&path), libc::EIO);
        OpenOptions::new().write(true).create(true).truncate(false).open(&path).expect("O_CREAT is no write");
    }
}

#[test]
fn debug_is_switched() {
    let tree = Tree::new();
    let path = tree.path(".debug");
    assert_eq!(tree.read(".debug"), b"0\n");
    fs::write(&path, "1\n").expect("on");
    assert!(tree.cfs.is_debug());
    assert_eq!(tree.read(".debug"), b"1\n");
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    assert_eq!(file.write_at(b"0\nmore", 0).expect("two bytes count"), 2);
    assert_eq!(tree.read(".debug"), b"0\n");
    for wrong in ["2\n", "1", "x", "", "\n1"] {
        if !wrong.is_empty() {
            refused(file.write_at(wrong.as_bytes(), 0), libc::EIO);
        }
    }
    refused(file.write_at(b"1\n", 1), libc::EIO);
    let mut append = OpenOptions::new().append(true).open(&path).expect("open");
    refused(append.write(b"1\n"), libc::EIO);
    for size in [0, 1, 100] {
        nix::unistd::truncate(&path, size).expect("does nothing");
    }
    assert_eq!(tree.read(".debug"), b"0\n");
    let shell = tree.shell_as(0, 0, "echo 1 > $TREE/.debug && cat $TREE/.debug && echo 0 > $TREE/.debug");
    assert_eq!(shell.stdout, b"1\n", "{shell:?}");
}
