//! All nodes write at once.

use crate::node::Node;
use crate::random::Random;
use crate::scenario;
use crate::wait::soon;
use std::fs::{self, File};
use std::io::Write;

/// What each node does in the free-for-all.
const OPERATIONS: usize = 150;
/// Lines that each node appends.
const LINES: usize = 60;

scenario!(three_writers_at_once, |cluster| {
    let seed = Random::fresh_seed();
    eprintln!("seed {seed}");
    for dir in ["a", "b", "b/c"] {
        fs::create_dir(cluster[1].tree(dir)).expect("mkdir");
    }
    soon("directories", || cluster.nodes.iter().all(|node| node.tree("b/c").is_dir()));
    cluster.on_all_nodes(|node| write_at_random(node, seed + node.number as u64));
});

/// Whatever comes of each operation: what counts is that all nodes agree in the end.
fn write_at_random(node: &Node, seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..OPERATIONS {
        let path = |random: &mut Random| {
            let dir = ["", "a/", "b/", "b/c/"][random.below(4)];
            node.tree(&format!("{dir}{}", ["x", "y", "z", "w.conf"][random.below(4)]))
        };
        let (one, other) = (path(&mut random), path(&mut random));
        let size = random.below(9000);
        let byte = b'a' + random.below(26) as u8;
        let _ = match random.below(8) {
            0 => fs::remove_file(&one),
            1 => fs::create_dir(&one),
            2 => fs::remove_dir(&one),
            3 => fs::rename(&one, &other),
            4 => File::options().append(true).open(&one).and_then(|mut file| file.write_all(&[byte; 100])),
            5 => File::options().write(true).open(&one).and_then(|file| file.set_len(size as u64)),
            _ => fs::write(&one, vec![byte; size]),
        };
    }
}

scenario!(appends_from_all_nodes, |cluster| {
    cluster[1].write("journal", "").expect("written");
    soon("the file", || cluster.nodes.iter().all(|node| node.has("journal", "")));
    cluster.on_all_nodes(|node| {
        let mut file = File::options().append(true).open(node.tree("journal")).expect("open");
        for line in 0..LINES {
            let text = format!("line {line} of node {}\n", node.number);
            file.write_all(text.as_bytes()).expect("appended");
        }
    });
    // With a stock node among them an append can overwrite another.
    if cluster.nodes.iter().any(Node::is_stock) {
        return;
    }
    for node in &cluster.nodes {
        let length = || node.read("journal").map_or(0, |text| text.split(|byte| *byte == b'\n').count() - 1);
        soon("all lines", || length() == LINES * cluster.nodes.len());
        let text = String::from_utf8(node.read("journal").expect("read")).expect("text");
        for writer in 1..=cluster.nodes.len() {
            let own: Vec<&str> =
                text.lines().filter(|line| line.ends_with(&format!("node {writer}"))).collect();
            let expected: Vec<String> =
                (0..LINES).map(|line| format!("line {line} of node {writer}")).collect();
            assert_eq!(own, expected, "on node {}", node.number);
        }
    }
});
