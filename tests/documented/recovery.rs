//! The recipes of docs/OPERATIONS.md.

use crate::fixture::wait_until;
use crate::node::Node;
use crate::script;
use rusqlite::Connection;
use std::fs;

const PAGE: &str = "docs/OPERATIONS.md";

fn damage(node: &Node, sql: &str) {
    let connection = Connection::open(node.root.database()).expect("the database");
    connection.execute_batch(sql).expect("damage");
}

#[test]
fn a_database_with_a_fault_is_repaired() {
    let node = Node::new();
    node.does("systemctl start pve-cluster");
    fs::write(node.tree("storage.cfg"), "good").expect("a file");
    node.does("systemctl stop pve-cluster");
    damage(
        &node,
        "insert into tree select 4711, parent, version, writer, mtime, type, name, 'other' from tree where name = 'storage.cfg'",
    );
    let (good, output) = node.run("-eu", "systemctl start pve-cluster");
    assert!(!good && output.contains("unable to load database"), "{output}");

    // The verbs that find something say so by their exit code.
    let (_, output) = node.run("-ux", &script(PAGE, "repair"));
    assert!(
        output.contains("nothing was changed") && output.contains("repaired; the database as it was is in"),
        "{output}"
    );
    assert!(node.is_served(), "{output}");
    let kept = output.rsplit("ls -R").next().expect("the list");
    assert!(kept.contains("storage.cfg"), "the loser is kept: {output}");
    assert!(fs::read(node.tree("storage.cfg")).is_ok());
}

#[test]
fn a_copy_takes_the_place_of_a_damaged_file() {
    let node = Node::new();
    node.does("systemctl start pve-cluster");
    fs::write(node.tree("storage.cfg"), "good").expect("a file");
    let output = node.does(&script(PAGE, "backup"));
    assert!(output.contains("no faults"), "{output}");
    fs::write(node.tree("storage.cfg"), "newer").expect("a file");
    node.does(&script(PAGE, "export"));
    assert_eq!(fs::read_to_string(node.tree("storage.cfg")).expect("the file"), "good");
    fs::write(node.tree("storage.cfg"), "newer").expect("a file");
    node.does("systemctl stop pve-cluster");
    fs::write(node.root.database(), "no database at all").expect("damage");
    let (good, output) = node.run("-eu", "systemctl start pve-cluster");
    assert!(!good && output.contains("unable to"), "{output}");
    node.does(&script(PAGE, "copy"));
    assert_eq!(fs::read_to_string(node.tree("storage.cfg")).expect("the file"), "good");
}

#[test]
fn deleted_database_is_put_back_from_its_copy() {
    let node = Node::new();
    node.does("systemctl start pve-cluster");
    fs::write(node.tree("storage.cfg"), "good").expect("a file");
    let dir = node.root.path("var/lib/pve-cluster");
    for name in ["config.db", "config.db-wal", "config.db-shm"] {
        fs::remove_file(dir.join(name)).expect("removed");
    }
    wait_until("a copy", || {
        let (good, output) = node.run("-eu", "pmxcfs-ctl status");
        !good && output.contains("FILE LOST (deleted): changes are refused, copy saved in")
    });
    node.does(&script(PAGE, "rescue"));
    assert_eq!(fs::read_to_string(node.tree("storage.cfg")).expect("the file"), "good");
}

#[test]
fn copy_and_dump_are_put_back() {
    let node = Node::new();
    node.does("systemctl start pve-cluster");
    fs::write(node.tree("storage.cfg"), "good").expect("a file");
    node.does(&script(PAGE, "backup"));
    let dump = "mkdir /var/lib/pve-cluster/backup\n\
        sqlite3 /var/lib/pve-cluster/config.db .dump | gzip > /var/lib/pve-cluster/backup/config-1795360063.sql.gz\n";
    node.does(dump);
    for recipe in ["restore", "restore-dump"] {
        fs::write(node.tree("storage.cfg"), "bad").expect("a file");
        let output = node.does(&script(PAGE, recipe));
        assert!(output.contains("the old database is '"), "{recipe}: {output}");
        assert_eq!(fs::read_to_string(node.tree("storage.cfg")).expect("the file"), "good", "{recipe}");
        // The next restore may run in the same second and would use the same name for the old database.
        let old = fs::read_dir(node.root.path("var/lib/pve-cluster")).expect("listed");
        for path in old.map(|entry| entry.expect("an entry").path()) {
            if path.to_string_lossy().contains("before-restore") {
                fs::remove_file(path).expect("removed");
            }
        }
    }
}

#[test]
fn a_node_leaves_its_cluster() {
    let node = Node::new();
    node.does("pmxcfs -l");
    let corosync = "totem {\n  config_version: 1\n}\n";
    fs::write(node.tree("corosync.conf"), corosync).expect("a file");
    fs::write(node.root.path("etc/corosync/corosync.conf"), corosync).expect("a file");
    fs::create_dir_all(node.tree("nodes/other/qemu-server")).expect("directories");
    node.does(&script(PAGE, "local"));
    assert!(node.is_served());
    assert_eq!(fs::read_dir(node.root.path("etc/corosync")).expect("a directory").count(), 0);
    assert!(!node.tree("nodes/other").exists() && !node.tree("corosync.conf").exists());
    let status = node.does("pmxcfs-ctl status");
    assert!(status.contains("local mode, quorate") && status.contains("none: local mode"), "{status}");
}

#[test]
fn a_guest_of_a_lost_node_is_taken_over() {
    let node = Node::new();
    node.does("systemctl start pve-cluster");
    for dir in ["nodes/dead/qemu-server", "nodes/alive/qemu-server"] {
        fs::create_dir_all(node.tree(dir)).expect("directories");
    }
    fs::write(node.tree("nodes/dead/qemu-server/100.conf"), "name: web\n").expect("a guest");
    node.does(&script(PAGE, "move"));
    let guests = node.does("pmxcfs-ctl guests");
    assert!(guests.contains("100   qemu  alive  web"), "{guests}");
}
