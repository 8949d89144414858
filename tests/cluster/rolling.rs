//! One daemon after the other is replaced, while the others work.

use crate::cluster::{Cluster, Mix};
use crate::load::Load;
use crate::node::Kind;
use crate::wait::eventually;
use crate::{TOKEN, run_with};

/// From stock to ours and back, when there is a stock daemon; else from ours to ours.
#[test]
fn rolling_replacement_under_load() {
    let (from, to) = match std::env::var("STOCK") {
        Ok(path) => (Kind::Stock(path.into()), Kind::Ours),
        Err(_) => (Kind::Ours, Kind::Ours),
    };
    let mix = Mix { kinds: vec![from.clone(); 3] };
    run_with(vec![mix], "rolling replacement", TOKEN, |cluster| {
        for number in [3, 1, 2] {
            replace(cluster, number, &to);
        }
        assert!(cluster.nodes.iter().all(|node| node.kind == to));
        for number in [1, 3, 2] {
            replace(cluster, number, &from);
        }
    });
}

fn replace(cluster: &mut Cluster, number: usize, by: &Kind) {
    let others: Vec<usize> = cluster.numbers().into_iter().filter(|other| *other != number).collect();
    let load = Load::start(cluster, &others);
    eventually("there is load", || load.count() > 20);
    cluster[number].stop();
    cluster[number].kind = by.clone();
    cluster[number].start();
    let count = load.count();
    eventually("the load goes on", || load.count() > count + 30);
    cluster.await_members(&cluster.numbers(), &cluster.numbers());
    load.stop(cluster);
    cluster.settle();
    cluster.assert_equal();
}
