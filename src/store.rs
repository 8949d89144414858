//! The database file: one SQLite table, `tree`, one row per entry. The only user of rusqlite.
//!
//! It opens or makes the file, reads its rows, stores batches of changed rows each in one
//! transaction, and moves SQLite's write-ahead log back into the file. It knows nothing of what
//! rows mean beyond their types (that is [`crate::memdb`]) and starts no thread (that is
//! [`crate::engine`]). For the stock daemon the file contains nothing but its table.

mod checkpoint;
mod connection;
mod copy;
mod error;
mod exclusive;
mod file_watch;
mod log_blocker;
mod log_length;
mod log_sync;
mod log_tail;
mod reader;
mod rescue;
mod room;
mod rows;
mod salvage;
mod site;
mod snapshot;

pub use checkpoint::{Checkpointer, LogFile, Restart};
pub use connection::PAGE_BYTES;
pub use error::{Action, Fault, RowFault, StoreError};
pub use exclusive::{Backup, Exclusive, Handles};
pub use file_watch::{FileWatch, Loss};
pub use log_blocker::LogBlocker;
pub use log_sync::LogSync;
pub use reader::{FileFacts, Reader};
pub use rescue::{Rescued, rescue};
pub use room::Room;
pub use rows::LooseRow;
pub use site::Site;
pub use snapshot::{Log, is_in_use, work_on};

use crate::clock::UnixTime;
use crate::dir::Access;
use crate::memdb::{Batch, Row};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a lock that another program holds on the file is waited for.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages of the largest file twice over: when it is stored anew they are compared with the old ones, so that
/// only those that differ are written, and need not be read from the disk for that each time. Not before
/// everything was loaded, which would only fill it.
const COMMIT_CACHE: &str = "PRAGMA cache_size = -4096";

const DELETE: &str = "DELETE FROM tree WHERE inode = ?1";

/// Not `REPLACE`: an update in place lets SQLite write only those pages of a big file that are no
/// longer the same, as long as its size is.
const STORE: &str = "INSERT INTO tree (inode, parent, version, writer, mtime, type, name, data)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
     ON CONFLICT (inode) DO UPDATE SET parent = ?2, version = ?3, writer = ?4, mtime = ?5,
     type = ?6, name = ?7, data = ?8";

/// An open database file.
#[derive(Debug)]
pub struct Store {
    /// Path as it was given.
    given: PathBuf,
    site: Site,
    connection: Connection,
    busy_timeout: Duration,
    created: bool,
    log: log_length::LogLength,
}

impl Store {
    /// Opens the database at `path`; makes it, with version 1 and time `now`, where there is none.
    pub fn open(path: &Path, now: UnixTime) -> Result<Self, StoreError> {
        Self::open_with_timeout(path, now, BUSY_TIMEOUT)
    }

    /// [`Store::open`], waiting for a lock of another program only for `busy_timeout`, then and later.
    pub fn open_with_timeout(path: &Path, now: UnixTime, busy_timeout: Duration) -> Result<Self, StoreError> {
        let open = || -> Result<Self, Fault> {
            let site = Site::of(path)?;
            let (connection, created) = connection::open_or_create(&site, now, busy_timeout)?;
            let log = log_length::LogLength::of(&connection)?;
            Ok(Self { given: path.to_owned(), site, connection, busy_timeout, created, log })
        };
        open().map_err(|fault| StoreError::new(path, Action::Open, fault))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.site.path()
    }

    /// Whether the database was made by this open.
    pub fn is_created(&self) -> bool {
        self.created
    }

    /// Hands every row, in the order of inodes, to `build`. A row that cannot be read ends the rows
    /// early, and then its error is returned, whatever `build` made of the rows before it.
    pub fn load<T>(&self, build: impl FnOnce(&mut dyn Iterator<Item = Row>) -> T) -> Result<T, StoreError> {
        let loaded = rows::load(&self.connection, build);
        let cached = self.connection.execute_batch(COMMIT_CACHE).map_err(Fault::from);
        loaded.and_then(|built| cached.map(|()| built)).map_err(|fault| self.error(Action::Read, fault))
    }

