//! What kinds of nodes there are, and what stat and statfs say of them, with and without quorum.

use crate::fixture::{NODE, Tree, www_data};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn stat(path: impl AsRef<Path>) -> Metadata {
    fs::symlink_metadata(path).expect("stat")
}

#[test]
fn the_root_of_an_empty_tree() {
    let tree = Tree::new();
    let generated = [".clusterlog", ".debug", ".members", ".rrd", ".version", ".vmlist"];
    let links = ["local", "lxc", "openvz", "qemu-server"];
    assert_eq!(tree.list(""), [&generated[..], &links[..]].concat());
    for _ in 0..2 {
        let root = stat(tree.root());
        assert_eq!((root.ino(), root.mode(), root.nlink(), root.size()), (1, 0o40755, 2, 0));
        assert_eq!((root.uid(), root.gid(), root.blocks()), (0, www_data(), 0));
        assert_eq!((root.mtime(), root.ctime(), root.atime()), (0, 0, 0));
        // Its look does not follow what is in it.
        tree.mkdir("d");
    }
}

#[test]
fn directories_and_files() {
    let tree = Tree::new();
    let before = tree.cfs.clock.unix();
    tree.mkdir("d");
    tree.write("d/f", "12345");
    let dir = stat(tree.path("d"));
    assert_eq!((dir.mode(), dir.nlink(), dir.size(), dir.blocks()), (0o40755, 2, 0, 0));
    let file = stat(tree.path("d/f"));
    assert_eq!((file.mode(), file.nlink(), file.size(), file.blksize()), (0o100640, 1, 5, 4096));
    for node in [dir, file] {
        assert_eq!((node.uid(), node.gid()), (0, www_data()));
        assert!(node.mtime() >= before.into(), "{} {before}", node.mtime());
        assert_eq!((node.atime(), node.ctime()), (node.mtime(), node.mtime()));
        assert_eq!((node.mtime_nsec(), node.rdev()), (0, 0));
    }
}

#[test]
fn blocks_are_counted_in_512_bytes() {
    let tree = Tree::new();
    for (size, blocks) in [(0, 0), (1, 8), (4096, 8), (4097, 16), (5000, 16), (1 << 20, 2048)] {
        let path = tree.write("f", vec![b'x'; size]);
        assert_eq!(stat(&path).blocks(), blocks, "{size} bytes");
    }
    let du = std::process::Command::new("du").arg("-k").arg(tree.path("f")).output().expect("du");
    assert!(du.stdout.starts_with(b"1024\t"), "{du:?}");
}

#[test]
fn links_point_to_this_node() {
    let tree = Tree::new();
    for (name, target) in [
        ("local", format!("nodes/{NODE}")),
        ("qemu-server", format!("nodes/{NODE}/qemu-server")),
        ("openvz", format!("nodes/{NODE}/openvz")),
        ("lxc", format!("nodes/{NODE}/lxc")),
    ] {
        let link = stat(tree.path(name));
        assert_eq!((link.mode(), link.nlink(), link.size()), (0o120755, 1, target.len() as u64), "{name}");
        assert_eq!((link.uid(), link.gid(), link.mtime(), link.blocks()), (0, www_data(), 0, 0), "{name}");
        assert_eq!(fs::read_link(tree.path(name)).expect("link"), Path::new(&target));
    }
    tree.mkdir(&format!("nodes/{NODE}/qemu-server"));
    tree.write("qemu-server/100.conf", "name: a\n");
    assert_eq!(tree.read(&format!("nodes/{NODE}/qemu-server/100.conf")), b"name: a\n");
    assert_eq!(tree.read("local/qemu-server/100.conf"), b"name: a\n");
}

#[test]
fn creating_through_a_dangling_link_makes_its_target() {
    let tree = Tree::new();
    tree.mkdir(&format!("nodes/{NODE}"));
    tree.write("lxc", "a file");
    assert_eq!(tree.read(&format!("nodes/{NODE}/lxc")), b"a file");
    assert!(stat(tree.path(&format!("nodes/{NODE}/lxc"))).is_file());
}

