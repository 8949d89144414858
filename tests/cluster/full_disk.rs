//! A member whose file system is filled by files of others.

use crate::TOKEN;
use crate::cluster::{Cluster, Mix, obstacle};
use crate::namespace;
use crate::node::Node;
use crate::report::groups;
use crate::wait::{SOON, eventually, soon};
use nix::libc::ENOSPC;
use nix::mount::{MsFlags, mount, umount};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Longer than all that a full file system frees by a restart of its log.
static LARGE: [u8; 300 << 10] = [7; 300 << 10];

/// A small file system that this thread and the nodes made by it see.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        namespace::enter_once();
        let dir = tempfile::tempdir().expect("a directory");
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=4m")).expect("mounted");
        Self(dir)
    }

    /// Lets a node that was not started yet have its database here.
    fn hold_database_of(&self, node: &Node) {
        let dir = node.database().parent().expect("a directory").to_owned();
        fs::remove_dir(&dir).expect("empty");
        std::os::unix::fs::symlink(self.0.path(), &dir).expect("a link");
    }

    /// Fills all free space with one file, and returns its path.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("ballast");
        let mut ballast = File::create(&path).expect("a file");
        let error = loop {
            if let Err(error) = ballast.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(error.raw_os_error(), Some(ENOSPC));
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Fails only if a daemon of a failed test still runs.
        let _ = umount(self.0.path());
    }
}

fn ctl(node: &Node, verb: &'static str) -> String {
    let output = node.space.run(move || {
        Command::new(env!("CARGO_BIN_EXE_pmxcfs-ctl")).arg(verb).output().expect("the program runs")
    });
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The tools of a member that cannot store changes say so.
fn assert_reported(node: &Node) {
    let status = ctl(node, "status");
    assert!(status.contains("CANNOT BE WRITTEN (no space left on its file system)"), "{status}");
    assert!(status.contains(" on disk), ") && !status.contains("(on disk)"), "{status}");
    let group = status.lines().find(|line| line.to_lowercase().contains("database group"));
    assert!(group.is_some_and(|line| line.contains("leave since")), "{status}");
    let metrics = ctl(node, "metrics");
    for line in [
        "pmxcfs_database_writable 0\n",
        "pmxcfs_group_synced{group=\"database\"} 0\n",
        "pmxcfs_group_mode{group=\"database\",mode=\"leave\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!(node.logged("no space left on its file system; free some space"), 1, "{}", node.log());
}

#[test]
fn member_on_full_disk_rejoins_when_space_is_freed() {
    if let Some(obstacle) = obstacle() {
        eprintln!("SKIPPED member_on_full_disk_rejoins_when_space_is_freed: {obstacle}");
        return;
    }
    let disk = SmallDisk::new();
    let mut cluster = Cluster::prepare(&Mix::ours(3), TOKEN);
    disk.hold_database_of(&cluster[1]);
    cluster.nodes.iter_mut().for_each(Node::launch);
    cluster.settle();
    cluster[1].write("before", "text").expect("written");
    soon("the file", || cluster[2].has("before", "text"));

    let ballast = disk.fill();
    cluster[2].write("large", LARGE).expect("the others have space");
    eventually("the member leaves", || groups(&cluster[1])["database"]["mode"] == "leave");
    assert!(cluster[1].has("before", "text"), "reading goes on");
    for round in 0..3 {
        let error = cluster[1].write("refused", "text").expect_err("no space");
        assert_eq!(error.raw_os_error(), Some(ENOSPC), "{round}: {error}");
        cluster[2].write("meanwhile", format!("{round}")).expect("the others go on");
        soon("the others read", || cluster[3].has("meanwhile", format!("{round}")));
    }
    fs::remove_file(cluster[3].tree("before")).expect("removed");
    assert_reported(&cluster[1]);
    eventually("the others see it leave", || {
        let report = groups(&cluster[2])["database"].clone();
        report["mode"] == "synced" && report["members"].as_array().is_some_and(|list| list.len() == 2)
    });

    fs::remove_file(ballast).expect("removed");
    let freed = Instant::now();
    eventually("it has the changes of the others", || cluster[1].has("meanwhile", "2"));
    eventually("it accepts changes", || cluster[1].write("after", "text").is_ok());
    let took = freed.elapsed();
    eprintln!("changes are accepted {took:?} after space was freed");
    assert!(took < SOON, "{took:?}{}", cluster.story());
    soon("its change", || cluster[3].has("after", "text"));
    assert_eq!(groups(&cluster[1])["database"]["mode"], "synced");
    assert!(cluster[1].has("large", LARGE) && !cluster[1].tree("before").exists());
    assert!(!cluster[2].tree("refused").exists(), "a refused change was made");
    let status = ctl(&cluster[1], "status");
    assert!(status.contains("(on disk)") && !status.contains("CANNOT BE WRITTEN"), "{status}");
    assert_eq!(cluster[1].logged("can be written again"), 1, "{}", cluster[1].log());
    cluster.finish();
}
