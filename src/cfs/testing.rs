//! A node for unit tests: its database in a directory that vanishes with it, and shorthands for what
//! tests do.

use super::{Cfs, NodeIdentity};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::memdb::{Change, TreePath, WriteAt};
use crate::rrd::Sink;
use crate::store::Store;
use std::sync::Arc;

/// The group that may read.
pub(crate) const WWW_DATA: u32 = 33;

/// A node called n1, alone.
pub(crate) struct TestNode {
    pub(crate) cfs: Arc<Cfs>,
    _dir: tempfile::TempDir,
}

impl TestNode {
    pub(crate) fn new() -> TestNode {
        let dir = tempfile::tempdir().expect("a directory for the database");
        let clock = Clock::start();
        let store = Store::open(&dir.path().join("config.db"), clock.unix()).expect("a new database");
        let engine = Engine::open(store, clock).expect("an empty tree");
        let node = NodeIdentity { name: "n1".to_owned(), address: None, www_data_gid: WWW_DATA };
        TestNode { cfs: Arc::new(Cfs::new(Arc::new(engine), clock, node, Sink::discarding())), _dir: dir }
    }

    /// Makes a change that the rules allow. It is in memory, and on disk some time later.
    pub(crate) fn change(&self, change: Change) {
        self.cfs.engine.submit(change, Box::new(|result| drop(result.expect("an allowed change"))));
    }

    /// Replaces or makes a file, and the directories to it.
    pub(crate) fn write(&self, path: &str, data: &[u8]) {
        let path = TreePath::from(path);
        let mut dir = TreePath::root();
        let names: Vec<&[u8]> = path.components().collect();
        for name in &names[..names.len() - 1] {
            dir = dir.join(name);
            if self.cfs.engine.read().resolve(dir.as_bytes()).is_none() {
                self.change(Change::Mkdir { path: dir.clone() });
            }
        }
        if self.cfs.engine.read().resolve(path.as_bytes()).is_none() {
            self.change(Change::Create { path: path.clone() });
        }
        self.change(Change::Truncate { path: path.clone(), size: 0 });
        self.change(Change::Write { path, at: WriteAt::Offset(0), data: data.to_vec() });
    }

    /// Removes a file.
    pub(crate) fn delete(&self, path: &str) {
        self.change(Change::Delete { path: path.into() });
    }

    /// Moves a file.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        self.change(Change::Rename { from: from.into(), to: to.into() });
    }
}
