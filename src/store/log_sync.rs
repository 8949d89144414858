//! Sync of the write-ahead log to the disk, through a descriptor of its own.
//!
//! With `synchronous = NORMAL` SQLite syncs the log only at checkpoints; fsync(2) below the tree needs it earlier.
//! SQLite takes no POSIX locks on the log, so opening and closing this descriptor releases none.

use super::site::Site;
use super::{Action, Fault, StoreError};
use crate::dir::Access;
use nix::sys::stat::fstat;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The log of an open database. SQLite keeps this file until the last connection closes.
#[derive(Debug)]
pub struct LogSync {
    path: PathBuf,
    log: File,
    /// Directory of the database, until the names of its files are on disk.
    dir: Option<File>,
}

impl LogSync {
    pub(super) fn open(site: &Site) -> Result<Self, StoreError> {
        let open = || -> io::Result<Self> {
            let log = site.dir().open_file(&site.name_beside("-wal"), Access::Read)?;
            Ok(Self { path: site.path().to_owned(), log, dir: Some(site.dir().readable()?) })
        };
        open().map_err(|error| fail(site.path(), error.into()))
    }

    /// Blocks until every transaction that was committed before this call is on the disk.
    pub fn run(&mut self) -> Result<(), StoreError> {
        let mut sync = || -> io::Result<()> {
            self.log.sync_data()?;
            if let Some(dir) = &self.dir {
                dir.sync_all()?;
                self.dir = None;
            }
            Ok(())
        };
        if let Err(error) = sync() {
            let fault = match Fault::from(error) {
                Fault::Other(text) => Fault::Io(text),
                fault => fault,
            };
            return Err(fail(&self.path, fault));
        }
        match fstat(&self.log) {
            Ok(facts) if facts.st_nlink > 0 => Ok(()),
            _ => Err(fail(&self.path, Fault::LogRemoved)),
        }
    }
}

fn fail(path: &Path, fault: Fault) -> StoreError {
    StoreError::new(path, Action::Sync, fault)
}

#[cfg(test)]
mod tests {
    use crate::store::{Fault, Store};
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    /// POSIX locks of all processes on a file, as the kernel lists them.
    fn locks_on(path: &Path) -> Vec<String> {
        let inode = format!(":{} ", fs::metadata(path).expect("a file").ino());
        let table = fs::read_to_string("/proc/locks").expect("the kernel's table");
        // Without the line numbers, which move.
        let locks = table.lines().filter(|line| line.contains("POSIX") && line.contains(&inode));
        let mut locks: Vec<_> =
            locks.map(|line| line.split_once(' ').expect("numbered").1.trim().to_owned()).collect();
        locks.sort();
        locks
    }

    #[test]
    fn closed_log_descriptor_releases_no_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.db");
        let store = Store::open(&path, 1).expect("a new database");
        let database = locks_on(&path);
        let shared = locks_on(&dir.path().join("config.db-shm"));
        assert!(!database.is_empty() && !shared.is_empty(), "SQLite holds locks on both");
        assert!(locks_on(&dir.path().join("config.db-wal")).is_empty(), "and none on the log");
        let mut sync = store.log_sync().expect("the log");
        sync.run().expect("synced");
        drop(sync);
        assert_eq!(locks_on(&path), database);
        assert_eq!(locks_on(&dir.path().join("config.db-shm")), shared);
        // A descriptor of the database itself would release them: the rule is not an empty one.
        drop(fs::File::open(&path).expect("the database"));
        assert!(locks_on(&path).is_empty());
    }

    #[test]
    fn sync_of_removed_log_fails() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("config.db"), 1).expect("a new database");
        let mut sync = store.log_sync().expect("the log");
        sync.run().expect("synced");
        fs::remove_file(dir.path().join("config.db-wal")).expect("removed");
        assert_eq!(sync.run().map_err(|error| error.fault), Err(Fault::LogRemoved));
    }
}
