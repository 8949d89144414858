//! One daemon after the other is replaced, while the others work.

use crate::cluster::{Cluster, Mix};
use crate::load::Load;
use crate::node::Kind;
use crate::stock_daemons::stock_daemons;
use crate::wait::eventually;
use crate::{TOKEN, run_with};

/// From each stock daemon to pmxcfs-rs and back; without a stock daemon, between two pmxcfs-rs.
#[test]
fn rolling_replacement_under_load() {
    let stock = stock_daemons();
    if stock.is_empty() {
        return replace_all(&Kind::Ours);
    }
    stock.into_iter().for_each(|daemon| replace_all(&Kind::Stock(daemon)));
}

/// From `other` to pmxcfs-rs and back.
fn replace_all(other: &Kind) {
    let mix = Mix { kinds: vec![other.clone(); 3] };
    run_with(vec![mix], "rolling replacement", TOKEN, |cluster| {
        for number in [3, 1, 2] {
            replace(cluster, number, &Kind::Ours);
        }
        assert!(cluster.nodes.iter().all(|node| node.kind == Kind::Ours));
        for number in [1, 3, 2] {
            replace(cluster, number, other);
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
