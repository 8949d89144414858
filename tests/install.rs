//! `make install` and `make uninstall`: every file with its mode against a committed list, the unit against
//! systemd's own judgement, the manual pages against what they describe.

#[path = "common/map.rs"]
mod map;
#[path = "common/rules.rs"]
mod rules;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Not by a macro, whose words the test runner keeps to itself.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "install: skipped: {why}");
}

/// Runs make on a copy of `/`; with the architecture's directory left out, lists are the same everywhere.
fn make(root: &Path, arguments: &[&str]) -> Output {
    let mut make = rules::make(root, &[&["LIBDIR=/usr/lib"], arguments].concat());
    make.output().expect("make runs")
}

fn made(root: &Path, arguments: &[&str]) {
    let output = make(root, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Everything below `dir`: mode and path, the target of a link, directories with a slash.
fn listing(root: &Path, dir: &Path, lines: &mut BTreeSet<(PathBuf, String)>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        let meta = fs::symlink_metadata(&path).expect("there");
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        let mode = meta.permissions().mode() & 0o7777;
        assert!(!meta.file_type().is_socket());
        if meta.is_dir() {
            lines.insert((name.clone(), format!("{mode:04o} /{}/", name.display())));
            listing(root, &path, lines);
        } else if meta.is_symlink() {
            let to = fs::read_link(&path).expect("a link");
            lines.insert((name.clone(), format!("link /{} -> {}", name.display(), to.display())));
        } else {
            lines.insert((name.clone(), format!("{mode:04o} /{}", name.display())));
        }
    }
}

fn listed(root: &Path) -> Vec<String> {
    let mut lines = BTreeSet::new();
    listing(root, root, &mut lines);
    lines.into_iter().map(|(_, line)| line.replace(env!("CARGO_PKG_VERSION"), "VERSION")).collect()
}

#[test]
fn files_and_modes_are_those_of_the_list_and_uninstall_takes_them_away() {
    let root = tempfile::Builder::new().prefix("a path with space ").tempdir().expect("temp dir");
    made(root.path(), &["install"]);
    let found = listed(root.path());
    let list = project().join("tests/install/files.txt");
    if std::env::var_os("PMXCFS_WRITE_INSTALL_LIST").is_some() {
        fs::write(&list, found.join("\n") + "\n").expect("written");
    }
    let expected = fs::read_to_string(&list).expect("the list");
    assert_eq!(
        found,
        expected.lines().collect::<Vec<_>>(),
        "what is installed is not what {} has",
        list.display()
    );

    // Again, over what is there.
    made(root.path(), &["install"]);
    assert_eq!(listed(root.path()), found);

    let elses = root.path().join("usr/bin/somebody-else");
    fs::write(&elses, "").expect("written");
    made(root.path(), &["uninstall"]);
    fs::remove_file(elses).expect("what is not ours is left alone");
    let left = listed(root.path());
    let ours =
        |line: &&String| !line.ends_with('/') || line.contains("pmxcfs") || line.contains("pve-cluster");
    assert_eq!(left.iter().find(ours), None, "uninstall leaves it");
    made(root.path(), &["uninstall"]);
}

#[test]
fn a_prefix_is_where_everything_goes() {
    let root = tempfile::tempdir().expect("temp dir");
    made(root.path(), &["install", "PREFIX=/opt/cfs", "LIBDIR=/opt/cfs/lib"]);
    let outside = |line: &&String| !line.contains(" /opt/");
    assert_eq!(listed(root.path()).iter().find(outside), None);
    let unit = root.path().join("opt/cfs/lib/systemd/system/pve-cluster.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    assert!(unit.contains("ExecStart=/opt/cfs/bin/pmxcfs ") && !unit.contains('@'), "{unit}");
    let find = fs::read_to_string(root.path().join("opt/cfs/lib/pkgconfig/pmxcfs.pc")).expect("the .pc");
    assert!(find.contains("/opt/cfs") && !find.contains('@'), "{find}");
    made(root.path(), &["uninstall", "PREFIX=/opt/cfs", "LIBDIR=/opt/cfs/lib"]);
    let files = |line: &&String| !line.ends_with('/');
    assert_eq!(listed(root.path()).iter().find(files), None);
}

#[test]
fn systemd_understands_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skipped("there is no systemd-analyze");
        return;
    }
    let root = tempfile::tempdir().expect("temp dir");
    let bin = root.path().join("bin");
    made(
        Path::new(""),
        &[
            "install-programs",
            &format!("PREFIX={}", root.path().display()),
            &format!("BINDIR={}", bin.display()),
        ],
    );
    let units = [
        "pve-cluster.service",
        "pmxcfs-metrics.socket",
        "pmxcfs-metrics.service",
        "pmxcfs-backup.service",
        "pmxcfs-backup.timer",
    ]
    .map(|unit| root.path().join("lib/systemd/system").join(unit));
    // Only what it says of these units and the drop-in: units beside them are the machine's.
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output();
    let output = output.expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours = ["pve-cluster", "10-pmxcfs-rs", "pmxcfs-metrics", "pmxcfs-backup"];
    let complaints: Vec<&str> =
        said.lines().filter(|line| ours.iter().any(|name| line.contains(name))).collect();
    assert!(complaints.is_empty(), "{said}");
}

