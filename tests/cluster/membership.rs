//! Nodes that go and come back, and networks that break and heal.

use crate::cluster::Cluster;
use crate::load::Load;
use crate::scenario;
use crate::wait::{eventually, soon};
use nix::libc::EACCES;
use std::fs;
use std::io;

/// Milliseconds: here a lost node is to be noticed.
const SHORT_TOKEN: u32 = 1500;

scenario!(a_cut_off_node_is_read_only_until_the_network_heals, SHORT_TOKEN, |cluster| {
    for (minority, majority) in [(3, [1, 2]), (1, [2, 3])] {
        cut_and_heal(cluster, minority, majority);
    }
});

fn cut_and_heal(cluster: &Cluster, minority: usize, majority: [usize; 2]) {
    let (alone, [left, right]) = (&cluster[minority], majority);
    let dir = format!("round-{minority}");
    let [before, during, after] = ["before", "during", "after"].map(|name| format!("{dir}/{name}"));
    fs::create_dir(cluster[left].tree(&dir)).expect("mkdir");
    cluster[left].write(&before, "x").expect("written");
    soon("the file", || alone.has(&before, "x") && alone.mode(&before) == 0o640 && alone.mode(&dir) == 0o755);
    cluster.cut(&[minority]);
    cluster.await_members(&[minority], &[minority]);
    soon("mode bits without w", || alone.mode(&before) == 0o440 && alone.mode(&dir) == 0o555);
    refused(alone.write(&before, "y"));
    refused(fs::create_dir(alone.tree(&format!("{dir}/new"))));
    refused(fs::remove_file(alone.tree(&before)));
    refused(fs::rename(alone.tree(&before), alone.tree(&after)));
    assert!(alone.has(&before, "x"), "reading goes on");

    cluster.await_members(&majority, &majority);
    eventually("the majority writes", || cluster[left].write(&during, "z").is_ok());
    cluster[right].write(&before, "changed").expect("written");
    soon("the majority reads", || cluster[right].has(&during, "z") && cluster[left].has(&before, "changed"));
    assert!(alone.has(&before, "x") && !alone.tree(&during).exists(), "it cannot know");

    cluster.heal();
    cluster.await_members(&cluster.numbers(), &cluster.numbers());
    eventually("it has what it missed", || alone.has(&before, "changed") && alone.has(&during, "z"));
    soon("mode bits with w", || alone.mode(&before) == 0o640 && alone.mode(&dir) == 0o755);
    eventually("it writes again", || alone.write(&after, "back").is_ok());
    soon("and is read", || cluster[left].has(&after, "back"));
    cluster.assert_equal();
}

fn refused(result: io::Result<()>) {
    assert_eq!(result.expect_err("refused").raw_os_error(), Some(EACCES));
}

scenario!(a_killed_daemon_comes_back, |cluster| {
    for victim in [2, 1] {
        let others: Vec<usize> = cluster.numbers().into_iter().filter(|number| *number != victim).collect();
        let load = Load::start(cluster, &others);
        eventually("there is load", || load.count() > 20);
        cluster[victim].kill();
        let count = load.count();
        eventually("the others go on", || load.count() > count + 50);
        cluster[victim].start();
        cluster.await_members(&cluster.numbers(), &cluster.numbers());
        load.stop(cluster);
        cluster.settle();
        cluster.assert_equal();
    }
});

scenario!(the_lowest_node_restarts_under_load, |cluster| {
    for _ in 0..2 {
        let load = Load::start(cluster, &[2, 3]);
        eventually("there is load", || load.count() > 20);
        cluster[1].stop();
        let count = load.count();
        eventually("the others go on", || load.count() > count + 50);
        cluster[1].start();
        cluster.await_members(&cluster.numbers(), &cluster.numbers());
        load.stop(cluster);
        cluster.settle();
        cluster.assert_equal();
    }
});

scenario!(an_empty_node_gets_everything, |cluster| {
    fs::create_dir(cluster[1].tree("d")).expect("mkdir");
    soon("the directory", || cluster[2].tree("d").is_dir());
    for index in 0..50 {
        cluster[2].write(&format!("d/{index}"), vec![b'x'; index * 100]).expect("written");
    }
    cluster[1].write("large", vec![b'y'; 1 << 20]).expect("written");
    for newcomer in [3, 1] {
        cluster[newcomer].stop();
        cluster[newcomer].forget().expect("its database is gone");
        cluster[newcomer].start();
        cluster.settle();
        cluster.assert_equal();
    }
});

scenario!(all_daemons_restart_at_once, |cluster| {
    cluster[2].write("kept", "text").expect("written");
    soon("the file", || cluster.nodes.iter().all(|node| node.has("kept", "text")));
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    cluster.nodes.iter_mut().for_each(|node| node.launch());
    cluster.settle();
    assert!(cluster.nodes.iter().all(|node| node.has("kept", "text")));
});
