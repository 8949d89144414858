//! A start without a database, or with an empty one.

use crate::fixture::Root;
use std::fs;
use std::os::unix::fs::MetadataExt;

const WARNING: &str = "a new and empty one was created";

/// The log of a daemon that served once.
fn log_of_a_run(root: &Root) -> String {
    let (status, log) = root.serve(&["--local"]).stop();
    assert!(status.success(), "{status}: {log}");
    log
}

fn state(root: &Root, name: &str) -> std::path::PathBuf {
    let dir = root.path("var/lib/pve-cluster");
    fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

/// The only line with the warning.
fn warning(log: &str) -> &str {
    let lines: Vec<_> = log.lines().filter(|line| line.contains(WARNING)).collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(line.contains("[main] warning: database '") && line.contains("pmxcfs-db restore"), "{line}");
    line
}

#[test]
fn first_start_logs_no_warning() {
    let root = Root::new();
    let log = log_of_a_run(&root);
    assert!(!log.contains("warning"), "{log}");
    let log = log_of_a_run(&root);
    assert!(!log.contains(WARNING), "{log}");
}

#[test]
fn missing_database_on_a_used_node_is_logged() {
    for name in ["config.db.rescued-20260101-000000", "config.db.before", "backup", ".pmxcfs.lockfile"] {
        let root = Root::new();
        let path = state(&root, name);
        fs::write(&path, "").unwrap();
        let log = log_of_a_run(&root);
        let line = warning(&log);
        assert!(line.contains("' was missing") && line.contains(path.to_str().unwrap()), "{line}");
    }
}

#[test]
fn missing_database_of_a_cluster_node_is_logged() {
    let root = Root::new();
    let path = root.path("etc/corosync/corosync.conf");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "totem {\n}\n").unwrap();
    let log = log_of_a_run(&root);
    let line = warning(&log);
    assert!(line.contains(path.to_str().unwrap()) && line.contains("joins a cluster"), "{line}");
}

#[test]
fn deleted_database_is_logged_at_the_next_start() {
    let root = Root::new();
    log_of_a_run(&root);
    fs::remove_file(root.database()).unwrap();
    assert!(warning(&log_of_a_run(&root)).contains(".pmxcfs.lockfile"));
}

#[test]
fn database_without_entries_is_logged() {
    let root = Root::new();
    fs::write(state(&root, "config.db"), "").unwrap();
    assert!(warning(&log_of_a_run(&root)).contains("' had 0 bytes, a new"));
    let root = Root::new();
    let connection = rusqlite::Connection::open(state(&root, "config.db")).unwrap();
    connection.execute_batch("CREATE TABLE other (a)").unwrap();
    drop(connection);
    assert!(warning(&log_of_a_run(&root)).contains("' had no entries, a new"));
}

#[test]
fn log_without_a_database_is_kept() {
    for empty in [false, true] {
        let root = Root::new();
        let wal = state(&root, "config.db-wal");
        fs::write(&wal, "changes").unwrap();
        if empty {
            fs::write(state(&root, "config.db"), "").unwrap();
        }
        let inode = fs::metadata(&wal).unwrap().ino();
        let log = log_of_a_run(&root);
        assert!(warning(&log).contains("config.db-wal"), "{log}");
        let entries = fs::read_dir(root.path("var/lib/pve-cluster")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        let kept = paths.find(|path| path.to_string_lossy().contains("config.db.orphaned-")).expect("kept");
        assert_eq!(
            (fs::read_to_string(&kept).unwrap(), fs::metadata(&kept).unwrap().ino()),
            ("changes".into(), inode)
        );
        assert!(log.contains(&format!("it is kept as '{}'", kept.display())), "{log}");
    }
}