#[test]
fn every_program_and_every_function_has_its_manual() {
    let read = |path: &str| fs::read_to_string(project().join(path)).expect(path);
    let makefile = read("Makefile");
    let programs = makefile.lines().find_map(|line| line.strip_prefix("PROGRAMS = ")).expect("listed");
    for program in programs.split_whitespace() {
        let page = read(&format!("docs/man/{program}.8"));
        assert!(page.starts_with(&format!(".TH {} 8 ", program.to_uppercase())), "{program}");
    }
    let page = read("docs/man/libpmxcfs.3");
    let synopsis = page.split(".SH DESCRIPTION").next().expect("a part");
    for (function, _) in map::names() {
        assert!(synopsis.contains(&format!("{function}(")), "{function} has no line in libpmxcfs.3");
    }
    let commands = [
        ("pmxcfs", pmxcfs::options::command()),
        ("pmxcfs-db", pmxcfs::dbtool::command()),
        ("pmxcfs-ctl", pmxcfs::ctl::command()),
    ];
    for (program, command) in commands {
        let page = read(&format!("docs/man/{program}.8")).replace('\\', "");
        for word in words(&command) {
            assert!(page.contains(&word), "{word} is not in {program}.8");
        }
    }
}

#[test]
fn every_program_prints_its_version() {
    let makefile = fs::read_to_string(project().join("Makefile")).expect("readable");
    let programs = makefile.lines().find_map(|line| line.strip_prefix("PROGRAMS = ")).expect("listed");
    let built = Path::new(env!("CARGO_BIN_EXE_pmxcfs"));
    for program in programs.split_whitespace() {
        for option in ["--version", "-V"] {
            let output = Command::new(built.with_file_name(program)).arg(option).output().expect(program);
            assert!(output.status.success(), "{program} {option}: {output:?}");
            let expected = format!("{program} {}\n", env!("CARGO_PKG_VERSION"));
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
    }
}

/// The options and verbs of a program.
fn words(command: &clap::Command) -> Vec<String> {
    let options = command.get_arguments().filter_map(|argument| argument.get_long());
    let mut words: Vec<String> = options.map(|option| format!("--{option}")).collect();
    for verb in command.get_subcommands() {
        words.push(verb.get_name().to_owned());
        words.extend(self::words(verb));
    }
    words
}

#[test]
fn groff_has_nothing_to_say_about_the_manual() {
    if Command::new("groff").arg("--version").output().is_err() {
        skipped("there is no groff");
        return;
    }
    for page in fs::read_dir(project().join("docs/man")).expect("pages") {
        let page = page.expect("readable").path();
        let output =
            Command::new("groff").args(["-man", "-Tascii", "-ww", "-z"]).arg(&page).output().expect("runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", page.display());
    }
}
