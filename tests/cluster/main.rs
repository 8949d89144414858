//! Daemons in real clusters: corosync and three nodes, each in namespaces of its own on this machine.
//!
//! Every scenario runs on three of our daemons. With `STOCK=/path/to/a/stock/pmxcfs` it runs once for every mix
//! of stock and ours as well; `MIX=sos` picks one (s stock, o ours, by node number).

mod coherence;
mod corosync_conf;
#[path = "fixture/fixture.rs"]
mod fixture;
mod guests;
mod hostile;
mod intruder;
mod load;
mod locks;
mod membership;
mod random;
mod replication;
mod report;
mod rolling;
mod stalls;
mod status;
mod writers;

use fixture::cluster::{Cluster, Mix};
use fixture::{cluster, node, wait};

/// Time after which a node counts as gone, where the test is not about that.
const TOKEN: u32 = 5000;

/// The mixes that a scenario runs with.
fn mixes() -> Vec<Mix> {
    let Ok(stock) = std::env::var("STOCK") else { return vec![Mix::ours(3)] };
    match std::env::var("MIX") {
        Ok(letters) => vec![Mix::new(&letters, &stock)],
        Err(_) => ["ooo", "soo", "oso", "oos", "sso", "sos", "oss"].map(|mix| Mix::new(mix, &stock)).to_vec(),
    }
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
