//! The promise about the binary interface: programs compiled against the header of each release run on the library
//! of today. Headers of releases are kept in `ffi-tests/abi`.

use crate::golden::RecordedService;
use crate::installed::{WARNINGS, command, include_dir, lib_dir, project, root};
use crate::support::{run, unique_name};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Releases whose headers are kept, and their directories.
fn releases() -> Vec<(String, PathBuf)> {
    let kept = std::fs::read_dir(project().join("ffi-tests/abi")).unwrap();
    let dirs = kept.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut releases: Vec<_> =
        dirs.map(|dir| (dir.file_name().unwrap().to_str().unwrap().to_owned(), dir)).collect();
    releases.sort();
    releases
}

/// Compiles the program against the header in a directory.
fn compiled(name: &str, headers: &Path) -> PathBuf {
    let program = root().join(format!("abi-{name}"));
    let mut compiler = Command::new("cc");
    compiler.args(WARNINGS).arg("-I").arg(headers).arg("-o").arg(&program);
    compiler.arg(project().join("ffi-tests/abi/program.c")).arg("-L").arg(lib_dir()).arg("-lpmxcfs");
    run(&mut compiler);
    program
}

#[test]
fn programs_of_each_release_run_on_this_library() {
    let service = RecordedService::start(&unique_name());
    let releases = releases();
    assert!(releases.len() >= 2, "headers are missing: {releases:?}");
    for (release, headers) in releases {
        let out = run(command(&compiled(&release, &headers)).arg(&service.name));
        assert_eq!(out.trim(), format!("{release} on {}", env!("CARGO_PKG_VERSION")));
    }
    let out = run(command(&compiled("today", &include_dir())).arg(&service.name));
    assert_eq!(out.trim(), format!("{0} on {0}", env!("CARGO_PKG_VERSION")));
}

/// Each release but the one in preparation has its header here.
#[test]
fn header_of_each_release_is_kept() {
    let changelog = std::fs::read_to_string(project().join("CHANGELOG.md")).unwrap();
    let heads = changelog.lines().filter_map(|line| line.strip_prefix("## [")?.split_once("] - "));
    let mut released: Vec<&str> = heads.map(|(version, _)| version).collect();
    released.sort_unstable();
    let kept: Vec<String> = releases().into_iter().map(|(release, _)| release).collect();
    assert_eq!(kept, released, "keep a copy of include/pmxcfs.h in ffi-tests/abi/VERSION for each release");
    for (release, headers) in releases() {
        let header = std::fs::read_to_string(headers.join("pmxcfs.h")).unwrap();
        assert!(header.contains(&format!("#define PMXCFS_VERSION \"{release}\"\n")), "{release}");
    }
}

/// The library before it had versions: a program linked with that names none.
#[test]
fn programs_without_symbol_versions_run() {
    let service = RecordedService::start(&unique_name());
    let dir = root().join("unversioned");
    std::fs::create_dir_all(&dir).unwrap();
    let archive = lib_dir().join("libpmxcfs.a");
    let mut linker = Command::new("cc");
    linker.args(["-shared", "-Wl,-soname,libpmxcfs.so.1", "-Wl,--whole-archive"]).arg(archive);
    run(linker.args(["-Wl,--no-whole-archive", "-o"]).arg(dir.join("libpmxcfs.so")));
    let program = root().join("abi-unversioned");
    let mut compiler = Command::new("cc");
    compiler.arg("-I").arg(project().join("ffi-tests/abi/0.1.0")).arg("-o").arg(&program);
    compiler.arg(project().join("ffi-tests/abi/program.c")).arg("-L").arg(&dir).arg("-lpmxcfs");
    run(&mut compiler);
    let needs = run(Command::new("readelf").args(["--wide", "--version-info"]).arg(&program));
    assert!(!needs.contains("PMXCFS_"), "{needs}");
    run(command(&program).arg(&service.name));
}
