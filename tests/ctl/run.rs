//! `make run`: the printed commands work unchanged, wherever the tree is.

use crate::fixture::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `tools/run.sh` with the programs under test.
struct Run {
    child: Child,
    /// Commands by their lines.
    commands: Vec<String>,
}

impl Run {
    fn start(directory: &Path, node: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/run.sh");
        let programs = Path::new(env!("CARGO_BIN_EXE_pmxcfs")).parent().expect("a directory");
        let mut command = Command::new(script);
        command.arg(programs).arg(directory).arg(node).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.stdout(Stdio::piped()).spawn().expect("the script starts");
        let mut run = Self { child, commands: Vec::new() };
        let lines = BufReader::new(run.child.stdout.take().expect("piped")).lines();
        let lines = lines.map(|line| line.expect("text")).take_while(|line| !line.contains("Ctrl-C"));
        run.commands = lines.filter_map(|line| Some(line.strip_prefix("    ")?.to_owned())).collect();
        run
    }

    /// Output of the printed command that contains `word`, run by a shell in another working directory.
    fn output(&self, word: &str) -> String {
        let command = self.commands.iter().find(|command| command.contains(word)).expect(word);
        let output = Command::new("sh").args(["-c", command]).current_dir("/").output().expect("a shell");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn stop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, Signal::SIGINT).expect("our child");
        assert!(self.child.wait().expect("our child").success());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn try_all(directory: &Path, node: &str) {
    let mut run = Run::start(directory, node);
    let tree = directory.join("etc/pve");
    wait_until("the tree is served", || tree.join(".version").exists());
    wait_until("the service answers", || {
        let asked = run.commands.iter().find(|command| command.contains("pmxcfs-ctl")).expect("printed");
        Command::new("sh").args(["-c", asked]).output().expect("a shell").status.success()
    });
    let status = run.output("pmxcfs-ctl");
    assert!(status.contains(&format!("  mounted at {}\n", tree.display())), "{status}");
    assert!(status.contains(&format!("service pve2-{node}")), "{status}");
    assert!(run.output("/.version").contains("starttime"));
    run.output("mkdir");
    run.output("echo");
    assert!(run.output(".vmlist").contains("\"100\""));
    assert!(run.output("sqlite3").contains("|qemu-server\n"));
    run.stop();
}

#[test]
fn printed_commands_work_in_plain_path() {
    let dir = tempfile::tempdir().expect("temp dir");
    try_all(&dir.path().join("run"), &format!("plain-{}", std::process::id()));
}

#[test]
fn printed_commands_work_in_quoted_path() {
    let dir = tempfile::tempdir().expect("temp dir");
    try_all(&dir.path().join("it's a \"$run\" `x` \\ &"), &format!("odd-{}", std::process::id()));
}
