//! What a service manager hears of a daemon, and when.

use crate::fixture::{Daemon, PATIENCE, Root, wait_until};
use crate::public;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the manager gives the watchdog. The daemon lets a probe do its work three times in it.
const INTERVAL: Duration = Duration::from_millis(1500);

/// A manager's socket.
pub struct Manager {
    socket: UnixDatagram,
    name: std::path::PathBuf,
}

impl Manager {
    pub fn new(root: &Root) -> Self {
        let name = root.path("notify");
        let socket = UnixDatagram::bind(&name).expect("bound");
        Self { socket, name }
    }

    pub fn start(&self, mut command: Command) -> Daemon {
        command.env("NOTIFY_SOCKET", &self.name).env("WATCHDOG_USEC", INTERVAL.as_micros().to_string());
        Daemon { child: command.spawn().expect("the program starts") }
    }

    /// The next datagram, or None when there is none for so long.
    fn hear_for(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("a limit");
        let mut buffer = [0; 512];
        match self.socket.recv(&mut buffer) {
            Ok(len) => Some(String::from_utf8_lossy(&buffer[..len]).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next datagram that begins so.
    pub fn hear(&self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = self.hear_for(PATIENCE).filter(|_| Instant::now() < deadline);
            let heard = heard.unwrap_or_else(|| panic!("waited in vain for {beginning}"));
            if heard.starts_with(beginning) {
                return heard;
            }
        }
    }

    /// Silent for as long as a manager would wait, apart from what was under way.
    fn hears_no_more(&self) {
        let heard = (0..8).position(|_| self.hear_for(INTERVAL).is_none());
        assert!(heard.is_some(), "the watchdog is still fed");
    }
}

/// The processes that `pid` made and that carry this name.
pub fn helpers(pid: Pid, name: &str) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let children = tasks.map(|task| fs::read_to_string(task.expect("readable").path().join("children")));
    let pids = children.flat_map(|list| {
        let list = list.unwrap_or_default();
        list.split_whitespace().map(|pid| pid.parse::<i32>().expect("a pid")).collect::<Vec<_>>()
    });
    let named =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    pids.filter(named).map(Pid::from_raw).collect()
}

#[test]
fn ready_is_said_when_the_tree_is_served_and_stopping_at_once() {
    let root = Root::new();
    let manager = Manager::new(&root);
    let mut daemon = manager.start(root.command(&["--local", "--foreground"]));
    let ready = manager.hear("READY=1\n");
    assert!(root.is_mounted() && root.tree(".version").exists(), "served when it says so");
    assert!(ready.contains(&format!("\nMAINPID={}\n", daemon.pid())), "{ready}");
    assert!(ready.contains("\nSTATUS=serving "), "{ready}");
    manager.hear("WATCHDOG=1");
    daemon.signal(Signal::SIGTERM);
    manager.hear("STOPPING=1");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("watchdog"), "{log}");
}

#[test]
fn in_the_background_the_main_process_is_the_one_that_serves() {
    let root = Root::new();
    let manager = Manager::new(&root);
    let mut starter = manager.start(root.command(&["--local"]));
    let ready = manager.hear("READY=1\n");
    let (status, log) = starter.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let pid = fs::read_to_string(root.pid_file()).expect("pid file");
    assert!(ready.contains(&format!("\nMAINPID={}\n", pid.trim())), "{ready}");
    kill(Pid::from_raw(pid.trim().parse().expect("a pid")), Signal::SIGTERM).expect("running");
    manager.hear("STOPPING=1");
    wait_until("the daemon ends", || !root.pid_file().exists());
}

#[test]
fn the_watchdog_is_fed_only_while_the_tree_answers() {
    let root = Root::new();
    let manager = Manager::new(&root);
    let mut daemon = manager.start(root.command(&["--local", "--foreground"]));
    manager.hear("READY=1\n");
    manager.hear("WATCHDOG=1");
    // Something in front of the tree, as a daemon that serves another than what clients see.
    let none = None::<&str>;
    mount(none, &root.path("etc/pve"), Some("tmpfs"), MsFlags::empty(), none).expect("mounted");
    manager.hears_no_more();
    umount2(&root.path("etc/pve"), MntFlags::empty()).expect("unmounted");
    manager.hear("WATCHDOG=1");
    daemon.stop();
}

const FLOODED: &str = "PMXCFS_TEST_FLOODED";

/// Connects without a pause, and sends no request; runs only in the processes of [`Flood`].
#[test]
fn flood_process() {
    let Ok(service) = std::env::var(FLOODED) else { return };
    prctl::set_pdeathsig(Signal::SIGKILL).expect("set");
    let mut name = service.into_bytes();
    name.resize(107, 0);
    let address = UnixAddr::new_abstract(&name).expect("a name");
    let (mut held, end) = (VecDeque::new(), Instant::now() + 4 * PATIENCE);
    while Instant::now() < end {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let peer = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
        if connect(peer.as_raw_fd(), &address).is_ok() {
            held.push_back(peer);
        }
        held.drain(..held.len().saturating_sub(500));
    }
}

/// A process of another user that keeps the queue of the service full.
struct Flood(Child);

impl Flood {
    fn start(program: &public::Copy, root: &Root) -> Self {
        let mut command = program.command_as(60001, 60001);
        command.args(["--exact", "manager::flood_process"]).env(FLOODED, &root.service);
        Self(command.stdout(Stdio::null()).spawn().expect("the program starts"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.kill().expect("our child");
        self.0.wait().expect("our child");
    }
}

#[test]
fn watchdog_is_fed_while_others_flood_the_service() {
    let (root, program) = (Root::new(), public::Copy::of(std::env::current_exe().expect("a program")));
    let manager = Manager::new(&root);
    let mut daemon = manager.start(root.command(&["--local", "--foreground"]));
    manager.hear("WATCHDOG=1");
    let floods: Vec<Flood> = (0..24).map(|_| Flood::start(&program, &root)).collect();
    let (start, mut fed) = (Instant::now(), 0);
    // Until it was fed often enough for a long flood, or not for much longer than a manager would wait.
    while fed < 4 {
        let heard = manager.hear_for(PATIENCE.min(4 * INTERVAL));
        assert!(heard.is_some(), "fed {fed} times in {:?}", start.elapsed());
        fed += u32::from(heard.is_some_and(|heard| heard == "WATCHDOG=1"));
    }
    drop(floods);
    daemon.stop();
}

#[test]
fn a_probe_that_was_killed_is_replaced() {
    let root = Root::new();
    let manager = Manager::new(&root);
    let program = root.path("pmxcfs");
    fs::copy(env!("CARGO_BIN_EXE_pmxcfs"), &program).expect("copied");
    let mut command = Command::new(&program);
    command.args(root.command(&["--local", "--foreground"]).get_args()).stderr(Stdio::piped());
    let mut daemon = manager.start(command);
    manager.hear("WATCHDOG=1");
    // As an upgrade does with the program of a daemon that runs.
    fs::remove_file(&program).expect("removed");
    let first = helpers(daemon.pid(), "cfs-probe");
    assert_eq!(first.len(), 1);
    kill(first[0], Signal::SIGKILL).expect("a process");
    let mut second = Vec::new();
    wait_until("there is another probe", || {
        second = helpers(daemon.pid(), "cfs-probe");
        second.len() == 1 && second != first
    });
    manager.hear("WATCHDOG=1");
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    wait_until("the probe ends with its daemon", || {
        !std::path::Path::new(&format!("/proc/{}", second[0])).exists()
    });
}
