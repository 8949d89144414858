//! The database file is deleted, moved, replaced or hidden while a daemon has it open.

use crate::fixture::{Daemon, Root, wait_until};
use crate::namespace;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rusqlite::Connection;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Scene {
    root: Root,
    daemon: Daemon,
}

impl Scene {
    /// A daemon with a file that is in the log only.
    fn new() -> Self {
        let root = Root::new();
        let daemon = root.serve(&["--local"]);
        fs::write(root.tree("before"), "text").unwrap();
        Self { root, daemon }
    }

    fn dir(&self) -> PathBuf {
        self.root.path("var/lib/pve-cluster")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn status(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmxcfs-ctl"));
        command.args(["--service", &self.root.service, "status", "--json"]).output().unwrap()
    }

    fn database(&self) -> serde_json::Value {
        let status: serde_json::Value = serde_json::from_slice(&self.status().stdout).unwrap();
        status["daemon"]["database"].clone()
    }

    /// Waits until the daemon reports the loss and refuses changes; returns the copy.
    fn lost(&self, word: &str) -> Option<PathBuf> {
        wait_until("the loss is reported and handled", || {
            let database = self.database();
            database["file"] == word && (word == "log-gone" || database["rescued"].is_string())
        });
        let status = self.status();
        assert_eq!(status.status.code(), Some(7), "{status:?}");
        assert!(
            String::from_utf8_lossy(&status.stderr).contains(&format!("FILE LOST ({word})")),
            "{status:?}"
        );
        let metrics = Command::new(env!("CARGO_BIN_EXE_pmxcfs-ctl"))
            .args(["--service", &self.root.service, "metrics"])
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&metrics.stdout).contains("pmxcfs_database_file_in_place 0\n"));
        let error = fs::write(self.root.tree("refused"), "text").expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(fs::read_to_string(self.root.tree("before")).unwrap(), "text");
        self.database()["rescued"].as_str().map(PathBuf::from)
    }

    /// Waits until the file is in use again.
    fn back(&self) {
        wait_until("changes are possible", || fs::write(self.root.tree("again"), "text").is_ok());
        wait_until("the loss is over", || self.status().status.code() == Some(0));
        let database = self.database();
        assert_eq!(
            (&database["file"], &database["version"]),
            (&"in-place".into(), &database["stored_version"])
        );
    }

    fn stop(&mut self) -> String {
        let (status, log) = self.daemon.stop();
        assert!(status.success(), "{status}: {log}");
        log
    }

    fn restart(&mut self) {
        self.daemon = self.root.serve(&["--local"]);
    }
}

fn tool(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pmxcfs-db")).args(arguments).output().unwrap()
}

/// A whole database with these entries, readable only for its owner.
fn assert_copy(copy: &Path, entries: &[&str]) {
    assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o600);
    let checked = tool(&[Path::new("check"), copy]);
    assert!(checked.status.success(), "{checked:?}");
    for entry in entries {
        let dumped = tool(&[Path::new("dump"), Path::new("--contents"), copy, Path::new(entry)]);
        assert_eq!(dumped.stdout, b"text", "{entry}: {dumped:?}");
    }
}

/// Makes a database elsewhere whose last entry is in its log only.
fn other_database(dir: &Path) {
    let made = Root::new();
    let mut daemon = made.serve(&["--local"]);
    fs::write(made.tree("marker"), "text").unwrap();
    fs::create_dir_all(dir).unwrap();
    for name in ["config.db", "config.db-wal"] {
        fs::copy(made.path("var/lib/pve-cluster").join(name), dir.join(name)).unwrap();
    }
    daemon.stop();
}

fn delete_all(scene: &Scene) {
    for name in ["config.db", "config.db-wal", "config.db-shm"] {
        fs::remove_file(scene.at(name)).unwrap();
    }
}

#[test]
fn deleted_database_is_saved_beside_its_path() {
    let mut scene = Scene::new();
    delete_all(&scene);
    // Noticed only later, so it is acknowledged.
    fs::write(scene.root.tree("after"), "text").unwrap();
    let copy = scene.lost("deleted").expect("a copy");
    assert_eq!(copy.parent(), Some(scene.dir().as_path()));
    assert_copy(&copy, &["before", "after"]);
    let log = scene.stop();
    assert_eq!(log.matches("was deleted; all changes are saved in").count(), 1, "said once: {log}");
    assert!(log.contains("[database] crit: "), "{log}");
    assert!(!scene.root.database().exists());
    fs::rename(&copy, scene.root.database()).unwrap();
    scene.restart();
    assert_eq!(fs::read_to_string(scene.root.tree("after")).unwrap(), "text");
}

