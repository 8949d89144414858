//! Lock directories across nodes.

use crate::cluster::Cluster;
use crate::node::Node;
use crate::wait::{eventually, soon};
use crate::{TOKEN, mixes_among, run_with, scenario};
use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often each node gets the lock.
const TURNS: usize = 25;

/// How long a lock is held before it can be taken away.
const EXPIRY: Duration = Duration::from_secs(120);

scenario!(a_lock_is_never_held_twice, |cluster| {
    fs::create_dir_all(cluster[1].tree("priv/lock")).expect("mkdir");
    for node in &cluster.nodes {
        soon("the directory of locks", || node.tree("priv/lock").is_dir());
    }
    cluster[1].write("journal", "").expect("written");
    let (holders, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    cluster.on_all_nodes(|node| contend(node, &holders, &turns));
    let expected = TURNS * cluster.nodes.len();
    assert_eq!(turns.load(Ordering::SeqCst), expected);
});

fn contend(node: &Node, holders: &AtomicUsize, turns: &AtomicUsize) {
    let lock = node.tree("priv/lock/exclusive");
    for _ in 0..TURNS {
        eventually("the lock is free", || match fs::create_dir(&lock) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => panic!("node {}: {error}", node.number),
        });
        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "held twice");
        let turn = turns.fetch_add(1, Ordering::SeqCst);
        node.write("journal", format!("{turn} of {}", node.number)).expect("written");
        assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1, "held twice");
        fs::remove_dir(&lock).expect("released");
    }
}

/// The real time of two minutes: a daemon has no switch for it. So with a stock daemon only two mixes are tried,
/// one with each kind as the lowest node, which decides.
#[test]
fn an_abandoned_lock_is_taken_away_after_its_time_and_a_refreshed_one_is_not() {
    run_with(mixes_among(&["soo", "oso"]), "lock expiry", TOKEN, expire);
}

fn expire(cluster: &mut Cluster) {
    for lock in ["abandoned", "refreshed"] {
        fs::create_dir_all(cluster[2].tree(&format!("priv/lock/{lock}"))).expect("locked");
    }
    let locked = Instant::now();
    let [abandoned, refreshed] = ["abandoned", "refreshed"].map(|lock| {
        let path = cluster[3].tree(&format!("priv/lock/{lock}"));
        soon("the lock is seen", || path.is_dir());
        path
    });
    // Asking is what starts the time: nobody counts before.
    ask_to_unlock(&abandoned);
    let asked = Instant::now();
    let own = cluster[2].tree("priv/lock/refreshed");
    eventually("half of the time is over", || asked.elapsed() > EXPIRY / 2);
    ask_to_unlock(&refreshed);
    assert!(abandoned.is_dir());
    // Its holder is alive.
    set_mtime(&own, now());
    cluster[2].kill();
    let deadline = asked + EXPIRY + Duration::from_secs(30);
    loop {
        ask_to_unlock(&abandoned);
        ask_to_unlock(&refreshed);
        if !abandoned.is_dir() {
            break;
        }
        assert!(Instant::now() < deadline, "the lock is not taken away");
        thread::sleep(Duration::from_millis(500));
    }
    assert!(locked.elapsed() >= EXPIRY, "taken away too early");
    assert!(refreshed.is_dir(), "its time began anew");
    soon("gone on the other node", || !cluster[1].tree("priv/lock/abandoned").exists());
    fs::create_dir(&abandoned).expect("free again");
    cluster[2].start();
    cluster.settle();
}

/// As the stack does it: time 0 asks for the lock to be removed if it has expired. It is refused.
fn ask_to_unlock(lock: &std::path::Path) {
    let error = set_time(lock, 0);
    assert!(error.is_err() || !lock.exists(), "a lock in use was removed");
}

fn set_mtime(lock: &std::path::Path, seconds: i64) {
    set_time(lock, seconds).expect("refreshed");
}

fn set_time(path: &std::path::Path, seconds: i64) -> nix::Result<()> {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::FollowSymlink)
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("not so late")
}
