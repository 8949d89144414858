//! Start, stop, and everything that keeps a daemon from starting.

use crate::fixture::{Daemon, Root, wait_until};
use crate::manager::helpers;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pmxcfs::memdb::{Batch, NUMBER_MAX, Row};
use pmxcfs::store::Store;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("exists").permissions().mode() & 0o7777
}

fn www_data_gid() -> u32 {
    nix::unistd::Group::from_name("www-data").expect("group file").expect("www-data").gid.as_raw()
}

#[test]
fn a_stop_leaves_a_closed_database_and_a_restart_flag() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    assert_eq!(fs::read_to_string(root.pid_file()).expect("pid"), format!("{}\n", daemon.pid()));
    assert_eq!(mode(&root.database()), 0o600);
    assert_eq!(mode(&root.path("run/pve-cluster")), 0o750);
    let flag = root.path("run/pve-cluster/cfs-restart-flag");
    assert!(!flag.exists());
    fs::write(root.tree("storage.cfg"), "dir: local\n").expect("write");

    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("[main] notice: teardown filesystem"), "{log}");
    assert!(log.contains("[main] notice: exit proxmox configuration filesystem (0)"), "{log}");
    assert!(!root.is_mounted());
    assert!(!root.pid_file().exists());
    assert_eq!(mode(&flag), 0o440);
    let flag = fs::metadata(&flag).expect("flag");
    assert_eq!((flag.uid(), flag.gid()), (0, www_data_gid()));
    for ending in ["-wal", "-shm"] {
        assert!(!root.path(&format!("var/lib/pve-cluster/config.db{ending}")).exists(), "{ending}");
    }

    let mut daemon = root.serve(&["--local"]);
    assert_eq!(fs::read_to_string(root.tree("storage.cfg")).expect("kept"), "dir: local\n");
    assert!(!root.path("run/pve-cluster/cfs-restart-flag").exists());
    daemon.stop();
}

#[test]
fn each_stop_signal_stops() {
    for signal in [Signal::SIGINT, Signal::SIGHUP] {
        let root = Root::new();
        let mut daemon = root.serve(&["-l"]);
        daemon.signal(signal);
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
        assert!(!root.is_mounted(), "{signal}");
    }
}

#[test]
fn a_stop_with_open_files_does_not_hang() {
    let root = Root::new();
    let mut daemon = root.serve(&["-l"]);
    fs::write(root.tree("a"), "kept open").expect("write");
    let open = fs::File::open(root.tree("a")).expect("open");
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!root.is_mounted());
    drop(open);
}

#[test]
fn in_the_background_the_parent_returns_when_the_tree_is_served() {
    let root = Root::new();
    let (status, log) = root.run(&["--local"]);
    assert_eq!(status.code(), Some(0), "{log}");
    let served = fs::read_to_string(root.tree(".version"));
    let pid: i32 = fs::read_to_string(root.pid_file()).expect("pid file").trim().parse().expect("a pid");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).expect("running");
    let session = nix::unistd::getsid(Some(Pid::from_raw(pid))).expect("running");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("running");
    wait_until("the daemon ends", || !Path::new(&format!("/proc/{pid}")).exists());
    assert!(served.expect("served at once").contains("starttime"));
    assert_eq!(name, "pmxcfs\n");
    assert_eq!(session.as_raw(), pid, "a session of its own");
    assert!(!root.is_mounted());
}

#[test]
fn a_daemon_that_cannot_start_says_why_and_fails_in_front_and_background() {
    let root = Root::new();
    fs::create_dir_all(root.path("var/lib/pve-cluster")).expect("dir");
    fs::write(root.database(), "this is not a database, but text that is long enough to be read")
        .expect("file");
    for options in [&["-l"][..], &["-l", "-f"]] {
        let (status, log) = root.run(options);
        assert_eq!(status.code(), Some(255), "{options:?}: {log}");
        assert!(log.contains("[main] crit: unable to"), "{options:?}: {log}");
        assert!(log.contains("config.db"), "{options:?}: {log}");
        assert!(!root.is_mounted(), "{options:?}");
        assert!(!root.pid_file().exists(), "{options:?}");
    }
}

