//! `make install-...` and `make uninstall-...` on a node, beside packages: each either leaves all as it was, or
//! installs, and its counterpart leaves all as it was.

use crate::machine::{Files, Machine};
use crate::package::Packages;
use std::path::Path;

/// Files of the copy without the loader's cache, which has the time of the last change in it.
fn files(machine: &Machine) -> Files {
    let mut files = machine.files();
    files.remove(Path::new("etc/ld.so.cache"));
    files
}

/// Fails if the machine is not as it was.
fn unchanged(machine: &Machine, packages: &[&str], before: &Files, after: &str) {
    let now = files(machine);
    let names = before.keys().chain(now.keys());
    let changed: Vec<_> = names.filter(|name| before.get(*name) != now.get(*name)).collect();
    assert!(changed.is_empty(), "{after} changed {changed:?}");
    for package in packages {
        assert_eq!(machine.run(&["dpkg", "--verify", package]), "", "{package} after {after}");
    }
}

/// The state of a Perl module in the copy.
fn loads(machine: &Machine, module: &str) -> bool {
    machine.try_run(&["perl", &format!("-M{module}"), "-e", "1"]).0
}

const LIB: &str = "libpmxcfs1";
const DEV: &str = "libpmxcfs-dev";
const PERL: &str = "libpmxcfs-perl";
const PROGRAMS: &str = "pmxcfs-rs";
const STOCK: &str = "pve-cluster";

/// Packages that are installed together, and where the rules install beside them.
const SETS: &[(&[&str], &[&str])] = &[
    (&[], &["/usr", "/usr/local"]),
    (&[STOCK], &["/usr"]),
    (&[LIB, DEV], &["/usr"]),
    (&[STOCK, PROGRAMS, LIB, DEV, PERL], &["/usr", "/usr/local"]),
];
/// Rules that install, and those that remove the same.
const VERBS: &[(&[&str], &[&str])] = &[
    (&["install-lib"], &["uninstall-lib"]),
    (&["install-programs"], &["uninstall-programs"]),
    (&["install-perl"], &["uninstall-perl"]),
    (
        &["install", "install-perl-instead"],
        &["uninstall-perl-instead", "uninstall-perl", "uninstall-programs", "uninstall-lib"],
    ),
];

/// Returns true if these install rules replace no file of a package, and the library that they need is installed.
fn is_possible(verbs: &[&str], packages: &[&str], prefix: &str) -> bool {
    let has = |package| packages.contains(&package);
    let same_place = prefix == "/usr";
    let mut library = has(LIB);
    verbs.iter().all(|verb| match *verb {
        "install-lib" | "install" if same_place && (has(LIB) || has(DEV)) => false,
        "install-programs" | "install" if same_place && (has(PROGRAMS) || has(STOCK)) => false,
        "install-perl" | "install-perl-instead" => library,
        "install-lib" | "install" => {
            library = true;
            true
        }
        _ => true,
    })
}

#[test]
fn install_verbs_leave_packages_alone() {
    let packages = Packages::new();
    let libraries = [LIB, DEV, PERL].map(|package| (package, packages.library(package)));
    let (programs, stock) = (packages.ours("1.0", &[]), packages.stock("8.1"));
    let Some(machine) = Machine::new(packages.dir()) else { return };
    for (set, prefixes) in SETS {
        for package in *set {
            let of_library = libraries.iter().find(|(name, _)| name == package).map(|(_, deb)| deb);
            machine.install(of_library.unwrap_or(if *package == STOCK { &stock } else { &programs }));
        }
        let before = files(&machine);
        for prefix in *prefixes {
            for (install, uninstall) in VERBS {
                let place = format!("PREFIX={prefix}");
                let mut rules = install.to_vec();
                rules.push(&place);
                let (success, said) = machine.try_make(&rules);
                let case = format!("{rules:?} beside {set:?}");
                assert_eq!(success, is_possible(install, set, prefix), "{case}: {said}");
                // A part that was installed before another was refused can be removed.
                let mut rules = uninstall.to_vec();
                rules.push(&place);
                let (success, said) = machine.try_make(&rules);
                assert!(success, "{rules:?} after {case}: {said}");
                unchanged(&machine, set, &before, &case);
            }
        }
        for package in set.iter().rev() {
            machine.purge(package);
        }
    }
}

/// Programs of the stack need PVE::IPCC.
#[test]
fn no_verb_leaves_perl_without_ipcc() {
    let packages = Packages::new();
    let stock = packages.stock("8.1");
    let Some(machine) = Machine::new(packages.dir()) else { return };
    machine.install(&stock);
    let before = files(&machine);
    let make = |rules: &[&str]| machine.try_make(&[rules, &["PREFIX=/usr/local"]].concat());
    let (success, said) = make(&["install-lib", "install-perl-instead"]);
    assert!(success, "{said}");
    let shadowed = machine.run(&["perl", "-MPVE::IPCC", "-e", "print $INC{'Pmxcfs/IPCC.pm'}"]);
    assert!(shadowed.contains("/usr/local/"), "{shadowed}");

    let installed = files(&machine);
    for verb in ["uninstall", "uninstall-lib", "uninstall-perl"] {
        let (success, said) = make(&[verb]);
        assert!(!success && said.contains("first"), "{verb}: {said}");
        unchanged(&machine, &[STOCK], &installed, verb);
    }
    // The same without the record of the module that needs the library.
    machine.run(&["mv", "/usr/local/share/pmxcfs-rs/installed/perl", "/run/perl"]);
    let (success, said) = make(&["uninstall-lib"]);
    assert!(!success && said.contains("PVE::IPCC no longer loads"), "{said}");
    assert!(loads(&machine, "PVE::IPCC"));
    machine.run(&["mv", "/run/perl", "/usr/local/share/pmxcfs-rs/installed/perl"]);

    // The stock module may be gone meanwhile.
    machine.run(&["mv", "/usr/share/perl5/PVE/IPCC.pm", "/run/IPCC.pm"]);
    let (success, said) = make(&["uninstall-perl-instead"]);
    assert!(!success && said.contains("PVE::IPCC no longer loads"), "{said}");
    assert!(loads(&machine, "PVE::IPCC"));
    machine.run(&["mv", "/run/IPCC.pm", "/usr/share/perl5/PVE/IPCC.pm"]);

    let (success, said) = make(&["uninstall-perl-instead", "uninstall-perl", "uninstall-lib"]);
    assert!(success, "{said}");
    assert!(loads(&machine, "PVE::IPCC") && !loads(&machine, "Pmxcfs::IPCC"));
    unchanged(&machine, &[STOCK], &before, "the way back");
}

/// A package that is installed over the files takes them, and the record of them does not count any more.
#[test]
fn uninstall_keeps_files_that_a_package_took() {
    let packages = Packages::new();
    let library = packages.library(LIB);
    let Some(machine) = Machine::new(packages.dir()) else { return };
    let before = files(&machine);
    let (success, said) = machine.try_make(&["install-lib"]);
    assert!(success, "{said}");
    machine.install(&library);
    let (success, said) = machine.try_make(&["uninstall-lib"]);
    assert!(success && said.contains("now belongs to a package, and stays"), "{success}: {said}");
    assert!(machine.run(&["dpkg", "--verify", LIB]).is_empty());
    machine.purge(LIB);
    unchanged(&machine, &[], &before, "both");
}
