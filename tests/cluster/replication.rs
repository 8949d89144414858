//! What one node does, all see.

use crate::cluster::Cluster;
use crate::scenario;
use crate::wait::soon;
use std::fs;

scenario!(files_of_all_sizes_and_many_of_them, |cluster| {
    let big: Vec<u8> = (0..1u32 << 20).map(|index| (index * 7 + index / 4096) as u8).collect();
    for (writer, size) in [(1, 1 << 20), (2, (1 << 20) - 1), (3, 600_000), (1, 4096), (2, 1), (3, 0)] {
        let name = format!("file-{size}");
        cluster[writer].write(&name, &big[..size]).expect("written");
        for node in &cluster.nodes {
            soon("a file", || node.has(&name, &big[..size]));
        }
    }
    fs::create_dir(cluster[1].tree("many")).expect("mkdir");
    for index in 0..200 {
        cluster[1].write(&format!("many/{index}"), format!("text {index}")).expect("written");
    }
    for node in &cluster.nodes {
        soon("many files", || node.list("many").len() == 200);
        soon("the last of them", || node.has("many/199", "text 199"));
    }
    remove_all(cluster);
});

/// Node 2 takes away what node 1 made.
fn remove_all(cluster: &Cluster) {
    for index in 0..200 {
        fs::remove_file(cluster[2].tree(&format!("many/{index}"))).expect("removed");
    }
    fs::remove_dir(cluster[2].tree("many")).expect("removed");
    for node in &cluster.nodes {
        soon("all of them gone", || !node.tree("many").exists());
    }
}
