//! A program in a node's place.

use crate::space::Space;
use crate::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running program; killed when dropped, and when the place vanishes.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it with its output at the end of `log`.
    pub fn start(space: &Space, words: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let errors = log.try_clone().expect("a log file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(words).current_dir("/");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        Self { child: space.run(move || command.spawn()).expect("setpriv") }
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("our child");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Time of the processor that it has used.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let fields = stat.rsplit(')').next().expect("a name in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        eventually("a program ends", || self.has_ended());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
