//! Starts and stops daemons, ours and stock, each in mount, UTS and network namespaces of its own, with all
//! its paths below one directory; and takes clients into them. It measures nothing.

use crate::namespace;
use crate::{Outcome, process};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chdir};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Node name of every daemon that is measured.
pub const NODE: &str = "bench1";

/// How long a daemon may take to serve or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a line before it starts the daemon, so that the time to make namespaces is not measured.
const GO: &str = "echo ready; read go; exec >&2\n";

/// The stock daemon has fixed paths: its directories are mounted over the host's, in its own namespace.
const STOCK_SETUP: &str = r#"
set -e
dir=$1 binary=$2; shift 2
hostname bench1
for file in passwd group nsswitch.conf ld.so.cache; do
    [ ! -e /etc/$file ] || cp /etc/$file "$dir/etc/"
done
printf '127.0.0.1 localhost\n192.0.2.1 bench1\n' > "$dir/etc/hosts"
mount --bind "$dir/var/lib" /var/lib
mount --bind "$dir/run" /run
mount --bind "$dir/etc" /etc
cd /
"#;

const OUR_SETUP: &str = "set -e\ndir=$1 binary=$2; shift 2\ncd /\n";

/// Whose daemon.
#[derive(Clone, PartialEq)]
pub enum Side {
    /// The stock daemon at this path.
    Stock(PathBuf),
    /// The one that was built with this benchmark.
    Ours,
}

impl Side {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stock(_) => "stock",
            Self::Ours => "pmxcfs",
        }
    }

    fn binary(&self) -> &Path {
        match self {
            Self::Stock(path) => path,
            Self::Ours => Path::new(env!("CARGO_BIN_EXE_pmxcfs")),
        }
    }

    /// A shell in new namespaces, about to become the daemon. It dies with the benchmark.
    fn command(&self, dir: &Path, options: &[&str]) -> Command {
        let setup = if *self == Self::Ours { OUR_SETUP } else { STOCK_SETUP };
        let script = format!("{setup}{GO}exec setpriv --pdeathsig KILL \"$binary\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "unchanged", "--uts", "--net"]);
        command.args(["sh", "-c", &script, "pmxcfs"]);
        command.arg(dir).arg(self.binary()).args(options);
        if *self == Self::Ours {
            command.arg("--root").arg(dir).args(["--node", NODE, "--ip", "192.0.2.1", "--service", "pve2"]);
        }
        command
    }
}

/// Makes the directories that a host would have.
pub fn prepare(dir: &Path) -> Outcome<()> {
    for path in ["etc/pve", "etc/corosync", "run", "var/lib/pve-cluster", "var/lib/rrdcached/db"] {
        fs::create_dir_all(dir.join(path))?;
    }
    Ok(())
}

/// Where the daemon of `dir` has its database.
pub fn database_path(dir: &Path) -> PathBuf {
    dir.join("var/lib/pve-cluster/config.db")
}

/// A running daemon, ended when dropped.
pub struct Daemon {
    pub side: Side,
    pub pid: i32,
    dir: PathBuf,
    /// None when it has put itself in the background.
    child: Option<Child>,
}

impl Daemon {
    /// Starts the daemon in the foreground and waits until its tree and its service are there.
    pub fn start(side: &Side, dir: &Path) -> Outcome<Self> {
        let (child, _) = launch(side, dir, &["-f", "-l"])?;
        let pid = i32::try_from(child.id())?;
        let mut daemon = Self { side: side.clone(), pid, dir: dir.to_owned(), child: Some(child) };
        let deadline = Instant::now() + PATIENCE;
        while !daemon.serves() {
            let ended = daemon.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                return Err(daemon.failure("does not serve"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    /// Starts the daemon as an init system does; the time until it says that it serves.
    pub fn start_in_background(side: &Side, dir: &Path) -> Outcome<(Self, Duration)> {
        let (mut child, started) = launch(side, dir, &["-l"])?;
        let status = child.wait()?;
        let took = started.elapsed();
        let mut daemon = Self { side: side.clone(), pid: 0, dir: dir.to_owned(), child: None };
        if !status.success() {
            return Err(daemon.failure(&format!("did not start ({status})")));
        }
        daemon.pid = fs::read_to_string(dir.join("run/pve-cluster.pid"))?.trim().parse()?;
        if !daemon.serves() {
            return Err(daemon.failure("said that it serves, but does not"));
        }
        Ok((daemon, took))
    }

    pub fn name(&self) -> &'static str {
        self.side.name()
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        database_path(&self.dir)
    }

    /// Its tree as seen from the host's namespace.
    pub fn tree(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        match self.side {
            Side::Stock(_) => root.join("etc/pve"),
            Side::Ours => root.join(self.dir.strip_prefix("/").unwrap_or(&self.dir)).join("etc/pve"),
        }
    }

    /// The service is the last thing that starts; its socket's name is abstract.
    fn serves(&self) -> bool {
        let sockets = fs::read_to_string(format!("/proc/{}/net/unix", self.pid)).unwrap_or_default();
        let listens = sockets.lines().any(|line| line.split_whitespace().nth(7).is_some_and(is_service));
        listens && fs::read(self.tree().join(".version")).is_ok()
    }

    /// Runs `work` on a thread inside: in the daemon's network, with its tree as working directory.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        let network = File::open(format!("/proc/{}/ns/net", self.pid))?;
        let tree = self.tree();
        let enter = move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            chdir(&tree)?;
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join()).map_err(|_| "a load panicked")?
    }

    /// Bytes it has caused to be written to the disk so far.
    pub fn bytes_written(&self) -> Outcome<u64> {
        process::proc_number(self.pid, "io", "write_bytes")
    }

    /// Resident memory in bytes: `VmRSS` now or `VmHWM` at most so far.
    pub fn memory(&self, which: &str) -> Outcome<u64> {
        Ok(process::proc_number(self.pid, "status", which)? * 1024)
    }

    /// An error with the last words of the daemon's log.
    fn failure(&self, what: &str) -> crate::Failure {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n");
        format!("{} {what}; its log ends with:\n{last}", self.name()).into()
    }

    /// Ends it, by force when it does not want to.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(self.pid);
        if self.pid == 0 || kill(pid, Signal::SIGTERM).is_err() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while process::is_running(self.pid) {
            if Instant::now() > deadline {
                eprintln!("bench: {} does not end, killed", self.name());
                if kill(pid, Signal::SIGKILL).is_err() {
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(mut child) = self.child.take() {
            // Reaped, or already gone: either way it has ended.
            drop(child.wait());
        }
        self.pid = 0;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// True for the abstract address of the service, as the kernel lists it (padding shows as `@`).
fn is_service(address: &str) -> bool {
    address.strip_prefix("@pve2").is_some_and(|padding| padding.chars().all(|c| c == '@'))
}

/// Brings the namespaces up, then lets the daemon start: from that moment it counts.
fn launch(side: &Side, dir: &Path, options: &[&str]) -> Outcome<(Child, Instant)> {
    let log = File::create(dir.join("log"))?;
    let mut command = side.command(dir, options);
    // The namespace that the daemon's is copied from has no propagation.
    namespace::enter_once();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    if line.trim() != "ready" {
        drop(child.wait());
        let log = fs::read_to_string(dir.join("log"))?;
        return Err(format!("cannot prepare namespaces (needs root): {log}").into());
    }
    let started = Instant::now();
    child.stdin.take().ok_or("no input")?.write_all(b"go\n")?;
    Ok((child, started))
}
