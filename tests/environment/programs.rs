//! The list of programs that the project calls, `tools/programs.txt`, against its sources, against the
//! packages that `tools/setup.sh` installs, and against this machine. `make check-debian` runs the whole of
//! `make check` with only these programs in `PATH`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages that a user has already, or that `tools/setup.sh` installs under other names on older releases.
const GIVEN: &[&str] = &["apt", "cargo", "rustc"];
/// Directories of programs in Debian's packages. Rust may be elsewhere.
const SYSTEM: &[&str] = &["/usr/bin", "/usr/sbin"];

/// One line of the list.
struct Listed {
    package: String,
    /// Tests run without it, and report that.
    optional: bool,
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn listed() -> BTreeMap<String, Listed> {
    let text = fs::read_to_string(project().join("tools/programs.txt")).expect("the list");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let optional = match words[..] {
            [_, _] => false,
            [_, _, "optional"] => true,
            _ => panic!("'{line}': PROGRAM PACKAGE [optional]"),
        };
        (words[0].to_owned(), Listed { package: words[1].to_owned(), optional })
    };
    lines.map(parse).collect()
}

/// Rust sources below directories of the project.
pub fn rust_files(dirs: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = dirs.iter().map(|dir| project().join(dir)).collect();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "the sources were not found");
    found
}

/// Names of programs in a source: the first word of each literal command.
fn called(text: &str) -> Vec<String> {
    let beginnings = ["Command::new(\"", ".command(&[\"", "command_as(\"", "Process::start(space, &[\""];
    let of = |beginning: &&'static str| {
        let rests = text.split(*beginning).skip(1);
        rests.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect::<Vec<_>>()
    };
    // Skips arguments of commands, which begin like options.
    beginnings.iter().flat_map(of).filter(|name| !name.starts_with('-')).collect()
}

#[test]
fn programs_that_sources_call_are_listed() {
    let listed = listed();
    let mut count = 0;
    for path in rust_files(&["tests", "benches", "capi", "qb-compat"]) {
        for program in called(&fs::read_to_string(&path).expect("UTF-8 source")) {
            let name = program.rsplit('/').next().expect("a name");
            assert!(listed.contains_key(name), "{}: '{name}' is not in tools/programs.txt", path.display());
            count += 1;
        }
    }
    assert!(count > 30, "calls were not found");
    // In parts, so that this file does not seem to call it.
    assert_eq!(called(concat!("Command::", "new(\"python3\").arg(\"x\")")), ["python3"]);
}

/// Output of dpkg-query in this format, for all installed packages, by line.
fn dpkg_query(format: &str) -> Option<Vec<String>> {
    let output = Command::new("dpkg-query").args(["--show", "--showformat", format]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect())
}

/// Packages of every Debian, however small. Without dpkg: none, and a line that says so.
fn base_packages() -> Option<Vec<String>> {
    let lines = dpkg_query("${Essential} ${Priority} ${Package}\n");
    if lines.is_none() {
        // Not by a macro, whose output the test runner would hide.
        let _ = writeln!(std::io::stderr(), "environment: skipped: this is no Debian");
    }
    let is_base = |line: &&str| line.starts_with("yes ") || line.split(' ').nth(1) == Some("required");
    let name = |line: &str| line.rsplit(' ').next().expect("a name").to_owned();
    let mut base: Vec<String> = lines?.iter().map(String::as_str).filter(is_base).map(name).collect();
    base.extend(GIVEN.iter().map(|name| (*name).to_owned()));
    Some(base)
}

fn packages_of_setup() -> Vec<String> {
    let setup = Command::new(project().join("tools/setup.sh")).arg("list").output().expect("it runs");
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
    let text = String::from_utf8(setup.stdout).expect("text");
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn setup_installs_the_listed_programs() {
    let Some(base) = base_packages() else { return };
    let setup = packages_of_setup();
    for (program, Listed { package, optional }) in listed() {
        let installed = base.contains(&package) || setup.contains(&package);
        assert!(installed || optional, "{program}: tools/setup.sh does not install {package}");
        assert!(!(installed && optional), "{program} is not optional: {package} is always there");
    }
}

/// Path of a program as a shell finds it, with symbolic links resolved.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").expect("a path");
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|place| place.is_file()).map(|place| place.canonicalize().expect("no broken link"))
}

/// Whether a file of the package is the program, possibly under another name.
fn has(package: &str, program: &Path) -> bool {
    let list = ["", ":amd64", ":arm64"].map(|arch| format!("/var/lib/dpkg/info/{package}{arch}.list"));
    let lists = list.iter().filter_map(|path| fs::read_to_string(path).ok()).collect::<String>();
    let name = |path: &str| path.contains("bin/");
    lists
        .lines()
        .filter(|path| name(path))
        .any(|path| fs::canonicalize(path).is_ok_and(|file| file == program))
}

#[test]
fn listed_programs_are_of_the_named_packages() {
    if base_packages().is_none() {
        return;
    }
    for (program, Listed { package, optional }) in listed() {
        let Some(path) = found(&program) else {
            assert!(optional, "{program} is not in PATH");
            continue;
        };
        let is_of_system = SYSTEM.iter().any(|dir| path.parent() == Some(Path::new(dir)));
        let is_rust = GIVEN[1..].contains(&package.as_str());
        assert!(!is_of_system || is_rust || has(&package, &path), "{program}: {path:?} is not of {package}");
    }
}
