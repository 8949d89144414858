//! Copy of a database by SQLite's backup interface: one state of the file and its log, also while a daemon changes it.

use super::{Action, Fault, Reader, StoreError};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// Pages in one step, between two reports of progress.
const PAGES: i32 = 256;

/// Wait for a lock that another program holds on the database.
const RETRY: Duration = Duration::from_millis(50);

impl Reader {
    /// Copies the database with its log to `path`, an empty or missing file in a private directory. `progress` is
    /// called with the number of copied and of all pages.
    pub fn copy_to(&self, path: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), StoreError> {
        let mut copy = || -> Result<(), Fault> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
            let mut to = Connection::open_with_flags(path, flags)?;
            // A change between two steps would start the copy again.
            self.connection.execute_batch("BEGIN")?;
            self.connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
            let copied = {
                let backup = Backup::new(&self.connection, &mut to)?;
                loop {
                    let step = backup.step(PAGES);
                    let pages = backup.progress();
                    let (all, left) = (pages.pagecount, pages.remaining);
                    progress(u64::try_from(all - left).unwrap_or(0), u64::try_from(all).unwrap_or(0));
                    match step {
                        Ok(StepResult::Done) => break Ok(()),
                        Ok(StepResult::More) => {}
                        Ok(_) => std::thread::sleep(RETRY),
                        Err(error) => break Err(error),
                    }
                }
            };
            self.connection.execute_batch("COMMIT")?;
            Ok(copied?)
        };
        copy().map_err(|fault| StoreError::new(path, Action::Write, fault))?;
        self.check_unchanged()
    }
}
