//! Corosync that goes away.

use crate::scenario;
use crate::wait::{eventually, soon};
use nix::libc::EACCES;

/// Milliseconds: here a lost node is to be noticed.
const SHORT_TOKEN: u32 = 1500;

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
