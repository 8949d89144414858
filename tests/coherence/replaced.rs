//! Changes through an open descriptor whose file another member replaces, removes or moves while the change
//! travels. They never change another file that took the path.

use crate::fixture::refused;
use crate::group::{Group, Lost};
use crate::operations::{Call, Operation, SIZE};
use crate::scene::Scene;
use crate::views::whole;
use pmxcfs::fuse::CacheRules;
use pmxcfs::memdb::{Change, TreePath};
use std::fs;
use std::io;

/// Operations through a descriptor of `d/f`.
const OPERATIONS: [Operation; 5] =
    [Operation::Write, Operation::Append, Operation::Truncate, Operation::Grow, Operation::Utimens];

/// The other member's changes of `d/f` while the operation travels.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    /// Renames `d/g` over it.
    Replace,
    /// Removes it and creates another one.
    Recreate,
    /// Removes it.
    Remove,
    /// Moves it to `d/n`.
    Move,
}

impl Meanwhile {
    fn changes(self) -> Vec<Change> {
        let path = |name: &str| TreePath::from(name);
        let remove = || Change::Delete { path: path("d/f") };
        match self {
            Self::Replace => vec![Change::Rename { from: path("d/g"), to: path("d/f") }],
            Self::Recreate => vec![remove(), Change::Create { path: path("d/f") }],
            Self::Remove => vec![remove()],
            Self::Move => vec![Change::Rename { from: path("d/f"), to: path("d/n") }],
        }
    }
}

/// Contents and time of the entry at a path in the tree.
fn entry(scene: &Scene, path: &str) -> Option<(Vec<u8>, u32)> {
    let tree = scene.tree.cfs.engine.read();
    let entry = tree.resolve(path.as_bytes())?;
    Some((entry.content().expect("a file").to_vec(), entry.mtime))
}

/// Result of an operation that crosses changes of the other member, and the file at the path right after these.
fn cross(
    scene: &Scene,
    group: &Group<'_>,
    call: Call,
    meanwhile: Meanwhile,
) -> (io::Result<()>, Option<(Vec<u8>, u32)>) {
    let (started, held) = group.start(call).expect("submitted");
    for change in meanwhile.changes() {
        assert!(group.deliver_remote(change));
    }
    let there = entry(scene, "d/f");
    group.deliver(held);
    (group.finish(started), there)
}

/// Runs the operation in a group, and returns its result and whether the file at the path is untouched.
fn run(operation: Operation, meanwhile: Meanwhile, stock: bool) -> (Scene, io::Result<()>, bool) {
    let scene = Scene::new(CacheRules::GROUP);
    let call = operation.local(&scene.tree).expect("a system call");
    let group = Group::join(&scene.tree, Lost::Nothing);
    let group = if stock { group.with_stock_member() } else { group };
    let (result, there) = cross(&scene, &group, call, meanwhile);
    let untouched = entry(&scene, "d/f") == there;
    (scene, result, untouched)
}

#[test]
fn change_of_replaced_file_spares_the_new_one() {
    for operation in OPERATIONS {
        let (scene, result, untouched) = run(operation, Meanwhile::Replace, false);
        assert!(untouched, "{operation:?}");
        result.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        // The descriptor means the old file, as on any file system.
        let old = whole(&scene.reader).expect("still open");
        let (changed, attr) = (old != [b'.'; SIZE], scene.reader.metadata().expect("still open"));
        assert!(changed || operation == Operation::Utimens, "{operation:?}");
        assert_eq!(fs::read(scene.tree.path("d/f")).expect("there"), b"the other file");
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&attr), 0);
    }
}

#[test]
fn change_of_recreated_file_spares_the_new_one() {
    for operation in OPERATIONS {
        let (_, result, untouched) = run(operation, Meanwhile::Recreate, false);
        assert!(untouched, "{operation:?}");
        refused(result, libc::ENOENT);
    }
}

#[test]
fn change_of_removed_file_fails_with_enoent() {
    for operation in OPERATIONS {
        let (scene, result, untouched) = run(operation, Meanwhile::Remove, false);
        refused(result, libc::ENOENT);
        assert!(untouched && whole(&scene.reader).expect("still open") == [b'.'; SIZE], "{operation:?}");
    }
}

#[test]
fn change_of_moved_file_follows_it() {
    for operation in OPERATIONS {
        let (scene, result, _) = run(operation, Meanwhile::Move, false);
        result.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        let (content, mtime) = entry(&scene, "d/n").expect("moved");
        let changed = content != [b'.'; SIZE] || mtime == 99;
        assert!(changed, "{operation:?}");
        scene.check().unwrap_or_else(|difference| panic!("{operation:?}: {difference}"));
    }
}

/// No message of stock names an inode. This also proves that the tests above notice a change by path.
#[test]
fn stock_member_has_changes_made_by_path() {
    for operation in OPERATIONS {
        for meanwhile in [Meanwhile::Replace, Meanwhile::Recreate] {
            let (_, result, untouched) = run(operation, meanwhile, true);
            result.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
            assert!(!untouched, "{operation:?} {meanwhile:?}");
        }
    }
}
