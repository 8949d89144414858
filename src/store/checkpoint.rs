//! Checkpoints of the WAL. [`crate::engine`] decides when they run.

use super::{Action, BUSY_TIMEOUT, Fault, StoreError, connection};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the last checkpoint waits for other programs that read the file. Short, as stopping
/// the daemon waits for it; what is in the log is not lost.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection for checkpoints only, so that their syncs run beside the commits.
#[derive(Debug)]
pub struct Checkpointer {
    path: PathBuf,
    connection: Connection,
}

impl Checkpointer {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = connection::connect(path, BUSY_TIMEOUT)
            .map_err(|fault| StoreError::new(path, Action::Open, fault))?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// Makes a passive checkpoint: copies the frames that no reader needs, beside commits, and never waits.
    pub fn run(&self) -> Result<(), StoreError> {
        let run = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        run.map_err(|error| StoreError::new(&self.path, Action::Checkpoint, error.into()))
    }
}

/// Outcome of a restart of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// No frame of the log is needed any more.
    Done,
    /// Another program reads or writes the database.
    Blocked,
}

/// Treatment of the log's file by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFile {
    /// It keeps its blocks, and the next commits overwrite them. To sync it then needs no transaction of the file
    /// system, which takes several times as long.
    Keep,
    /// It is truncated.
    Truncate,
}

/// Copies all frames of the log into the file, and lets the next commit begin a new log. Other programs are waited
/// for as long as `timeout`, which remains the busy timeout of the connection.
pub(super) fn restart(connection: &Connection, file: LogFile, timeout: Duration) -> Result<Restart, Fault> {
    connection.busy_timeout(timeout)?;
    let is_busy = |row: &rusqlite::Row<'_>| row.get::<_, bool>(0);
    let statement = match file {
        LogFile::Keep => "PRAGMA wal_checkpoint(RESTART)",
        LogFile::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let is_busy = connection.query_row(statement, [], is_busy)?;
    Ok(if is_busy { Restart::Blocked } else { Restart::Done })
}

/// Restarts the log before its database is closed. Fails if another program prevents that.
pub(super) fn restart_for_good(connection: &Connection) -> Result<(), Fault> {
    match restart(connection, LogFile::Truncate, CLOSE_TIMEOUT)? {
        Restart::Done => Ok(()),
        Restart::Blocked => Err(Fault::Locked),
    }
}
