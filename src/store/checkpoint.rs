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

    /// Moves the log into the file as far as no reader needs it.
    pub fn run(&self) -> Result<(), StoreError> {
        passive(&self.connection).map_err(|fault| StoreError::new(&self.path, Action::Checkpoint, fault))
    }
}

/// Waits for nobody. Whether all could be moved does not matter: the next one moves the rest.
pub(super) fn passive(connection: &Connection) -> Result<(), Fault> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}

/// Moves all and empties the log.
pub(super) fn truncate(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(CLOSE_TIMEOUT)?;
    let is_busy = |row: &rusqlite::Row<'_>| row.get::<_, bool>(0);
    if connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], is_busy)? {
        return Err(Fault::Locked);
    }
    Ok(())
}