#[test]
fn last_version_refuses_changes_with_one_log_line() {
    let root = Root::new();
    fs::create_dir_all(root.path("var/lib/pve-cluster")).expect("dir");
    let mut store = Store::open(&root.database(), 1).expect("a new database");
    let row =
        Row { version: NUMBER_MAX - 1, ..store.load(|rows| rows.next()).expect("rows").expect("a row") };
    store.commit(&Batch { version: row.version, deleted: Vec::new(), rows: vec![row] }).expect("stored");
    store.close().expect("closed");
    let mut daemon = root.serve(&["-l"]);
    fs::create_dir(root.tree("last")).expect("one more change");
    for _ in 0..3 {
        let refused = fs::create_dir(root.tree("none")).expect_err("no more changes");
        assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    }
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    let count = |line: &str| log.matches(line).count();
    assert_eq!(count("so only 1 more changes are possible"), 1, "{log}");
    assert_eq!(count("no more changes: database version 4611686018427387904 is the last"), 1, "{log}");

    let mut tool = Command::new(env!("CARGO_BIN_EXE_pmxcfs-db"));
    let repaired = tool.args(["repair", "--apply"]).arg(root.database()).output().expect("the program");
    assert!(repaired.status.success(), "{repaired:?}");
    let mut daemon = root.serve(&["-l"]);
    fs::create_dir(root.tree("last/one")).expect("changes are possible again");
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn a_second_daemon_does_not_touch_the_first() {
    let root = Root::new();
    let mut daemon = root.serve(&["-l"]);
    let (status, log) = root.run(&["-l", "-f"]);
    assert_eq!(status.code(), Some(255), "{log}");
    assert!(log.contains("unable to acquire pmxcfs lock - trying again"), "{log}");
    assert!(log.contains("another pmxcfs uses this database"), "{log}");
    assert!(root.tree(".version").exists());
    assert_eq!(fs::read_to_string(root.pid_file()).expect("kept"), format!("{}\n", daemon.pid()));
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn the_mount_of_a_killed_daemon_is_cleared() {
    let root = Root::new();
    for guarded in [true, false] {
        let mut daemon = root.serve(&["-l"]);
        fs::write(root.tree("a"), "closed, so on disk").expect("write");
        let guard = guard_of(&daemon);
        if guarded {
            daemon.signal(Signal::SIGKILL);
            wait_until("the guard has unmounted the tree", || !root.is_mounted());
        } else {
            kill(guard, Signal::SIGKILL).expect("a process");
            wait_until("the guard is gone", || is_zombie(guard));
            daemon.signal(Signal::SIGKILL);
        }
        daemon.wait();
        assert_eq!(root.is_mounted(), !guarded);
        let mut daemon = root.serve(&["-l"]);
        assert_eq!(fs::read_to_string(root.tree("a")).expect("kept"), "closed, so on disk");
        let (status, log) = daemon.stop();
        assert_eq!(status.code(), Some(0), "{log}");
        let line = "[fuse] warning: unmounted the tree of a daemon that is gone: ";
        let line = format!("{line}{}", root.path("etc/pve").display());
        assert_eq!(log.contains(&line), !guarded, "{log}");
        assert!(!root.is_mounted());
    }
}

/// The daemon is killed repeatedly while the next one starts immediately: no guard touches the next tree.
#[test]
fn guard_of_a_killed_daemon_spares_the_next_tree() {
    let root = Root::new();
    let mut daemon = root.serve(&["-l"]);
    for _ in 0..5 {
        let guard = guard_of(&daemon);
        // The guard notices the end only after the next daemon has mounted.
        kill(guard, Signal::SIGSTOP).expect("a process");
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        let next = root.serve(&["-l"]);
        kill(guard, Signal::SIGCONT).expect("a process");
        wait_until("the guard has ended", || !Path::new(&format!("/proc/{}", guard)).exists());
        fs::write(root.tree("a"), "served").expect("the tree is mounted");
        daemon = next;
    }
    assert_eq!(daemon.stop().0.code(), Some(0));
}

fn guard_of(daemon: &Daemon) -> Pid {
    let mut found = Vec::new();
    wait_until("there is a guard", || {
        found = helpers(daemon.pid(), "cfs-guard");
        found.len() == 1
    });
    found[0]
}

fn is_zombie(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// A file system mounted by an admin, with a file in it.
fn mount_tmpfs(path: &Path) -> PathBuf {
    fs::create_dir_all(path).expect("directory");
    let none = None::<&str>;
    mount(none, path, Some("tmpfs"), MsFlags::empty(), none).expect("mounted");
    let file = path.join("of-an-admin");
    fs::write(&file, "kept").expect("written");
    file
}

#[test]
fn foreign_mount_refuses_the_start_and_is_kept() {
    let root = Root::new();
    let file = mount_tmpfs(&root.path("etc/pve"));
    let (status, log) = root.run(&["-l", "-f"]);
    assert_eq!(status.code(), Some(255), "{log}");
    assert!(log.contains("[main] crit: unable to mount '"), "{log}");
    assert!(log.contains("a file system of type tmpfs"), "{log}");
    assert!(!log.contains("unmounted"), "{log}");
    assert_eq!(fs::read_to_string(&file).expect("kept"), "kept");
}

#[test]
fn tree_of_another_daemon_refuses_the_start() {
    let root = Root::new();
    let mut daemon = root.serve(&["-l"]);
    fs::write(root.tree("a"), "x").expect("written");
    // Another database with the same mount point.
    fs::create_dir(root.path("other")).expect("directory");
    std::os::unix::fs::symlink(root.path("etc"), root.path("other/etc")).expect("a link");
    let mut second = Command::new(env!("CARGO_BIN_EXE_pmxcfs"));
    second.args(["-l", "-f", "--node", "n1", "--ip", "192.0.2.1", "--service", "other", "--root"]);
    second.arg(root.path("other")).stderr(std::process::Stdio::piped());
    let (status, log) = Daemon { child: second.spawn().expect("the program starts") }.wait();
    assert_eq!(status.code(), Some(255), "{log}");
    assert!(log.contains("does another pmxcfs serve it?"), "{log}");
    assert_eq!(fs::read_to_string(root.tree("a")).expect("served"), "x");
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn files_below_the_mount_point_are_named() {
    let root = Root::new();
    fs::create_dir_all(root.path("etc/pve/nodes")).expect("directory");
    fs::write(root.path("etc/pve/nodes/hidden"), "").expect("file");
    let mut daemon = root.serve(&["-l"]);
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    let line = format!(
        "[fuse] warning: the mount point {} is not empty: 'nodes' cannot be reached while the tree is mounted",
        root.path("etc/pve").display()
    );
    assert!(log.contains(&line), "{log}");
}

#[test]
fn mount_of_a_dying_daemon_is_aborted_only_if_it_is_a_tree() {
    let root = Root::new();
    let place = root.path("etc/pve");
    let file = mount_tmpfs(&place);
    fs::create_dir(root.path("run")).expect("directory");
    let mut ended = Command::new("true").spawn().expect("a process");
    fs::write(root.pid_file(), format!("{}\n", ended.id())).expect("written");
    wait_until("it has ended", || is_zombie(Pid::from_raw(ended.id() as i32)));
    pmxcfs::daemon::guard::abort_mount_of_dead(&root.pid_file(), &place);
    assert_eq!(fs::read_to_string(&file).expect("kept"), "kept");
    ended.wait().expect("our child");
}

#[test]
fn an_unmounted_daemon_ends() {
    let root = Root::new();
    let mut daemon = root.serve(&["-l"]);
    umount2(&root.path("etc/pve"), MntFlags::empty()).expect("nothing is open");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!root.pid_file().exists());
}

#[test]
fn a_cluster_database_waits_for_quorum_unless_local_mode_is_forced() {
    let root = Root::new();
    let conf = "totem {\n  config_version: 1\n}\n";
    fs::create_dir_all(root.path("etc/corosync")).expect("dir");
    fs::write(root.path("etc/corosync/corosync.conf"), conf).expect("file");
    // A fresh database takes the host's configuration in, and is one of a cluster then. There is no
    // corosync here, so there is no quorum; what can be read is served all the same.
    for _ in 0..2 {
        let mut daemon = root.serve(&[]);
        assert_eq!(fs::read_to_string(root.tree("corosync.conf")).expect("imported"), conf);
        assert_eq!(mode(&root.tree("local")), 0o555);
        let refused = fs::write(root.tree("new"), "x").expect_err("no quorum");
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        let (status, log) = daemon.stop();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("[dcdb] crit: cpg_initialize failed"), "{log}");
        assert!(log.contains("[quorum] crit: "), "{log}");
    }
    let mut daemon = root.serve(&["-l"]);
    assert_eq!(mode(&root.tree("local")), 0o755);
    fs::write(root.tree("new"), "x").expect("this node decides alone");
    let (_, log) = daemon.stop();
    assert!(log.contains("[main] notice: forcing local mode (although corosync.conf exists)"), "{log}");
    assert!(log.contains("[main] warning: changes made in local mode are not replicated"), "{log}");
}

#[test]
fn local_mode_does_not_import_corosync_conf() {
    let root = Root::new();
    fs::create_dir_all(root.path("etc/corosync")).expect("dir");
    fs::write(root.path("etc/corosync/corosync.conf"), "x").expect("file");
    let mut daemon = root.serve(&["-l"]);
    assert!(!root.tree("corosync.conf").exists());
    daemon.stop();
}

#[test]
fn wrong_command_lines_exit_with_1_and_one_line() {
    let root = Root::new();
    for options in [&["--nosuch"][..], &["extra"], &["--ip", "x"]] {
        let (status, log) = root.run(options);
        assert_eq!(status.code(), Some(1), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.starts_with("[main] crit: "), "{log}");
    }
    assert!(!root.path("run").exists(), "nothing was made");
}
