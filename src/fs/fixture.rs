//! A tree without a mount, for unit tests.

use super::{CacheRules, Fs};
use crate::cfs::{Cfs, NodeIdentity};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::memdb::{Change, TreePath};
use crate::rrd;
use crate::store::Store;
use std::sync::Arc;

/// The tree, and the directory of its database.
pub(super) struct Fixture {
    pub(super) fs: Arc<Fs>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let clock = Clock::start();
        let store = Store::open(&dir.path().join("config.db"), clock.unix()).expect("database");
        let db = Arc::new(Engine::open(store, clock).expect("loaded"));
        let node = NodeIdentity { name: "alpha".to_owned(), address: None, www_data_gid: 33 };
        let cfs = Cfs::new(db, clock, node, rrd::Sink::discarding());
        cfs.set_quorate(true);
        Self { fs: Fs::new(Arc::new(cfs), CacheRules::THIS_MOUNT), _dir: dir }
    }

    /// Makes a directory (its path ends with a slash) or a file; says its number.
    pub(super) fn make(&self, path: &str) -> u64 {
        let change = match path.strip_suffix('/') {
            Some(dir) => Change::Mkdir { path: TreePath::from(dir) },
            None => Change::Create { path: TreePath::from(path) },
        };
        self.change(change)
    }

    pub(super) fn change(&self, change: Change) -> u64 {
        self.fs.cfs.engine.submit_wait(change).expect("applied").inode
    }
}
