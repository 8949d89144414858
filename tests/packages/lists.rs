//! What must agree in the packages' descriptions, and the generator, which needs no machine.

use crate::map;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[test]
fn versions_and_names_agree() {
    let changelog = read("debian/changelog");
    let head = format!("pmxcfs-rs ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&head), "debian/changelog does not begin with {head}");
    let version = env!("CARGO_PKG_VERSION");
    let changes = read("CHANGELOG.md");
    let is_release = |line: &&str| line.starts_with("## ") && *line != "## [Unreleased]";
    let newest = changes.lines().find(is_release).expect("an entry");
    assert!(
        newest.starts_with(&format!("## [{version}] - 20")),
        "CHANGELOG.md does not begin with {version}"
    );
    for page in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man")).expect("manual pages") {
        let page = page.expect("readable").path();
        let text = fs::read_to_string(&page).expect("readable");
        let title = text.lines().next().unwrap_or_default();
        assert!(title.contains(&format!(" \"pmxcfs {version}\" ")), "{}: {title}", page.display());
    }

    let makefile = read("Makefile");
    let abi = makefile.lines().find_map(|line| line.strip_prefix("LIB_ABI = ")).expect("a number");
    let control = read("debian/control");
    let names: Vec<&str> = control.lines().filter_map(|line| line.strip_prefix("Package: ")).collect();
    let library = format!("libpmxcfs{abi}");
    assert_eq!(names, ["pmxcfs-rs", library.as_str(), "libpmxcfs-dev", "libpmxcfs-perl"]);
    for name in names {
        read(&format!("debian/{name}.install"));
    }
    // Loaded when it is needed, so no tool finds out.
    assert!(control.contains("Depends: librrd8t64 | librrd8,"));
}

/// Numbers of a version.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().expect("a number")).collect()
}

/// Programs that were linked against a symbol need at least the release that added it. Symbols have versions since
/// 0.3.0; until that is released, packages of this tree have the version before.
#[test]
fn symbols_need_the_release_that_added_them() {
    let symbols = read("debian/libpmxcfs1.symbols");
    let mut lines = symbols.lines();
    assert_eq!(lines.next(), Some("libpmxcfs.so.1 libpmxcfs1 #MINVER#"));
    assert_eq!(lines.next(), Some("* Build-Depends-Package: libpmxcfs-dev"));
    let names = map::names();
    let nodes: BTreeSet<String> = names.iter().map(|(_, version)| version.clone()).collect();
    let nodes = nodes.into_iter().map(|node| (node.clone(), node));
    let expected = nodes.chain(names).map(|(name, version)| {
        let added = format!("{}.0", version.strip_prefix("PMXCFS_").expect("a version"));
        let needed = std::cmp::max(numbers(&added), numbers("0.3.0"));
        let needed = std::cmp::min(needed, numbers(env!("CARGO_PKG_VERSION")));
        format!(" {name}@{version} {}.{}.{}", needed[0], needed[1], needed[2])
    });
    assert_eq!(lines.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn scripts_are_right_for_a_shell_and_touch_no_data() {
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let path = format!("debian/pmxcfs-rs.{script}");
        let check = Command::new("sh").arg("-n").arg(&path).current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(check.expect("sh runs").success(), "{path}");
        for data in ["/var/lib/pve-cluster", "/etc/pve", "config.db"] {
            assert!(!read(&path).contains(data), "{path} names {data}");
        }
    }
}

/// What the generator makes on a machine that has these files.
fn generated(files: &[&str], links: &[(&str, &str)]) -> Vec<String> {
    let root = tempfile::tempdir().expect("temp dir");
    let late = root.path().join("late");
    fs::create_dir(&late).expect("made");
    let place = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        path
    };
    for file in files {
        fs::write(place(file), "").expect("written");
    }
    for (name, target) in links {
        std::os::unix::fs::symlink(target, place(name)).expect("linked");
    }
    let mut generator =
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("debian/generator/pmxcfs-rs-unit"));
    generator.args([&late, &late, &late]).env("PMXCFS_GENERATOR_ROOT", root.path());
    assert!(generator.status().expect("it runs").success());
    let mut made = Vec::new();
    for dir in [late.clone(), late.join("multi-user.target.wants")] {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("readable").path();
            if let Ok(target) = fs::read_link(&path) {
                let name = path.strip_prefix(&late).expect("in there");
                made.push(format!("{} -> {}", name.display(), target.display()));
            }
        }
    }
    made
}

const OURS: &str = "usr/share/pmxcfs-rs/pve-cluster.service";

#[test]
fn a_machine_without_the_unit_gets_ours() {
    let made = [
        "pve-cluster.service -> /usr/share/pmxcfs-rs/pve-cluster.service",
        "multi-user.target.wants/pve-cluster.service -> ../pve-cluster.service",
    ];
    assert_eq!(generated(&[OURS], &[]), made);
    let nothing: [&str; 0] = [];
    assert_eq!(generated(&[], &[]), nothing, "the package was removed");
}

#[test]
fn any_other_unit_of_the_name_counts_more() {
    for directory in ["etc", "run", "usr/lib", "lib"] {
        let unit = format!("{directory}/systemd/system/pve-cluster.service");
        assert!(generated(&[OURS, &unit], &[]).is_empty(), "{unit}");
    }
    let masked = [("etc/systemd/system/pve-cluster.service", "/dev/null")];
    assert!(generated(&[OURS], &masked).is_empty());
}
