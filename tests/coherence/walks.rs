//! Operations by path whose inode another member replaces or removes between the kernel's lookup and the request of
//! the operation, also after the kernel has walked the path a second time. ESTALE never reaches the program.

use crate::fixture::{Tree, refused};
use crate::scene::Scene;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use pmxcfs::cfs::Cfs;
use pmxcfs::counts::KernelRequest;
use pmxcfs::fuse::{CacheRules, Hooks};
use pmxcfs::memdb::{Change, Limits, MemDb, Stamp, TreePath, WriteAt};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Changes of the other member, made after each lookup and before its reply.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    /// Renames a new file over `d/f`.
    Replace,
    /// Removes `d/f`, and creates it again before the next lookup.
    Remove,
    /// Removes the directory `d/s` and makes it again.
    Remake,
}

/// The other member.
#[derive(Default)]
struct Other {
    cfs: OnceLock<Arc<Cfs>>,
    is_armed: AtomicBool,
}

impl Other {
    /// Makes changes without a notification of the kernel.
    fn make(&self, changes: impl IntoIterator<Item = Change>) {
        let engine = &self.cfs.get().expect("mounted").engine;
        let act = |tree: &mut MemDb, notify: pmxcfs::engine::Notify<'_>| {
            for change in changes {
                let stamp = Stamp { writer: 2, time: 2_000_000_000 };
                let applied = tree.apply(change, stamp, Limits::Agreed, Duration::ZERO).expect("applies");
                notify(&applied.invalidations);
            }
        };
        engine.apply_batch(act).expect("the database is open");
    }

    fn change(&self, meanwhile: Meanwhile) {
        let path = |name: &str| TreePath::from(name);
        let new = |name: &str| {
            let data = b"new".to_vec();
            [Change::Create { path: path(name) }, Change::Write { path: path(name), at: WriteAt::End, data }]
        };
        match meanwhile {
            Meanwhile::Replace => {
                self.make(new("d/new"));
                self.make([Change::Rename { from: path("d/new"), to: path("d/f") }]);
            }
            Meanwhile::Remove => {
                self.make([Change::Delete { path: path("d/f") }]);
                self.make(new("d/f"));
            }
            Meanwhile::Remake => {
                self.make([Change::Delete { path: path("d/s") }, Change::Mkdir { path: path("d/s") }]);
            }
        }
    }
}

/// A directory whose inodes are replaced at each lookup from now on, and once before.
fn restless(meanwhile: Meanwhile) -> (Arc<Other>, Tree) {
    let other = Arc::<Other>::default();
    let member = Arc::clone(&other);
    let before_reply = move |request| {
        if request == KernelRequest::Lookup && member.is_armed.load(Ordering::Relaxed) {
            member.change(meanwhile);
        }
    };
    let hooks = Hooks { before_reply: Some(Arc::new(before_reply)), ..Hooks::default() };
    let tree = Scene::unseen(hooks);
    other.cfs.set(Arc::clone(&tree.cfs)).expect("set once");
    // The kernel knows the names, and goes to inodes that are replaced now.
    for name in ["d/f", "d/s"] {
        fs::metadata(tree.path(name)).expect("there");
    }
    other.change(meanwhile);
    other.is_armed.store(true, Ordering::Relaxed);
    (other, tree)
}

type Operation = (&'static str, fn(&Path) -> io::Result<()>);

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<()> {
    options.open(path).map(drop)
}

fn set_time(path: &Path) -> io::Result<()> {
    let time = TimeSpec::new(99, 0);
    let cwd = nix::fcntl::AT_FDCWD;
    Ok(utimensat(cwd, path, &time, &time, UtimensatFlags::FollowSymlink)?)
}

/// Operations by path on a file that is always there.
const OPERATIONS: [Operation; 9] = [
    ("open to read", |path| open(path, File::options().read(true))),
    ("open to write", |path| open(path, File::options().write(true))),
    ("open and truncate", |path| open(path, File::options().write(true).truncate(true))),
    ("append", |path| File::options().append(true).open(path)?.write_all(b"more")),
    ("stat", |path| fs::metadata(path).map(drop)),
    ("truncate", |path| Ok(nix::unistd::truncate(path, 1)?)),
    ("utimensat", set_time),
    ("chmod", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o640))),
    ("chown", |path| chown(path, Some(0), None)),
];

