//! The examples of docs/CLIENTS.md are complete: they are compiled and run from the page.

use crate::golden::RecordedService;
use crate::installed::{WARNINGS, include_dir, lib_dir, make, project, qb_dir, root};
use crate::support::{run, stock_program, unique_name};
use std::process::Command;

/// The only block of the page in this language.
fn example(language: &str) -> String {
    let page = std::fs::read_to_string(project().join("docs/CLIENTS.md")).unwrap();
    let begin = format!("\n```{language}\n");
    let mut blocks = page.split(&begin).skip(1);
    let block = blocks.next().unwrap().split("\n```\n").next().unwrap().to_owned() + "\n";
    assert!(blocks.next().is_none(), "more than one example in {language}");
    block
}

fn check(out: &str) {
    assert!(out.contains("\"starttime\""), "{out}");
    assert!(out.contains("abchello\n"), "{out}");
    assert!(out.contains("nowhere.cfg: No such file or directory"), "{out}");
}

#[test]
fn the_example_in_c() {
    let (source, program) = (root().join("example.c"), root().join("example"));
    std::fs::write(&source, example("c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(WARNINGS).arg("-I").arg(include_dir()).arg("-o").arg(&program).arg(&source);
    run(compiler.arg("-L").arg(lib_dir()).arg("-lpmxcfs"));
    let service = RecordedService::start(&unique_name());
    check(&run(Command::new(&program).arg(&service.name).env("LD_LIBRARY_PATH", lib_dir())));
    let nobody =
        Command::new(&program).arg(unique_name()).env("LD_LIBRARY_PATH", lib_dir()).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("Connection refused"));
}

#[test]
fn the_example_in_perl() {
    make(&["install-perl", "PERL_ARCHDIR=/usr/lib/perl-example"]);
    let program = root().join("example.pl");
    std::fs::write(&program, example("perl")).unwrap();
    let service = RecordedService::start(&unique_name());
    let mut perl = Command::new("perl");
    perl.arg("-I").arg(root().join("usr/lib/perl-example")).arg(&program).arg(&service.name);
    check(&run(perl.env("LD_LIBRARY_PATH", lib_dir())));
}

/// What the page says about programs of libqb.
#[test]
fn the_library_path_of_the_page() {
    let page = std::fs::read_to_string(project().join("docs/CLIENTS.md")).unwrap();
    assert!(page.contains("LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/pmxcfs-qb"));
    assert!(qb_dir().ends_with("pmxcfs-qb"));
    assert!(stock_program().exists());
}