    /// Stores a batch in one transaction: all of it, or nothing.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.transaction(batch).map_err(|error| {
            // SQLite itself rolls back after some errors; then there is nothing left to do.
            if !self.connection.is_autocommit() {
                if let Err(error) = self.run("ROLLBACK") {
                    log::error!(target: "database", "rollback failed: {error}");
                }
            }
            self.error(Action::Write, Fault::from(error))
        })
    }

    /// [`Store::commit`], waiting for a lock of another program only for `busy_timeout`.
    pub fn commit_within(&mut self, batch: &Batch, busy_timeout: Duration) -> Result<(), StoreError> {
        let wait = |store: &Self, timeout: Duration| {
            let set = store.connection.busy_timeout(timeout.min(store.busy_timeout));
            set.map_err(|error| store.error(Action::Write, Fault::from(error)))
        };
        wait(self, busy_timeout)?;
        let committed = self.commit(batch);
        wait(self, self.busy_timeout)?;
        committed
    }

    fn transaction(&self, batch: &Batch) -> Result<(), rusqlite::Error> {
        self.run("BEGIN IMMEDIATE")?;
        let mut delete = self.connection.prepare_cached(DELETE)?;
        for &inode in &batch.deleted {
            delete.execute([rows::integer(inode)?])?;
        }
        let mut store = self.connection.prepare_cached(STORE)?;
        for row in &batch.rows {
            rows::bind(&mut store, row)?;
            store.raw_execute()?;
        }
        self.run("COMMIT")?;
        self.log.on_commit();
        Ok(())
    }

    fn run(&self, statement: &str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(statement)?.execute([]).map(|_| ())
    }

    /// Bytes of the write-ahead log that are in use after the last commit. The file may be longer.
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Identity of its files, to notice when they are lost. Only after [`Store::load`]: then the log exists.
    pub fn file_watch(&self) -> Result<FileWatch, StoreError> {
        FileWatch::new(&self.given, &self.site).map_err(|error| self.error(Action::Open, error.into()))
    }

    /// Moves the log into the file and empties it. For a lost file: its log may still be at the path, and would be
    /// applied to another file that is there.
    pub fn empty_log(&self) -> Result<(), StoreError> {
        let emptied = checkpoint::restart_for_good(&self.connection);
        let restored = self.connection.busy_timeout(self.busy_timeout).map_err(Fault::from);
        emptied.and(restored).map_err(|fault| self.error(Action::Checkpoint, fault))
    }

    /// To sync the log, beside readers and writers.
    pub fn log_sync(&self) -> Result<LogSync, StoreError> {
        LogSync::open(&self.site)
    }

    /// Copies all frames of the log into the file and syncs both, so that the next commit begins a new log. If
    /// another program prevents that, copies as many frames as possible and returns immediately.
    pub fn restart_log(&self, file: LogFile) -> Result<Restart, StoreError> {
        let restart = || {
            let restarted = checkpoint::restart(&self.connection, file, Duration::ZERO);
            self.connection.busy_timeout(self.busy_timeout)?;
            restarted
        };
        restart().map_err(|fault| self.error(Action::Checkpoint, fault))
    }

    /// Cuts off what a failed commit left at the end of the log.
    pub fn cut_log(&self) -> Result<(), StoreError> {
        let cut = || -> Result<(), Fault> {
            // Meanwhile no other program adds a transaction.
            self.run("BEGIN IMMEDIATE")?;
            let log = self.site.dir().open_file(&self.site.name_beside("-wal"), Access::ReadWrite);
            let cut = log.and_then(|log| log.set_len(log_tail::committed_bytes(&log)?));
            self.run("ROLLBACK")?;
            Ok(cut?)
        };
        cut().map_err(|fault| self.error(Action::Write, fault))
    }

    /// The program that prevents [`Store::restart_log`], for the log.
    pub fn log_blocker(&self) -> LogBlocker {
        log_blocker::find(&self.site)
    }

    /// Free bytes of the file system. 0 if unknown.
    pub fn free_bytes(&self) -> u64 {
        self.site.dir().free_bytes().unwrap_or(0)
    }

    /// A second connection, for checkpoints beside commits.
    pub fn checkpointer(&self) -> Result<Checkpointer, StoreError> {
        Checkpointer::open(self.path())
    }

    /// Moves the whole log into the file and closes it; no `-wal` or `-shm` is left unless another
    /// program has the file open.
    pub fn close(self) -> Result<(), StoreError> {
        let moved = checkpoint::restart_for_good(&self.connection);
        let closed = self.connection.close().map_err(|(_, error)| Fault::from(error));
        let fail = |fault| StoreError::new(self.site.path(), Action::Close, fault);
        moved.and(closed).map_err(fail)
    }

    /// Closes a file that is lost. Files at its path stay, even if they are named like its log: they may belong to
    /// another database.
    pub fn close_lost(self) -> Result<(), StoreError> {
        let kept = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        let emptied = self.empty_log();
        let fail = |fault| StoreError::new(self.site.path(), Action::Close, fault);
        let closed = self.connection.close().map_err(|(_, error)| fail(error.into()));
        kept.map_err(|error| fail(error.into())).and(emptied).and(closed)
    }

    fn error(&self, action: Action, fault: Fault) -> StoreError {
        StoreError::new(self.path(), action, fault)
    }
}
