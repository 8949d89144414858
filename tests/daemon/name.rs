//! Another process holds the service's name: the tree is served, admins learn the holder, and IPC starts as
//! soon as the name is free.

use crate::fixture::{Daemon, PATIENCE, Root, wait_until};
use crate::manager::Manager;
use crate::public;
use pmxcfs::ipc::qb::client::{Client, ClientError};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

/// An unprivileged user.
const USER: u32 = 54321;

/// A process that has bound a service's name; killed when dropped.
struct Squatter {
    child: Child,
}

impl Squatter {
    /// Binds the name as libqb would, as `user`, and then runs `after`, in Perl.
    fn start(name: &str, user: u32, after: &str) -> Self {
        let script = format!(
            "use Socket; $| = 1; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
             my $address = pack('Sxa107', PF_UNIX, '{name}'); \
             bind(S, $address) or die \"bind: $!\"; {after}; print \"ready\\n\"; sleep 600"
        );
        let mut command = public::command_as("/usr/bin/perl", user, user);
        command.args(["-e", &script]);
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("perl");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("its word");
        assert_eq!(line, "ready\n");
        Self { child }
    }

    fn described(&self) -> String {
        format!("process {} (/usr/bin/perl) of user {USER}", self.child.id())
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }
}

/// Listens, and does not respond.
const LISTENS: &str = "listen(S, 5) or die";
/// Binds the name without listening.
const BOUND: &str = "1";
/// Listens, and fills its queue with connections of its own.
const FULL: &str = "listen(S, 0) or die; \
     for (1..3) { socket(my $c, PF_UNIX, SOCK_STREAM | 2048, 0) or die; connect($c, $address); push @c, $c }";

fn ctl(root: &Root, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmxcfs-ctl"));
    command.args(["--service", &root.service, "--timeout", "120"]).args(arguments).stdin(Stdio::null());
    command.output().expect("the program starts")
}

fn status_fails(root: &Root) -> String {
    let start = Instant::now();
    let output = ctl(root, &["status"]);
    assert!(start.elapsed() < PATIENCE, "it waited for its whole timeout");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn serves(root: &Root) -> bool {
    ctl(root, &["status"]).status.success()
}

/// A daemon whose name is taken is ready, alive and named, and serves once the name is free.
fn survives(after: &str) {
    let root = Root::new();
    let squatter = Squatter::start(&root.service, USER, after);
    let manager = Manager::new(&root);
    let mut daemon = manager.start(root.command(&["--local", "--foreground"]));
    let ready = manager.hear("READY=1\n");
    let taken = format!("no IPC: its name is taken by {}", squatter.described());
    assert!(ready.contains(&taken), "{ready}");
    fs::write(root.tree("a"), "served").expect("the tree is served");
    // Longer than the manager's timeout.
    for _ in 0..4 {
        manager.hear("WATCHDOG=1");
    }
    let error = status_fails(&root);
    assert!(error.contains(&squatter.described()), "{error}");
    let described = squatter.described();
    drop(squatter);
    while manager.hear("STATUS=") != "STATUS=serving 2 entries, changes allowed" {}
    wait_until("the service has its name", || serves(&root));
    manager.hear("WATCHDOG=1");
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    let line = format!("[ipcs] crit: the name of the service, '{}', is taken by {described}", root.service);
    assert_eq!(log.matches(&line).count(), 1, "{log}");
    let line = format!("[ipcs] notice: the service '{}' is served now: its name was taken for", root.service);
    assert!(log.contains(&line), "{log}");
}

#[test]
fn taken_name_leaves_the_tree_served() {
    survives(LISTENS);
}

#[test]
fn name_taken_by_a_socket_that_only_is_bound() {
    survives(BOUND);
}

#[test]
fn name_taken_by_a_socket_with_a_full_queue() {
    survives(FULL);
}

#[test]
fn name_held_by_root_refuses_the_start() {
    let root = Root::new();
    let squatter = Squatter::start(&root.service, 0, LISTENS);
    let (status, log) = root.run(&["--local", "--foreground"]);
    assert_eq!(status.code(), Some(255), "{log}");
    let holder = format!("its name is taken by process {} (/usr/bin/perl) of user 0", squatter.child.id());
    assert!(log.contains(&holder), "{log}");
    assert!(log.contains("does another pmxcfs serve it?"), "{log}");
    assert!(!root.is_mounted() && !root.pid_file().exists());
}

#[test]
fn second_daemon_is_refused_while_the_name_is_taken() {
    let root = Root::new();
    let squatter = Squatter::start(&root.service, USER, LISTENS);
    let mut first = root.serve(&["--local"]);
    let (status, log) = root.run(&["--local", "--foreground"]);
    assert_eq!(status.code(), Some(255), "{log}");
    assert!(log.contains("another pmxcfs uses this database"), "{log}");
    assert!(root.tree(".version").exists());
    drop(squatter);
    wait_until("the first has its name", || serves(&root));
    stop(&mut first);
}

fn stop(daemon: &mut Daemon) {
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn silent_server_of_another_user_is_refused_at_once() {
    let root = Root::new();
    let squatter = Squatter::start(&root.service, USER, LISTENS);
    let error = Client::connect(&root.service, 8192, PATIENCE).expect_err("not trusted");
    let ClientError::Untrusted(server) = error else { panic!("{error}") };
    assert_eq!((server.pid as u32, server.uid), (squatter.child.id(), USER));
}
