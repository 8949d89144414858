//! Step after step on a node, and what is there after each.

use crate::machine::{Files, Machine};
use crate::package::Packages;
use std::path::Path;

const DIVERTED: &[(&str, &str)] = &[
    ("usr/bin/pmxcfs", "usr/bin/pmxcfs.stock"),
    ("usr/bin/create_pmxcfs_db", "usr/bin/create_pmxcfs_db.stock"),
    ("usr/share/man/man8/pmxcfs.8.gz", "usr/share/man/man8/pmxcfs.stock.8.gz"),
];

/// Files of `before` are all still there and the same, at their new place if they were diverted.
fn nothing_of_stock_changed(before: &Files, now: &Files) {
    for (name, about) in before {
        let place = DIVERTED.iter().find(|(from, _)| Path::new(from) == name).map(|(_, to)| Path::new(to));
        let place = place.unwrap_or(name);
        assert_eq!(now.get(place), Some(about), "{} was {}", place.display(), name.display());
    }
}

fn is_diverted(machine: &Machine) -> bool {
    let diversions = machine.diversions();
    assert!(diversions.is_empty() || diversions.len() == DIVERTED.len(), "{diversions:?}");
    diversions.len() == DIVERTED.len()
}

#[test]
fn beside_stock_and_back() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    let (first, second) = (packages.ours("1.0", &[]), packages.ours("2.0", &[]));
    machine.install(&packages.stock("8.1"));
    assert_eq!(machine.told(), ["start stock 8.1"]);
    let before = machine.files();
    assert_eq!(
        before.get(Path::new("var/lib/pve-cluster/config.db")).map(|text| text.contains("the database")),
        Some(true)
    );

    machine.install(&first);
    assert_eq!(machine.told(), ["restart ours 1.0"], "once, and only when all is in place");
    assert_eq!(machine.says("pmxcfs.stock"), "stock 8.1");
    assert_eq!(machine.says("create_pmxcfs_db"), "ours 1.0");
    nothing_of_stock_changed(&before, &machine.files());
    assert!(is_diverted(&machine) && !machine.generates_the_unit());
    let with_ours = machine.files();

    machine.install(&second);
    assert_eq!(machine.told(), ["restart ours 2.0"]);
    nothing_of_stock_changed(&before, &machine.files());
    machine.install(&first);
    assert_eq!(machine.told(), ["restart ours 1.0"]);
    assert_eq!(machine.files(), with_ours, "a downgrade leaves what an installation does");
    machine.install(&first);
    assert_eq!(machine.told(), ["restart ours 1.0"]);
    assert_eq!(machine.files(), with_ours, "and so does the same once more");

    machine.remove("pmxcfs-rs");
    assert_eq!(machine.told(), ["restart stock 8.1"]);
    assert_eq!(machine.files(), before);
    assert!(!is_diverted(&machine));
    machine.purge("pmxcfs-rs");
    assert_eq!((machine.told().len(), machine.files()), (0, before.clone()));

    machine.install(&second);
    assert_eq!(machine.told(), ["restart ours 2.0"]);
    machine.purge("pmxcfs-rs");
    assert_eq!(machine.told(), ["restart stock 8.1"]);
    assert_eq!(machine.files(), before);
}

#[test]
fn stock_is_upgraded_below_ours() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    let newer = packages.stock("8.2");
    machine.install(&newer);
    let wanted = machine.files();
    machine.purge("pve-cluster");

    machine.install(&packages.stock("8.1"));
    machine.install(&packages.ours("1.0", &[]));
    machine.told();
    machine.install(&newer);
    assert_eq!(machine.told(), ["restart ours 1.0"], "as the stock package asks for");
    assert_eq!(
        (machine.says("pmxcfs"), machine.says("pmxcfs.stock")),
        ("ours 1.0".to_owned(), "stock 8.2".to_owned())
    );
    nothing_of_stock_changed(&wanted, &machine.files());
    machine.remove("pmxcfs-rs");
    assert_eq!(machine.told(), ["restart stock 8.2"]);
    assert_eq!(machine.files(), wanted);
}

#[test]
fn a_service_that_does_not_run_is_left_alone() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    machine.install(&packages.stock("8.1"));
    machine.stop_service();
    machine.told();
    for version in ["1.0", "2.0"] {
        machine.install(&packages.ours(version, &[]));
    }
    machine.remove("pmxcfs-rs");
    machine.purge("pmxcfs-rs");
    assert_eq!(machine.told(), [""; 0]);
    assert_eq!(machine.serves(), None);
}

