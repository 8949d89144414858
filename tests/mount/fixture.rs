//! A mounted tree for one test, with its database in the same temporary directory. Whatever happens,
//! it is unmounted in the end.
//!
//! Each test has a mount namespace of its own: nobody else sees the tree, and none that is made while
//! the test runs (by a container or a service) takes a copy of the mount, which would then not end.

use crate::{namespace, public};
use pmxcfs::cfs::{Cfs, NodeIdentity};
use pmxcfs::clock::{Clock, Forward};
use pmxcfs::engine::Engine;
use pmxcfs::fuse::{self, Mounted, Options};
use pmxcfs::memdb::{Change, TreePath, WriteAt};
use pmxcfs::rrd;
use pmxcfs::store::Store;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The node that the trees are of.
pub const NODE: &str = "alpha";
/// Longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A user that owns nothing.
pub const NOBODY: u32 = 65534;

/// A mounted tree.
pub struct Tree {
    pub cfs: Arc<Cfs>,
    /// The hand on its clock.
    pub forward: Forward,
    mounted: Option<Mounted>,
    dir: tempfile::TempDir,
}

impl Tree {
    /// An empty tree with quorum.
    pub fn new() -> Self {
        Self::with_options(Options::default())
    }

    pub fn with_options(options: Options) -> Self {
        namespace::enter_once();
        let dir = public::dir();
        let (cfs, forward) = open(&dir.path().join("config.db"));
        let mounted = fuse::mount(Arc::clone(&cfs), &dir.path().join("tree"), options);
        let mounted = Some(mounted.expect("mounted; this needs root and /dev/fuse"));
        Self { cfs, forward, mounted, dir }
    }

    /// A place in the tree.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// The mount point.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.dir.path().join("config.db")
    }

    pub fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().expect("mounted until the end")
    }

    /// Makes directories, and what is above them.
    pub fn mkdir(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(&path).expect("mkdir");
        path
    }

    /// Makes or replaces the contents of a file.
    pub fn write(&self, path: &str, data: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::write(&path, data).expect("write");
        path
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).expect("read")
    }

    /// Names in a directory, sorted.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).expect("readable directory");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("entry").file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Makes a change that does not come from this kernel, and queues its invalidations, as for a change of
    /// another node.
    pub fn change(&self, change: Change) {
        let applied = self.cfs.engine.submit_wait(change).expect("applied");
        self.mounted().invalidate().queue(&applied.invalidations);
    }

    /// As [`Tree::change`], but returns after the kernel was notified.
    pub fn elsewhere(&self, change: Change) {
        self.change(change);
        self.drain();
    }

    /// Writes behind the kernel's back.
    pub fn write_elsewhere(&self, path: &str, offset: u64, data: &[u8]) {
        let at = WriteAt::Offset(offset);
        self.elsewhere(Change::Write { path: TreePath::from(path), at, data: data.to_vec() });
    }

    /// Gains or loses quorum.
    pub fn set_quorate(&self, quorate: bool) {
        self.cfs.set_quorate(quorate);
        self.drain();
    }

    /// Waits until the kernel was told of everything.
    pub fn drain(&self) {
        assert!(self.mounted().invalidate().wait(PATIENCE), "the kernel was not told in time");
    }

    /// Runs a shell script as another user, in the root of the tree.
    pub fn shell_as(&self, uid: u32, gid: u32, script: &str) -> Output {
        let mut shell = public::command_as("/bin/sh", uid, gid);
        shell.arg("-c").arg(script).env("TREE", self.root());
        shell.output().expect("a shell")
    }

    /// Unmounts, closes the database and opens it again: what is left is what is on disk.
    pub fn reload(mut self) -> Self {
        assert!(self.unmount(), "somebody has a file open");
        self.cfs.engine.close().expect("closed");
        let (cfs, forward) = open(&self.database());
        let mounted = fuse::mount(Arc::clone(&cfs), &self.root(), Options::default());
        self.mounted = Some(mounted.expect("mounted again"));
        (self.cfs, self.forward) = (cfs, forward);
        self
    }

    pub fn unmount(&mut self) -> bool {
        self.unmount_within(PATIENCE)
    }

    pub fn unmount_within(&mut self, timeout: Duration) -> bool {
        self.mounted.take().is_none_or(|mounted| mounted.unmount(timeout))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.unmount_within(PATIENCE) {
            // A test that fails says why itself.
            assert!(std::thread::panicking(), "somebody has a file open");
        }
    }
}

fn open(database: &Path) -> (Arc<Cfs>, Forward) {
    let (clock, forward) = Clock::forwardable();
    let store = Store::open(database, clock.unix()).expect("database");
    let db = Arc::new(Engine::open(store, clock).expect("loaded"));
    let node = NodeIdentity { name: NODE.to_owned(), address: None, www_data_gid: www_data() };
    let cfs = Arc::new(Cfs::new(db, clock, node, rrd::Sink::discarding()));
    cfs.set_quorate(true);
    (cfs, forward)
}

/// The group of all nodes.
pub fn www_data() -> u32 {
    let group = nix::unistd::Group::from_name("www-data").expect("groups are readable");
    group.expect("the group www-data").gid.as_raw()
}

/// Threads that work until another one is at its end, also when that is a panic.
#[derive(Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Calls `work` again and again until the end.
    pub fn until(&self, mut work: impl FnMut()) {
        while !self.0.load(Ordering::Relaxed) {
            work();
        }
    }

    pub fn at_end(&self) -> AtEnd<'_> {
        AtEnd(self)
    }
}

pub struct AtEnd<'a>(&'a Stop);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The operation must fail with this errno.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T, impl Into<io::Error>>, errno: i32) {
    let error: io::Error = match result {
        Ok(value) => panic!("succeeded with {value:?} instead of {}", io::Error::from_raw_os_error(errno)),
        Err(error) => error.into(),
    };
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}
