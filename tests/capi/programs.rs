//! A program in C that uses every function of the library, against services as they should be.

use crate::golden::{self, RecordedService};
use crate::installed::{c_client, command, compile, lib_dir, root};
use crate::support::{Program, TestServer, entries, eventually, run, unique_name};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

fn client(args: &[&str]) -> Command {
    let mut command = command(c_client());
    command.args(args);
    command
}

/// Ends when nothing is left of any connection.
fn assert_clean(service: &RecordedService) {
    eventually("all connections end", || service.connections() == 0);
    assert_eq!(entries(service.shm.path()), [""; 0]);
}

fn with_service(test: impl FnOnce(&RecordedService)) {
    let service = RecordedService::start(&unique_name());
    test(&service);
    assert_clean(&service);
}

/// A program that answers lines of a request's number and body with lines of errno and data.
pub fn replay_by(mut program: Program) {
    golden::replay(|id, body| {
        let mut line = format!("{id} ");
        body.iter().for_each(|byte| write!(line, "{byte:02x}").unwrap());
        program.say(&line);
        let answer = program.line();
        let (errno, hex) = answer.split_once(' ').unwrap_or((&answer, ""));
        (errno.parse().unwrap(), golden::bytes(&hex.into()))
    });
    program.finish();
}

#[test]
fn the_recorded_requests() {
    with_service(|service| replay_by(Program::start(&mut client(&["replay", &service.name]))));
}

#[test]
fn every_kind_of_request() {
    with_service(|service| drop(run(&mut client(&["typed", &service.name]))));
}

#[test]
fn null_is_an_error_not_a_crash() {
    with_service(|service| drop(run(&mut client(&["nulls", &service.name]))));
}

#[test]
fn a_child_goes_on_with_its_parents_client() {
    with_service(|service| drop(run(&mut client(&["fork", &service.name]))));
}

#[test]
fn threads_share_a_client() {
    with_service(|service| drop(run(&mut client(&["threads", &service.name]))));
}

#[test]
fn descriptors_pass() {
    run(&mut client(&["fds"]));
}

#[test]
fn sixteen_processes_at_once() {
    with_service(|service| {
        let start = |_| Program::start(&mut client(&["requests", &service.name, "100"]));
        let programs: Vec<Program> = (0..16).map(start).collect();
        programs.into_iter().for_each(Program::finish);
    });
}

#[test]
fn ten_thousand_connects_leave_nothing() {
    let server = TestServer::start();
    let mut run_all = client(&["connects", &server.name, "10000"]);
    let _ = run(&mut run_all);
    server.assert_clean();
}

#[test]
fn long_messages_of_sixteen_processes() {
    let server = TestServer::start();
    let start = |_| Program::start(&mut client(&["long", &server.name, "5"]));
    let programs: Vec<Program> = (0..16).map(start).collect();
    programs.into_iter().for_each(Program::finish);
    server.assert_clean();
}

/// Compiled anew with sanitizers; they end the program at the first fault, leaks included.
#[test]
fn with_sanitizers() {
    let dir = format!("-L{}", lib_dir().display());
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", &dir, "-lpmxcfs", "-lpthread"];
    let program = compile("cc", "pmxcfs_client.c", "client-asan", &flags);
    let symbols = run(Command::new("nm").arg(&program));
    assert!(symbols.contains("__asan_init") && symbols.contains("__ubsan_handle"), "not sanitized");
    with_service(|service| {
        for args in
            [&["typed", &service.name][..], &["nulls", &service.name], &["fork", &service.name], &["fds"]]
        {
            run(command(&program).args(args));
        }
    });
    run(command(&program).args(["long", &TestServer::start().name, "2"]));
}

#[test]
fn under_valgrind() {
    with_service(|service| {
        for args in [&["typed", &service.name][..], &["nulls", &service.name], &["fds"]] {
            run(&mut valgrind(c_client(), args));
        }
    });
    run(&mut valgrind(c_client(), &["long", &TestServer::start().name, "1"]));
}

/// Fails on any fault and on any memory that is lost.
fn valgrind(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    command.arg(format!("--log-file={}", root().join("valgrind-%p.log").display()));
    command.arg(program).args(args).env("LD_LIBRARY_PATH", lib_dir());
    command
}