/// Path, mode with quorum, mode without.
const MODES: &[(&str, u32, u32)] = &[
    ("", 0o40755, 0o40755),
    ("priv", 0o40700, 0o40500),
    ("priv/f", 0o100600, 0o100400),
    ("priv/lock", 0o40700, 0o40500),
    ("priv/vps.mount", 0o100700, 0o100500),
    ("nodes", 0o40755, 0o40555),
    ("nodes/x", 0o40755, 0o40555),
    ("nodes/x/f", 0o100640, 0o100440),
    ("nodes/x/priv", 0o40700, 0o40500),
    ("nodes/x/priv/d", 0o40700, 0o40500),
    ("nodes/x/priv/d/f", 0o100600, 0o100400),
    ("nodes/x/d", 0o40755, 0o40555),
    ("nodes/x/d/priv", 0o100640, 0o100440),
    ("private", 0o100640, 0o100440),
    ("vps.mount", 0o100740, 0o100540),
    ("100.postumount", 0o100740, 0o100540),
    ("0.mount", 0o100640, 0o100440),
    ("1.stop", 0o40755, 0o40555),
    ("local", 0o120755, 0o120555),
    ("qemu-server", 0o120755, 0o120555),
    (".version", 0o100440, 0o100440),
    (".members", 0o100440, 0o100440),
    (".vmlist", 0o100440, 0o100440),
    (".rrd", 0o100440, 0o100440),
    (".clusterlog", 0o100440, 0o100440),
    (".debug", 0o100640, 0o100640),
];

#[test]
fn modes_follow_path_and_quorum() {
    let tree = Tree::new();
    for (path, mode, _) in MODES.iter().filter(|(path, ..)| !tree.path(path).is_symlink()) {
        match mode & 0o170000 {
            0o40000 => drop(tree.mkdir(path)),
            _ if path.starts_with('.') => {}
            _ => drop(tree.write(path, "x")),
        }
    }
    let check = |quorate: bool| {
        for (path, with, without) in MODES {
            let expected = if quorate { *with } else { *without };
            let mode = stat(tree.path(path)).mode();
            assert_eq!(mode, expected, "{path}, quorum {quorate}: {mode:o} instead of {expected:o}");
        }
    };
    check(true);
    // All of them are in the kernel's caches now.
    tree.set_quorate(false);
    check(false);
    tree.set_quorate(true);
    check(true);
}

#[test]
fn statfs_shows_the_database() {
    let tree = Tree::new();
    let statfs = |path: &Path| nix::sys::statvfs::statvfs(path).expect("statfs");
    let empty = statfs(&tree.root());
    assert_eq!((empty.block_size(), empty.fragment_size(), empty.blocks()), (4096, 4096, 32768));
    assert_eq!((empty.blocks_free(), empty.blocks_available()), (32768, 32768));
    assert_eq!((empty.files(), empty.files_free(), empty.name_max()), (262_144, 262_143, 256));
    tree.mkdir("d");
    tree.write("d/a", "x");
    assert_eq!(statfs(&tree.path("d/a")).blocks_free(), 32767);
    tree.write("d/b", vec![0; 4999]);
    let used = statfs(&tree.path("d"));
    assert_eq!((used.blocks_free(), used.files_free()), (32766, 262_140), "the sum is rounded, not each");
    fs::remove_file(tree.path("d/b")).expect("unlink");
    assert_eq!(statfs(&tree.root()).blocks_free(), 32767);
}

#[test]
fn generated_nodes_hide_entries_of_the_same_name() {
    let tree = Tree::new();
    for path in [".version", "local"] {
        let path = pmxcfs::memdb::TreePath::from(path);
        tree.elsewhere(pmxcfs::memdb::Change::Create { path });
    }
    assert!(tree.read(".version").starts_with(b"{"));
    assert!(stat(tree.path("local")).is_symlink());
    assert_eq!(tree.list("").iter().filter(|name| *name == ".version" || *name == "local").count(), 2);
}
