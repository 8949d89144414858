//! Concurrent operations of two nodes, with readers that keep the kernels' caches warm. After each round both
//! mounts must agree with their databases. `tests/coherence` forces the same pairs without corosync.

use crate::cluster::Mix;
use crate::node::Node;
use crate::random::Random;
use crate::wait::{SOON, soon, within};
use crate::{TOKEN, long_rounds, run_with};
use pmxcfs::ipc::ops::Op;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Size of the file at the beginning of each round.
const SIZE: usize = 9192;

/// Kinds of operations on `d/f` and the names beside it.
const KINDS: usize = 9;

/// Runs an operation. Any result is allowed: the other node may have been faster.
fn operate(node: &Node, kind: usize, side: usize) {
    let path = |name: &str| node.tree(&format!("d/{name}"));
    let at = (100 + 900 * side) as u64;
    let opened = || File::options().write(true).open(path("f"));
    let _ = match kind {
        0 => opened().and_then(|file| file.write_all_at(&[b'a' + side as u8; 9], at)),
        1 => File::options().append(true).open(path("f")).and_then(|mut file| file.write_all(&[b'A'; 5000])),
        2 => opened().and_then(|file| file.set_len(300 + at)),
        3 => opened().and_then(|file| file.write_all_at(&[b'g'; 3000], SIZE as u64 + at)),
        4 => fs::rename(path(["g", "h"][side]), path("f")),
        5 => fs::remove_file(path("f")),
        6 => File::create_new(path("n")).map(drop),
        7 => fs::create_dir(path("n")),
        _ => fs::remove_dir(path("s")),
    };
}

/// The round's directory as seen by a program, with the names that operations use.
fn by_path(node: &Node) -> Vec<(String, Option<Vec<u8>>)> {
    let content = |name: String| {
        let read = node.read(&format!("d/{name}")).ok();
        (name, read)
    };
    node.list("d").into_iter().map(content).collect()
}

/// Contents for messages: bytes and lengths of their runs.
fn short(bytes: Vec<u8>) -> Vec<(char, usize)> {
    bytes.chunk_by(|a, b| a == b).map(|run| (char::from(run[0]), run.len())).collect()
}

/// The contents of a file in the node's database.
fn in_database(node: &Node, name: &str) -> Option<Vec<u8>> {
    let (error, bytes) = node.ask(Op::GetConfig, format!("d/{name}\0").as_bytes());
    (error == 0).then_some(bytes)
}

fn prepare(nodes: &[Node], serial: usize) {
    for name in ["f", "g", "h", "n", "s"] {
        let _ = fs::remove_file(nodes[0].tree(&format!("d/{name}")));
        let _ = fs::remove_dir(nodes[0].tree(&format!("d/{name}")));
    }
    fs::create_dir(nodes[0].tree("d/s")).expect("made");
    for name in ["g", "h"] {
        nodes[0].write(&format!("d/{name}"), format!("{name} of round {serial}")).expect("written");
    }
    let content = vec![b'.'; SIZE];
    nodes[0].write("d/f", &content).expect("written");
    soon("the file", || nodes.iter().all(|node| node.has("d/f", &content)));
}

fn round(nodes: &[Node], serial: usize, random: &mut Random) {
    prepare(nodes, serial);
    let kinds = [random.below(KINDS), random.below(KINDS)];
    let pauses = [random.below(2000), random.below(2000)];
    let (start, done) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        for node in nodes {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let _ = node.read("d/f");
                    let _ = fs::metadata(node.tree("d/n"));
                }
            });
        }
        let operators = [0, 1].map(|side| {
            let (node, start) = (&nodes[side], &start);
            scope.spawn(move || {
                start.wait();
                // Random pauses, so that neither side is always first.
                (0..pauses[side]).for_each(|_| std::hint::spin_loop());
                operate(node, kinds[side], side);
            })
        });
        let results = operators.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.expect("an operation ends"));
    });
    for node in nodes {
        let agrees = || {
            let seen = by_path(node);
            let truth: Vec<_> =
                seen.iter().map(|(name, _)| (name.clone(), in_database(node, name))).collect();
            seen == truth
                && ["f", "n"].iter().all(|name| {
                    let listed = seen.iter().any(|(seen, _)| seen == name);
                    listed == node.tree(&format!("d/{name}")).exists()
                })
        };
        assert!(
            within(SOON, agrees),
            "round {serial}, operations {kinds:?}: node {} shows {:?}, its database has {:?} in f",
            node.number,
            by_path(node).into_iter().map(|(name, bytes)| (name, bytes.map(short))).collect::<Vec<_>>(),
            in_database(node, "f").map(short)
        );
    }
    soon("equal views", || nodes.iter().all(|node| by_path(node) == by_path(&nodes[0])));
}

/// After concurrent operations of two nodes, both kernels agree with the databases.
#[test]
fn crossing_operations_stay_visible() {
    let seed = Random::fresh_seed();
    eprintln!("seed {seed}");
    let mixes = vec![Mix::ours(2), Mix::ours(3)];
    run_with(mixes, "crossing_operations_stay_visible", TOKEN, |cluster| {
        let mut random = Random::new(seed);
        fs::create_dir(cluster.nodes[0].tree("d")).expect("made");
        for serial in 0..60 * long_rounds(1) {
            round(&cluster.nodes, serial, &mut random);
        }
    });
}
