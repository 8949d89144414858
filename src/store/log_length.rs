//! Number of bytes of the write-ahead log that are in use. The file can be longer, because a new log overwrites
//! the old one from the start.

use super::Fault;
use rusqlite::Connection;
use rusqlite::hooks::Wal;
use std::cell::Cell;
use std::os::raw::c_int;

/// Header of the log, and of each page in it.
const HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

thread_local! {
    /// Pages in the log after the last commit of this thread. SQLite's hook has no other place to put it.
    static PAGES: Cell<u64> = const { Cell::new(0) };
}

/// Length of the log of one connection.
#[derive(Debug)]
pub(super) struct LogLength {
    page_bytes: u64,
    pages: Cell<u64>,
}

impl LogLength {
    /// Installs SQLite's WAL hook on the connection, to count its pages. Automatic checkpoints use the same hook, so
    /// they must be off.
    pub(super) fn of(connection: &Connection) -> Result<Self, Fault> {
        let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        connection.wal_hook(Some(report));
        Ok(Self { page_bytes, pages: Cell::new(0) })
    }

    /// Must be called after each commit, by the thread that made it.
    pub(super) fn on_commit(&self) {
        self.pages.set(PAGES.get());
    }

    /// Bytes in use; 0 before the first commit.
    pub(super) fn bytes(&self) -> u64 {
        match self.pages.get() {
            0 => 0,
            pages => HEADER_BYTES + pages * (FRAME_HEADER_BYTES + self.page_bytes),
        }
    }
}

/// Called by SQLite after a commit, in the thread that made it.
fn report(_: &Wal, pages: c_int) -> rusqlite::Result<()> {
    PAGES.set(u64::try_from(pages).unwrap_or(0));
    Ok(())
}