#[test]
fn database_deleted_just_before_the_end_is_saved() {
    let mut scene = Scene::new();
    delete_all(&scene);
    scene.stop();
    let copies: Vec<_> = fs::read_dir(scene.dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let copy = copies.iter().find(|path| path.to_string_lossy().contains("config.db.rescued-"));
    assert_copy(copy.unwrap_or_else(|| panic!("{copies:?}")), &["before"]);
}

/// The daemon's log stays at the path, and must not be applied to the other file.
#[test]
fn file_put_in_place_is_not_touched() {
    for with_log in [false, true] {
        let mut scene = Scene::new();
        let other = scene.root.path("other");
        other_database(&other);
        if !with_log {
            Connection::open(other.join("config.db"))
                .unwrap()
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .unwrap();
        }
        let contents = fs::read(other.join("config.db")).unwrap();
        fs::rename(other.join("config.db"), scene.root.database()).unwrap();
        let log = with_log.then(|| fs::read(other.join("config.db-wal")).unwrap());
        if with_log {
            fs::rename(other.join("config.db-wal"), scene.at("config.db-wal")).unwrap();
        }
        let copy = scene.lost("replaced").expect("a copy");
        assert_copy(&copy, &["before"]);
        scene.stop();
        assert!(fs::read(scene.root.database()).unwrap() == contents, "changed, with log: {with_log}");
        if let Some(log) = log {
            assert!(fs::read(scene.at("config.db-wal")).unwrap() == log, "its log was changed");
        }
        scene.restart();
        assert_eq!(fs::read_to_string(scene.root.tree("marker")).unwrap(), "text", "with log: {with_log}");
        assert!(!scene.root.tree("before").exists());
    }
}

#[test]
fn database_under_a_mount_is_used_again_after_umount() {
    namespace::enter_once();
    let mut scene = Scene::new();
    mount(Some("tmpfs"), &scene.dir(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let copy = scene.lost("hidden").expect("a copy");
    assert_eq!(copy.parent(), Some(scene.dir().as_path()));
    assert_copy(&copy, &["before"]);
    umount2(&scene.dir(), MntFlags::MNT_DETACH).unwrap();
    scene.back();
    let log = scene.stop();
    assert!(log.contains("can be written again"), "{log}");
    scene.restart();
    assert_eq!(fs::read_to_string(scene.root.tree("again")).unwrap(), "text");
}

#[test]
fn moved_directory_is_used_again_when_it_is_back() {
    let mut scene = Scene::new();
    let away = scene.root.path("away");
    fs::rename(scene.dir(), &away).unwrap();
    let copy = scene.lost("no-directory").expect("a copy");
    assert_eq!(copy.parent(), Some(away.as_path()), "it is with the database");
    assert_copy(&copy, &["before"]);
    assert_copy(&away.join("config.db"), &["before"]);
    fs::rename(&away, scene.dir()).unwrap();
    scene.back();
    scene.stop();
    scene.restart();
    assert_eq!(fs::read_to_string(scene.root.tree("again")).unwrap(), "text");
}

#[test]
fn moved_file_is_used_again_when_it_is_back() {
    let scene = Scene::new();
    let away = scene.root.path("away.db");
    fs::rename(scene.root.database(), &away).unwrap();
    assert_copy(&scene.lost("moved").expect("a copy"), &["before"]);
    fs::rename(&away, scene.root.database()).unwrap();
    scene.back();
}

#[test]
fn deleted_directory_is_saved_in_the_run_directory() {
    let mut scene = Scene::new();
    fs::remove_dir_all(scene.dir()).unwrap();
    let copy = scene.lost("no-directory").expect("a copy");
    assert_eq!(copy.parent(), Some(scene.root.path("run/pve-cluster").as_path()));
    assert_copy(&copy, &["before"]);
    scene.stop();
}

#[test]
fn deleted_log_is_moved_into_the_database() {
    let mut scene = Scene::new();
    fs::remove_file(scene.at("config.db-wal")).unwrap();
    fs::write(scene.root.tree("after"), "text").unwrap();
    wait_until("the log is moved", || {
        let database = scene.database();
        database["file"] == "log-gone" && database["stored_version"] == database["version"]
    });
    assert_eq!(scene.lost("log-gone"), None);
    let log = scene.stop();
    assert!(log.contains("nothing is lost, the file at the path has all changes; restart pmxcfs"), "{log}");
    scene.restart();
    for name in ["before", "after"] {
        assert_eq!(fs::read_to_string(scene.root.tree(name)).unwrap(), "text");
    }
}

#[test]
fn copy_goes_to_a_directory_with_room() {
    namespace::enter_once();
    let scene = Scene::new();
    let full = |path: &Path| -> io::Result<()> {
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=4096"))?;
        fs::write(path.join("filler"), vec![0; 4096])
    };
    full(&scene.root.path("run/pve-cluster")).unwrap();
    fs::rename(scene.dir(), scene.root.path("away")).unwrap();
    fs::create_dir(scene.dir()).unwrap();
    full(&scene.dir()).unwrap();
    // Both other directories are full, so the copy is written to the directory that was moved.
    let copy = scene.lost("hidden").expect("a copy");
    assert_eq!(copy.parent(), Some(scene.root.path("away").as_path()));
    assert_copy(&copy, &["before"]);
    fs::remove_file(&copy).unwrap();
    wait_until("a deleted copy is made again", || {
        copy.exists() || scene.database()["rescued"] != copy.to_str().unwrap()
    });
}

/// SQLite removes the log by its name when it closes a database that is in place.
#[test]
fn log_put_in_place_is_not_touched() {
    let mut scene = Scene::new();
    let log = scene.at("config.db-wal");
    fs::write(scene.at("new"), "another log").unwrap();
    fs::rename(scene.at("new"), &log).unwrap();
    let copy = scene.lost("log-replaced").expect("a copy");
    assert_copy(&copy, &["before"]);
    scene.stop();
    assert_eq!(fs::read_to_string(&log).unwrap(), "another log");
    assert_copy(&copy, &["before"]);
}
