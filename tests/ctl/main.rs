//! `pmxcfs-ctl` against real daemons, each with a root directory and a service name of its own.

#[path = "../daemon/fixture.rs"]
mod fixture;
#[path = "../common/public.rs"]
mod public;

mod asking;
mod documented;
mod metrics;
mod mounted;
mod run;

mod watching;

use fixture::Root;
use serde_json::Value;
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pmxcfs-ctl");

/// The program, asking the daemon of this root.
fn ctl(root: &Root, arguments: &[&str]) -> Command {
    to_daemon_of(root, Command::new(PROGRAM), arguments)
}

/// Adds the arguments that select the daemon of this root, and more.
fn to_daemon_of(root: &Root, mut command: Command, arguments: &[&str]) -> Command {
    command.args(["--service", &root.service, "--root"]).arg(root.path(""));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(root: &Root, arguments: &[&str]) -> Output {
    ctl(root, arguments).output().expect("the program starts")
}

/// What it prints when all is well.
fn ask(root: &Root, arguments: &[&str]) -> String {
    let output = output(root, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {} {errors}", output.status);
    assert_eq!(errors, "", "{arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn ask_json(root: &Root, arguments: &[&str]) -> Value {
    serde_json::from_str(&ask(root, &[arguments, &["--json"]].concat())).expect("JSON")
}

/// Its exit code and its one line of complaint.
fn fails(root: &Root, arguments: &[&str]) -> (i32, String) {
    let output = output(root, arguments);
    let errors = String::from_utf8(output.stderr).expect("text");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    (output.status.code().expect("an exit code"), errors)
}