#[test]
fn without_stock_the_unit_is_ours() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    let (first, second) = (packages.ours("1.0", &[]), packages.ours("2.0", &[]));
    let before = machine.files();
    machine.install(&first);
    assert_eq!(machine.told(), ["reload-or-restart ours 1.0"]);
    assert!(machine.generates_the_unit());
    let with_ours = machine.files();
    machine.install(&second);
    assert_eq!(machine.told(), ["restart ours 2.0"]);
    machine.install(&first);
    assert_eq!(machine.told(), ["restart ours 1.0"]);
    assert_eq!(machine.files(), with_ours);

    machine.stop_service();
    machine.install(&second);
    assert_eq!(machine.told(), [""; 0], "stopped by the admin");
    machine.install(&first);
    machine.told();

    machine.remove("pmxcfs-rs");
    assert_eq!(machine.told(), ["stop"]);
    assert_eq!(machine.files(), before);
    assert!(!is_diverted(&machine) && !machine.generates_the_unit());
    machine.install(&first);
    assert_eq!(machine.told(), ["reload-or-restart ours 1.0"], "a new installation, also after a removal");
    machine.purge("pmxcfs-rs");
    assert_eq!(machine.told(), ["stop"]);
    assert_eq!(machine.files(), before);
}

#[test]
fn stock_comes_and_goes_while_ours_stays() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    let stock = packages.stock("8.1");
    machine.install(&packages.ours("1.0", &[]));
    let with_ours = machine.files();
    machine.told();

    machine.install(&stock);
    assert_eq!(machine.told(), [""; 0], "ours runs on");
    assert!(!machine.generates_the_unit(), "with the stock unit");
    assert_eq!(
        (machine.says("pmxcfs"), machine.says("pmxcfs.stock")),
        ("ours 1.0".to_owned(), "stock 8.1".to_owned())
    );

    machine.remove("pve-cluster");
    assert_eq!(
        machine.told(),
        ["stop", "reload-or-restart ours 1.0"],
        "its package stops it, ours brings it back"
    );
    assert!(machine.generates_the_unit());
    machine.purge("pve-cluster");
    assert_eq!(machine.files(), with_ours);
    machine.told();

    machine.install(&stock);
    machine.remove("pmxcfs-rs");
    assert_eq!(machine.told(), ["restart stock 8.1"]);
    assert_eq!(machine.says("pmxcfs"), "stock 8.1");
    assert!(!is_diverted(&machine));
}

#[test]
fn an_installation_that_fails_leaves_stock_as_it_was() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    let first = packages.ours("1.0", &[]);
    // A file of another package, which dpkg comes upon when much is unpacked.
    let broken = packages.ours("2.0", &["usr/share/perl5/PVE/Cluster.pm"]);
    machine.install(&packages.stock("8.1"));
    let before = machine.files();
    machine.told();
    machine.fails_to_install(&broken);
    assert_eq!(machine.files(), before);
    assert!(!is_diverted(&machine));

    machine.install(&first);
    let with_ours = machine.files();
    assert_eq!(machine.told(), ["restart ours 1.0"]);
    machine.fails_to_install(&broken);
    assert_eq!(machine.files(), with_ours);
    assert!(is_diverted(&machine));
    assert_eq!(machine.serves().as_deref(), Some("ours 1.0"));
    machine.purge("pmxcfs-rs");
    assert_eq!(machine.files(), before);
}

#[test]
fn a_daemon_that_does_not_start_keeps_no_package_from_its_way() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    machine.install(&packages.stock("8.1"));
    let before = machine.files();
    machine.told();
    machine.break_starts();
    let said = machine.install(&packages.ours("1.0", &[]));
    assert_eq!(machine.told(), ["restart failed"]);
    assert!(said.contains("journalctl -u pve-cluster") && said.contains("removing pmxcfs-rs"), "{said}");
    machine.purge("pmxcfs-rs");
    assert_eq!(machine.files(), before);
}

#[test]
fn both_can_go_at_once() {
    let packages = Packages::new();
    let Some(machine) = Machine::new(packages.dir()) else { return };
    let (stock, ours) = (packages.stock("8.1"), packages.ours("1.0", &[]));
    let before = machine.files();
    for order in [["pmxcfs-rs", "pve-cluster"], ["pve-cluster", "pmxcfs-rs"]] {
        machine.install(&stock);
        machine.install(&ours);
        machine.run(&["dpkg", "--purge", order[0], order[1]]);
        assert_eq!(machine.serves(), None);
        assert_eq!(machine.files(), before);
        assert!(!is_diverted(&machine));
    }
}
