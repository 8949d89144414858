//! A VMID is in one place.

use crate::scenario;
use crate::wait::soon;
use std::fs::{self, File};
use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

const VMIDS: std::ops::Range<u32> = 200..220;

scenario!(a_guest_is_made_once_whoever_is_first, |cluster| {
    for node in &cluster.nodes {
        fs::create_dir_all(node.tree(&format!("nodes/{}/qemu-server", node.name()))).expect("mkdir");
    }
    let first = "nodes/n1/qemu-server/100.conf";
    cluster[1].write(first, "name: one\n").expect("made");
    soon("the guest", || cluster[2].has(first, "name: one\n"));
    let again = File::create_new(cluster[2].tree("nodes/n2/qemu-server/100.conf"));
    assert_eq!(again.expect_err("refused").raw_os_error(), Some(libc::EEXIST));

    let winners: Vec<AtomicUsize> = VMIDS.map(|_| AtomicUsize::new(0)).collect();
    let start = Barrier::new(cluster.nodes.len());
    cluster.on_all_nodes(|node| {
        for (vmid, won) in VMIDS.zip(&winners) {
            start.wait();
            let path = node.tree(&format!("nodes/{}/qemu-server/{vmid}.conf", node.name()));
            match File::create_new(path) {
                Ok(_) => drop(won.fetch_add(1, Ordering::SeqCst)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("node {}: {error}", node.number),
            }
        }
    });
    for (vmid, won) in VMIDS.zip(&winners) {
        assert_eq!(won.load(Ordering::SeqCst), 1, "guest {vmid}");
    }
    // Moved by a node that is neither the old nor the new one.
    let to = "nodes/n3/qemu-server/100.conf";
    fs::rename(cluster[2].tree(first), cluster[2].tree(to)).expect("moved");
    for node in &cluster.nodes {
        soon("the guest list", || {
            let list = node.json(".vmlist");
            list["ids"]["100"]["node"] == "n3" && list["ids"].as_object().is_some_and(|ids| ids.len() == 21)
        });
    }
});
