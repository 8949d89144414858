//! The Perl module, built by the project's own rules for the system's Perl.

use crate::golden::RecordedService;
use crate::installed::{lib_dir, make, project, root};
use crate::programs::replay_by;
use crate::support::{Program, run, unique_name};
use std::process::Command;
use std::sync::Once;

fn perl(args: &[&str]) -> Command {
    static MODULE: Once = Once::new();
    MODULE.call_once(|| make(&["install-perl-instead", "PERL_ARCHDIR=/usr/lib/perl"]));
    let mut command = Command::new("perl");
    command.arg("-I").arg(root().join("usr/lib/perl")).args(args).env("LD_LIBRARY_PATH", lib_dir());
    command
}

fn script(args: &[&str]) -> Command {
    let mut command = perl(&["-T"]);
    command.arg(project().join("ffi-tests/client.pl")).args(args);
    command
}

#[test]
fn the_recorded_requests() {
    let service = RecordedService::start(&unique_name());
    replay_by(Program::start(&mut script(&["replay", &service.name])));
}

#[test]
fn results_are_those_of_the_stock_module() {
    let service = RecordedService::start(&unique_name());
    run(&mut script(&["check", &service.name]));
}

/// With few descriptors, so that threads that keep theirs run out of them.
#[test]
fn connection_of_a_thread_ends_with_it() {
    let service = RecordedService::start(&unique_name());
    let program = script(&["threads", &service.name]);
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=128").arg(program.get_program()).args(program.get_args());
    run(limited.env("LD_LIBRARY_PATH", lib_dir()));
}

#[test]
fn its_page_is_well_formed() {
    let page = project().join("perl/Pmxcfs/IPCC.pm");
    run(Command::new("podchecker").arg(page));
}

/// Its version stands in three places.
#[test]
fn its_version_is_that_of_the_project() {
    let program = "print $Pmxcfs::IPCC::VERSION";
    assert_eq!(run(&mut perl(&["-MPmxcfs::IPCC", "-e", program])), env!("CARGO_PKG_VERSION"));
}
