//! Protection of the daemon's memory, which contains keys and tokens.

use crate::fixture::Root;
use std::process::Command;

/// Whether a process of root without the right to trace any process can open the daemon's memory. If a
/// process is not dumpable the kernel forbids that, and core dumps.
fn is_readable(limit: &str) -> (bool, String) {
    let root = Root::new();
    let mut daemon = root.serve_with(|command| {
        let mut limited = Command::new("setpriv");
        limited.args(["--bounding-set=-sys_ptrace", "prlimit", &format!("--core={limit}")]);
        limited.arg(command.get_program()).args(command.get_args());
        limited
    });
    let memory = format!("/proc/{}/mem", daemon.pid());
    let mut reader = Command::new("setpriv");
    let read = reader
        .args(["--bounding-set=-sys_ptrace", "sh", "-c", ": < \"$0\"", &memory])
        .output()
        .expect("a program");
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    (read.status.success(), log)
}

#[test]
fn memory_is_kept_out_of_core_dumps() {
    let (readable, log) = is_readable("0");
    assert!(!readable && !log.contains("core dumps"), "{log}");
    let (readable, log) = is_readable("unlimited");
    assert!(readable && log.contains("[main] notice: core dumps are on"), "{log}");
}
