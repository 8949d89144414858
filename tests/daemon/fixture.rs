//! A daemon under test and its directory.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// No start, stop or answer takes this long, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that everything of one daemon is below.
pub struct Root {
    dir: tempfile::TempDir,
    pub service: String,
}

impl Root {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            dir: tempfile::tempdir().expect("temp dir"),
            service: format!("test-{}-{number}", std::process::id()),
        }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A path in the mounted tree.
    pub fn tree(&self, below: &str) -> PathBuf {
        self.path("etc/pve").join(below)
    }

    pub fn database(&self) -> PathBuf {
        self.path("var/lib/pve-cluster/config.db")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.path("run/pve-cluster.pid")
    }

    /// The program with the options that keep it below this directory.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmxcfs"));
        command.arg("--root").arg(self.dir.path());
        command.args(["--node", "n1", "--ip", "192.0.2.1", "--service", &self.service]);
        command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, options: &[&str]) -> (ExitStatus, String) {
        let child = self.command(options).spawn().expect("the program starts");
        // Runs with a time limit, after which the process is killed.
        Daemon { child }.wait()
    }

    /// Starts a daemon in the foreground and waits until it serves.
    pub fn serve(&self, options: &[&str]) -> Daemon {
        self.serve_by(options, |command| command)
    }

    /// Starts a daemon in local mode by the command that `wrap` returns.
    pub fn serve_with(&self, wrap: impl FnOnce(Command) -> Command) -> Daemon {
        self.serve_by(&["--local"], |command| {
            let mut wrapped = wrap(command);
            wrapped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            wrapped
        })
    }

    fn serve_by(&self, options: &[&str], wrap: impl FnOnce(Command) -> Command) -> Daemon {
        let mut options = options.to_vec();
        options.push("--foreground");
        let child = wrap(self.command(&options)).process_group(0).spawn().expect("the program starts");
        let mut daemon = Daemon { child };
        wait_until("the daemon serves", || {
            if let Some(status) = daemon.child.try_wait().expect("our child") {
                panic!("the daemon ended at start, {status}: {}", daemon.errors());
            }
            let waits = self.path("run/pve-cluster/cfs-restart-flag").exists();
            self.pid_file().exists() && self.tree(".version").exists() && !waits && self.listens()
        });
        daemon
    }

    /// Whether clients can connect: the service is the last thing that a daemon starts.
    fn listens(&self) -> bool {
        let sockets = fs::read_to_string("/proc/net/unix").expect("the table of sockets");
        let name = format!("@{}", self.service);
        sockets.lines().any(|line| line.trim_end_matches('@').ends_with(&name))
    }

    pub fn is_mounted(&self) -> bool {
        is_mount_point(&self.path("etc/pve"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // A test that failed may leave a mount, whose daemon is dead or killed below.
        while self.is_mounted() {
            if umount2(&self.path("etc/pve"), MntFlags::MNT_DETACH).is_err() {
                break;
            }
        }
    }
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    pub child: Child,
}

impl Daemon {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("our child");
    }

    /// Waits for the end; gives the exit status and what was logged.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut ended = None;
        wait_until("the daemon ends", || {
            ended = self.child.try_wait().expect("our child");
            ended.is_some()
        });
        (ended.expect("waited for"), self.errors())
    }

    pub fn stop(&mut self) -> (ExitStatus, String) {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut text).expect("log lines are ASCII");
        }
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition, looking often; a test that waits in vain fails with its name.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn is_mount_point(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/thread-self/mounts").expect("mount table");
    let wanted = path.to_str().expect("UTF-8 path");
    table.lines().any(|line| line.split(' ').nth(1) == Some(wanted))
}