#[test]
fn operations_on_replaced_file_succeed() {
    for (name, operation) in OPERATIONS {
        let (other, tree) = restless(Meanwhile::Replace);
        operation(&tree.path("d/f")).unwrap_or_else(|error| panic!("{name}: {error}"));
        other.is_armed.store(false, Ordering::Relaxed);
        let engine = tree.cfs.engine.read();
        let file = engine.resolve(b"d/f").and_then(|entry| entry.content()).expect("there");
        assert_eq!(file.as_slice(), b"new", "{name}: it belongs to a file that was replaced");
    }
}

/// A first attempt that does not find its inode is no reason to use the old file: the kernel walks the path again.
#[test]
fn change_by_path_goes_to_the_new_file() {
    let (other, tree) = restless(Meanwhile::Replace);
    other.is_armed.store(false, Ordering::Relaxed);
    let mut file = File::options().append(true).open(tree.path("d/f")).expect("opened");
    file.write_all(b"more").expect("appended");
    assert_eq!(tree.read("d/f"), b"newmore");
    drop(file);
    let (other, tree) = restless(Meanwhile::Replace);
    other.is_armed.store(false, Ordering::Relaxed);
    nix::unistd::truncate(&tree.path("d/f"), 1).expect("truncated");
    assert_eq!(tree.read("d/f"), b"n");
}

#[test]
fn operations_on_removed_file_fail_with_enoent() {
    for (name, operation) in OPERATIONS {
        let (_, tree) = restless(Meanwhile::Remove);
        if let Err(error) = operation(&tree.path("d/f")) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{name}");
        }
    }
}

/// Operations in a directory.
const IN_DIRECTORY: [Operation; 6] = [
    ("mkdir", |path| fs::create_dir(path.join("x"))),
    ("create", |path| File::create_new(path.join("x")).map(drop)),
    ("list", |path| fs::read_dir(path).map(drop)),
    ("stat", |path| fs::metadata(path).map(drop)),
    ("utimensat", set_time),
    ("rename", |path| fs::rename(path.with_file_name("g"), path.join("g"))),
];

#[test]
fn operations_in_remade_directory_never_get_estale() {
    for (name, operation) in IN_DIRECTORY {
        let (_, tree) = restless(Meanwhile::Remake);
        if let Err(error) = operation(&tree.path("d/s")) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{name}");
        }
    }
}

/// Without further changes the second walk finds the new directory.
#[test]
fn operations_go_to_the_remade_directory() {
    for (name, operation) in IN_DIRECTORY {
        let (other, tree) = restless(Meanwhile::Remake);
        other.is_armed.store(false, Ordering::Relaxed);
        operation(&tree.path("d/s")).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A descriptor, or a working directory, has no path that could be walked again.
#[test]
fn descriptor_of_remade_directory_has_attributes() {
    let scene = Scene::new(CacheRules::GROUP);
    let directory = File::open(scene.tree.path("d/s")).expect("there");
    let by_descriptor =
        PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory)));
    scene.tree.elsewhere(Change::Delete { path: "d/s".into() });
    refused(directory.metadata(), libc::ENOENT);
    scene.tree.elsewhere(Change::Mkdir { path: "d/s".into() });
    let attributes = directory.metadata().expect("the directory is open");
    assert!(attributes.is_dir() && attributes.nlink() == 0);
    assert_ne!(attributes.ino(), fs::metadata(scene.tree.path("d/s")).expect("made again").ino());
    refused(fs::read_dir(&by_descriptor), libc::ENOENT);
    refused(fs::create_dir(by_descriptor.join("x")), libc::ENOENT);
    refused(set_time(&by_descriptor), libc::ENOENT);
}

/// The kernel sends SETATTR without a file handle for `futimens` and `fchmod`.
#[test]
fn descriptor_of_replaced_file_changes_it() {
    let scene = Scene::new(CacheRules::GROUP);
    let file = File::options().read(true).write(true).open(scene.tree.path("d/f")).expect("there");
    scene.tree.elsewhere(Change::Rename { from: "d/g".into(), to: "d/f".into() });
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(99);
    file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time)).expect("futimens");
    file.set_permissions(fs::Permissions::from_mode(0o640)).expect("fchmod");
    file.write_all_at(b"old", 0).expect("write");
    file.set_len(3).expect("ftruncate");
    let attributes = file.metadata().expect("fstat");
    assert_eq!((attributes.size(), attributes.nlink()), (3, 0));
    assert_eq!(scene.tree.read("d/f"), b"the other file");
    // A name below /proc opens the same file, as on any file system.
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    File::options().write(true).open(again).expect("opened again").write_all_at(b"OLD", 0).expect("written");
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, 0).expect("read");
    assert_eq!(&bytes, b"OLD");
}
