//! Corosync that goes away, or stands still.

use crate::node::Node;
use crate::scenario;
use crate::wait::{eventually, soon};
use nix::libc::{EACCES, EBUSY, ETIMEDOUT};
use nix::sys::signal::Signal;
use pmxcfs::ipc::ops::Op;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Milliseconds: here a lost node is to be noticed.
const SHORT_TOKEN: u32 = 1500;

/// No request of the kernel waits longer.
const WAIT_MAX: Duration = Duration::from_secs(75);

/// A service manager kills after ten seconds.
const STOP_MAX: Duration = Duration::from_secs(8);

/// Writers that get stuck at once.
const WRITERS: usize = 20;

scenario!(the_daemon_outlives_its_corosync, SHORT_TOKEN, |cluster| {
    cluster[2].write("f", "x").expect("written");
    soon("the file", || cluster[3].has("f", "x"));
    cluster[2].kill_corosync();
    let alone = &cluster[2];
    soon("no quorum", || alone.json(".members")["cluster"]["quorate"] != 1);
    soon("read only", || alone.mode("f") == 0o440);
    assert_eq!(alone.write("f", "y").expect_err("refused").raw_os_error(), Some(EACCES));
    assert!(alone.has("f", "x"), "reading goes on");
    eventually("the others write", || cluster[1].write("f", "z").is_ok());
    cluster[2].start_corosync();
    cluster.await_members(&cluster.numbers(), &cluster.numbers());
    eventually("it has what it missed", || cluster[2].has("f", "z"));
    cluster.settle();
});

scenario!(a_frozen_corosync_holds_nobody_for_ever, SHORT_TOKEN, |cluster| {
    cluster[3].write("f", "x").expect("written");
    soon("the file", || cluster[1].has("f", "x") && cluster[3].has("f", "x"));
    cluster[3].corosync().signal(Signal::SIGSTOP);
    cluster.await_members(&[1, 2], &[1, 2]);
    eventually("the others write", || cluster[1].write("g", "y").is_ok());
    let frozen = &cluster[3];
    if frozen.is_stock() {
        // Its writers hang, and it with them.
        frozen.corosync().signal(Signal::SIGCONT);
    } else {
        all_get_an_answer(frozen);
        assert_eq!(frozen.logged("does not answer"), 1, "{}", frozen.log());
        frozen.corosync().signal(Signal::SIGCONT);
    }
    cluster.await_members(&cluster.numbers(), &cluster.numbers());
    cluster.settle();
    soon("it has what it missed", || cluster[3].has("g", "y"));
});

scenario!(a_frozen_corosync_does_not_keep_the_daemon_from_ending, SHORT_TOKEN, |cluster| {
    if cluster[2].is_stock() {
        return;
    }
    cluster[2].corosync().signal(Signal::SIGSTOP);
    cluster.await_members(&[1, 3], &[1, 3]);
    let started = Instant::now();
    cluster[2].stop();
    assert!(started.elapsed() < STOP_MAX, "after {:?}", started.elapsed());
    // It starts and serves what it has, too.
    cluster[2].start();
    assert!(cluster[2].read("corosync.conf").is_ok());
    cluster[2].corosync().signal(Signal::SIGCONT);
    cluster.await_members(&cluster.numbers(), &cluster.numbers());
    cluster.settle();
});

/// While corosync stands still, writers get an error in time, readers get their data, status clients are
/// served, and the daemon does not spin.
fn all_get_an_answer(node: &Node) {
    let started = Instant::now();
    let cpu = node.daemon().cpu();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let error = fs::create_dir(node.tree(&format!("stuck-{writer}"))).expect_err("no answer");
                assert!(matches!(error.raw_os_error(), Some(ETIMEDOUT | EBUSY)), "{error}");
                assert!(started.elapsed() < WAIT_MAX, "after {:?}", started.elapsed());
            });
        }
        for value in 0..600 {
            let body =
                [[b"key".as_slice(), &[0; 253]].concat(), format!("value {value}").into_bytes()].concat();
            assert_eq!(node.ask(Op::SetStatus, &body).0, 0);
        }
        assert!(node.has("f", "x"), "reading goes on");
    });
    assert!(node.has("f", "x"), "reading goes on");
    let spent = node.daemon().cpu() - cpu;
    assert!(spent < started.elapsed() / 10, "{spent:?} of CPU while nothing happens");
}
