//! A program in C while the daemon is restarted below it: a real daemon, started and stopped.

use crate::fixture::Root;
use crate::installed::{c_client, command};
use crate::support::Program;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

fn hold(root: &Root, resend: bool) -> Program {
    let flag = root.path("run/pve-cluster/cfs-restart-flag");
    let resend = if resend { "1" } else { "0" };
    let mut command = command(c_client());
    Program::start(command.args(["hold", &root.service, flag.to_str().unwrap(), resend]))
}

#[test]
fn a_program_goes_on_after_a_restart() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let (mut stock_like, mut once) = (hold(&root, true), hold(&root, false));
    for program in [&mut stock_like, &mut once] {
        assert_eq!(program.line(), "connected 0");
        program.say("1 20000");
        assert_eq!(program.line(), "result 0");
    }
    assert!(daemon.stop().0.success());
    let flag = root.path("run/pve-cluster/cfs-restart-flag");
    assert!(flag.exists());
    // Sent while there is no daemon: waits for it, as the flag says that it will be back.
    stock_like.say("1 -1");
    let mut daemon = root.serve(&["--local"]);
    assert_eq!(stock_like.line(), "result 0");
    once.say("1 20000");
    assert_eq!(once.line(), format!("result {}", -libc::ENOTCONN));
    once.say("1 20000");
    assert_eq!(once.line(), "result 0");

    // Killed, it leaves no flag, and is not waited for.
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    stock_like.say("1 -1");
    assert_eq!(stock_like.line(), format!("result {}", -libc::ECONNREFUSED));

    // A flag that nobody removes: waited for as long as was said, and then removed.
    std::fs::write(&flag, "").unwrap();
    let before = Instant::now();
    stock_like.say("1 -1");
    assert_eq!(stock_like.line(), format!("result {}", -libc::ECONNREFUSED));
    assert!(before.elapsed() >= Duration::from_millis(500) && !flag.exists());

    // A request's own time is kept meanwhile.
    std::fs::write(&flag, "").unwrap();
    let before = Instant::now();
    stock_like.say("1 100");
    assert_eq!(stock_like.line(), format!("result {}", -libc::ECONNREFUSED));
    assert!(before.elapsed() < Duration::from_millis(500) && flag.exists());
    let _daemon = root.serve(&["--local"]);
    stock_like.say("1 20000");
    assert_eq!(stock_like.line(), "result 0");
    stock_like.finish();
    once.finish();
}
