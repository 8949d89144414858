//! What the libraries are as files: names, links, symbols, what they need, and headers that compile.

use crate::installed::{compile, include_dir, lib_dir, project, qb_dir};
use crate::map;
use crate::support::{TestServer, run};
use std::path::Path;
use std::process::Command;

/// The names a library defines for others, with their versions.
fn exported(library: &Path) -> Vec<String> {
    let text = run(Command::new("nm").args(["--dynamic", "--defined-only", "--format=posix"]).arg(library));
    // Versions themselves are absolute symbols.
    let symbols = text.lines().filter(|line| !line.contains(" A "));
    let mut names: Vec<String> = symbols.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Public names of libpmxcfs.
fn public() -> Vec<String> {
    map::names().into_iter().map(|(name, _)| name).collect()
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
    let versioned: Vec<String> =
        map::names().iter().map(|(name, version)| format!("{name}@@{version}")).collect();
    assert_eq!(exported(&lib_dir().join("libpmxcfs.so")), versioned);
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
        names.dedup();
        names
    };
    assert_eq!(declared(&["include/pmxcfs.h"], "pmxcfs_"), public());
    let compat = ["include/compat/qb/qbipcc.h", "include/compat/qb/qblog.h"];
    // Handle tables are for corosync's libraries, which are built with libqb's own headers.
    let mut names = listed("qb-compat/symbols.txt");
    names.retain(|name| !name.starts_with("qb_hdb_"));
    assert_eq!(declared(&compat, "qb_"), names);
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
    assert_eq!(names, public());
}

#[test]
fn static_linking_by_pkg_config_works() {
    let mut flags = Command::new("pkg-config");
    flags.args(["--static", "--libs", "pmxcfs"]).env("PKG_CONFIG_PATH", lib_dir().join("pkgconfig"));
    flags.env("PKG_CONFIG_SYSROOT_DIR", crate::installed::root()).env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1");
    let flags = run(&mut flags);
    let library = lib_dir().join("libpmxcfs.a");
    // All static, and with only our library static.
    let whole = ["-static"].into_iter().chain(flags.split_whitespace());
    let private = flags.split_whitespace().filter(|flag| *flag != "-lpmxcfs" && !flag.starts_with("-L"));
    let ours = [library.to_str().unwrap()].into_iter().chain(private);
    for (name, extra) in [("client-static", whole.collect::<Vec<_>>()), ("client-archive", ours.collect())] {
        let program = compile("cc", "pmxcfs_client.c", name, &extra);
        run(Command::new(&program).arg("fds"));
        run(Command::new(&program).args(["long", &TestServer::start().name, "1"]));
    }
}

/// Each dialect that a program may be written in, as strict as the compiler can be.
#[test]
fn headers_compile_as_c_and_cpp() {
    let compat = format!("-I{}", include_dir().join("pmxcfs").display());
    for dialect in ["c90", "c99", "c11", "c17", "gnu17"] {
        compile("cc", "headers.c", "headers-c", &[&format!("-std={dialect}"), &compat]);
    }
    let dir = format!("-L{}", lib_dir().display());
    for dialect in ["c++98", "c++11", "c++17", "c++20"] {
        let dialect = format!("-std={dialect}");
        let program = compile("c++", "headers.cpp", "headers-cpp", &[&dialect, &compat, &dir, "-lpmxcfs"]);
        let out = run(Command::new(program).env("LD_LIBRARY_PATH", lib_dir()));
        assert_eq!(out.trim(), env!("CARGO_PKG_VERSION"), "{dialect}");
    }
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
