//! What the libraries are as files: names, links, symbols, what they need, and headers that compile.

use crate::installed::{compile, include_dir, lib_dir, project, qb_dir};
use crate::support::{TestServer, run};
use std::path::Path;
use std::process::Command;

/// The names a library defines for others.
fn exported(library: &Path) -> Vec<String> {
    let text = run(Command::new("nm").args(["--dynamic", "--defined-only", "--format=posix"]).arg(library));
    let mut names: Vec<String> =
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn listed(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join(file)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The values of a tag in the dynamic section.
fn dynamic(library: &Path, tag: &str) -> Vec<String> {
    let text = run(Command::new("readelf").args(["--wide", "--dynamic"]).arg(library));
    let lines = text.lines().filter(|line| line.contains(tag));
    let value = |line: &str| Some(line.split_once('[')?.1.trim_end_matches(']').to_owned());
    lines.filter_map(value).collect()
}

#[test]
fn exactly_the_listed_names_are_exported() {
    assert_eq!(exported(&lib_dir().join("libpmxcfs.so")), listed("capi/symbols.txt"));
    assert_eq!(exported(&qb_dir().join("libqb.so.100")), listed("qb-compat/symbols.txt"));
}

#[test]
fn every_name_is_declared_and_every_declaration_there() {
    let declared = |headers: &[&str], prefix: &str| {
        let text: String =
            headers.iter().map(|h| std::fs::read_to_string(project().join(h)).unwrap()).collect();
        let mut names: Vec<String> = text
            .match_indices('(')
            .map(|(at, _)| text[..at].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
            .filter(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    assert_eq!(declared(&["include/pmxcfs.h"], "pmxcfs_"), listed("capi/symbols.txt"));
    let compat = ["include/compat/qb/qbipcc.h", "include/compat/qb/qblog.h"];
    assert_eq!(declared(&compat, "qb_"), listed("qb-compat/symbols.txt"));
}

#[test]
fn names_and_links_are_versioned() {
    let version = env!("CARGO_PKG_VERSION");
    let target = |path: &Path| std::fs::read_link(path).unwrap().into_os_string().into_string().unwrap();
    let (so, soname) = (lib_dir().join("libpmxcfs.so"), "libpmxcfs.so.1");
    assert_eq!(target(&so), soname);
    assert_eq!(target(&lib_dir().join(soname)), format!("{soname}.{version}"));
    assert_eq!(dynamic(&so, "SONAME"), [soname]);
    let qb = qb_dir().join("libqb.so.100");
    assert_eq!(target(&qb), format!("libpmxcfs-qb.so.{version}"));
    assert_eq!(dynamic(&qb, "SONAME"), ["libqb.so.100"]);
}

#[test]
fn nothing_but_the_system_is_needed() {
    for library in [lib_dir().join("libpmxcfs.so"), qb_dir().join("libqb.so.100")] {
        for needed in dynamic(&library, "NEEDED") {
            let system = ["libc.so.6", "libgcc_s.so.1", "ld-linux"];
            assert!(system.iter().any(|name| needed.starts_with(name)), "{}: {needed}", library.display());
        }
        let flags = run(Command::new("readelf").args(["--wide", "--dynamic"]).arg(&library));
        assert!(flags.contains("NODELETE"), "{} could be unloaded below its handler", library.display());
    }
}

#[test]
fn stock_libqb_has_these_names_without_a_version_too() {
    let stock = run(Command::new("sh").args(["-c", "objdump -T $(cc -print-file-name=libqb.so)"]));
    for name in listed("qb-compat/symbols.txt") {
        let line = stock.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
        assert!(line.contains("  Base  ") || line.split_whitespace().count() == 6, "{line}");
    }
}

#[test]
fn pkg_config_knows_where_all_is() {
    let ask = |what: &str| {
        let mut command = Command::new("pkg-config");
        command.args([what, "pmxcfs"]).env("PKG_CONFIG_PATH", lib_dir().join("pkgconfig"));
        run(command.env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1").env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1"))
    };
    assert_eq!(ask("--modversion").trim(), env!("CARGO_PKG_VERSION"));
    assert_eq!(ask("--cflags").trim(), "-I/usr/include");
    assert_eq!(ask("--libs").trim(), "-L/usr/lib -lpmxcfs");
}

/// Of what the archive brings along nothing can meet another library's names.
#[test]
fn the_static_library_offers_the_same_names() {
    let library = lib_dir().join("libpmxcfs.a");
    let text = run(Command::new("nm").args(["--extern-only", "--defined-only"]).arg(&library));
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    names.sort();
    assert_eq!(names, listed("capi/symbols.txt"));
}

#[test]
fn the_static_library_links() {
    let library = lib_dir().join("libpmxcfs.a");
    let pc = std::fs::read_to_string(lib_dir().join("pkgconfig/pmxcfs.pc")).unwrap();
    let private = pc.lines().find_map(|line| line.strip_prefix("Libs.private: ")).unwrap();
    let mut extra = vec![library.to_str().unwrap()];
    extra.extend(private.split(' '));
    let program = compile("cc", "pmxcfs_client.c", "client-static", &extra);
    run(Command::new(&program).arg("fds"));
    run(Command::new(&program).args(["long", &TestServer::start().name, "1"]));
}

#[test]
fn headers_compile_as_c_and_cpp() {
    let compat = format!("-I{}", include_dir().join("pmxcfs").display());
    compile("cc", "headers.c", "headers-c", &["-std=c11", &compat]);
    let dir = format!("-L{}", lib_dir().display());
    let program = compile("c++", "headers.cpp", "headers-cpp", &["-std=c++11", &compat, &dir, "-lpmxcfs"]);
    let out = run(Command::new(program).env("LD_LIBRARY_PATH", lib_dir()));
    assert_eq!(out.trim(), env!("CARGO_PKG_VERSION"));
}

/// What the stack's packaging does with the numbers of requests.
#[test]
fn perl_constants_are_made_from_the_numbers() {
    let awk = r#"/^#define CFS_IPC/ { print $2, $3 }"#;
    let out = run(Command::new("awk").arg(awk).arg(project().join("include/cfs-ipc-ops.h")));
    assert_eq!(out.lines().count(), 12);
    assert!(out.starts_with("CFS_IPC_GET_FS_VERSION 1\n"));
    assert!(out.ends_with("CFS_IPC_GET_GUEST_CONFIG_PROPERTIES 13\n"));
}
