//! Daemons in real clusters: corosync and three nodes, each in namespaces of its own on this machine.
//!
//! Every scenario runs on three of our daemons. With `STOCK=/path/to/a/stock/pmxcfs` it runs once for every mix
//! of stock and ours as well, with `STOCK=a:b:c` once for every mix with each of the stock daemons. `MIX` picks
//! one mix, with a letter for each node: o is ours, s is each stock daemon in turn, and 1, 2, 3 are those of
//! `STOCK` by number (`MIX=1o2`).

mod appends;
mod coherence;
mod corosync_clients;
mod corosync_conf;
mod crossing;
mod file_loss;
#[path = "fixture/fixture.rs"]
mod fixture;
mod full_disk;
mod guests;
mod hostile;
mod intruder;
mod load;
mod locks;
mod membership;
#[path = "../common/namespace.rs"]
mod namespace;
mod random;
mod replaced;
mod replication;
mod report;
mod rolling;
#[path = "../common/rules.rs"]
mod rules;
mod stalls;
mod status;
#[path = "../stock/daemons.rs"]
mod stock_daemons;
mod writers;

use fixture::cluster::{Cluster, Mix};
use fixture::{cluster, node, wait};
use stock_daemons::stock_daemons;

/// Time after which a node counts as gone, where the test is not about that.
const TOKEN: u32 = 5000;

/// Mixes of a scenario: those that `MIX` selects, else all.
fn mixes() -> Vec<Mix> {
    mixes_among(&["ooo", "soo", "oso", "oos", "sso", "sos", "oss"])
}

/// Mixes of a scenario: those that `MIX` selects, else `among`. Without a stock daemon, all nodes run
/// pmxcfs-rs.
fn mixes_among(among: &[&str]) -> Vec<Mix> {
    let stock = stock_daemons();
    if stock.is_empty() {
        return vec![Mix::ours(3)];
    }
    match std::env::var("MIX") {
        Ok(letters) => Mix::all(&letters, &stock),
        Err(_) => among.iter().flat_map(|letters| Mix::all(letters, &stock)).collect(),
    }
}

/// Rounds of a randomized test: `LONG_ROUNDS` in the long tests, else few.
fn long_rounds(few: usize) -> usize {
    std::env::var("LONG_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

/// Runs a scenario in a fresh cluster of every mix; in the end all databases must be equal.
fn run(name: &str, token: u32, scenario: impl Fn(&mut Cluster)) {
    run_with(mixes(), name, token, scenario);
}

/// The same in the given mixes.
fn run_with(mixes: Vec<Mix>, name: &str, token: u32, scenario: impl Fn(&mut Cluster)) {
    if let Some(obstacle) = cluster::obstacle() {
        eprintln!("SKIPPED {name}: {obstacle}");
        return;
    }
    for mix in mixes {
        eprintln!("{name}: {:?}", mix.kinds);
        let mut cluster = Cluster::start(&mix, token);
        scenario(&mut cluster);
        cluster.finish();
    }
}

/// A test that runs in every mix of daemons.
#[macro_export]
macro_rules! scenario {
    ($name:ident, |$cluster:ident| $body:block) => {
        $crate::scenario!($name, $crate::TOKEN, |$cluster| $body);
    };
    ($name:ident, $token:expr, |$cluster:ident| $body:block) => {
        #[test]
        fn $name() {
            $crate::run(stringify!($name), $token, |$cluster: &mut $crate::cluster::Cluster| $body);
        }
    };
}

#[test]
fn mix_names_daemon_of_each_node() {
    use node::Kind;
    let stock = ["/a", "/b"].map(std::path::PathBuf::from);
    let [a, b] = stock.clone().map(Kind::Stock);
    let kinds =
        |letters: &str| Mix::all(letters, &stock).into_iter().map(|mix| mix.kinds).collect::<Vec<_>>();
    assert_eq!(kinds("ooo"), [[Kind::Ours, Kind::Ours, Kind::Ours]]);
    assert_eq!(kinds("so"), [[a.clone(), Kind::Ours], [b.clone(), Kind::Ours]]);
    assert_eq!(kinds("1o2"), [[a, Kind::Ours, b]]);
}
