//! A database that a tool has for itself while it changes it: nobody else has it open, or can open it.
//! Nothing in the file changes before a transaction is committed.

use super::connection::{self, beside};
use super::reader::{self, Access, Reader};
use super::{Action, DELETE, Fault, STORE, StoreError, checkpoint, rows};
use crate::memdb::{Inode, Row};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file and its log, opened to be copied. Such handles must be opened before the database and closed
/// after it: the system takes all locks of a process off a file when one handle of it is closed.
#[derive(Debug)]
pub struct Handles {
    file: File,
    log: Option<File>,
}

impl Handles {
    /// Opens what is to be copied.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || -> Result<Self, Fault> {
            reader::check_header(path)?;
            let log = match File::open(beside(path, "-wal")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => Some(other?),
            };
            Ok(Self { file: File::open(path)?, log })
        };
        open().map_err(|fault| StoreError::new(path, Action::Open, fault))
    }

    /// Copies both byte by byte, to the disk, to names that must be free. After a failure nothing is left.
    pub fn copy_to(&self, copy: &Path) -> Result<(), StoreError> {
        let log = beside(copy, "-wal");
        let all = || -> io::Result<()> {
            // It would be taken for the log of the copy.
            if log.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            copy_to_new(&self.file, copy)?;
            match &self.log {
                Some(from) if from.metadata()?.len() > 0 => copy_to_new(from, &log).inspect_err(|_| {
                    let _ = fs::remove_file(copy);
                }),
                _ => Ok(()),
            }
        };
        all().map_err(|error| {
            let fault = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    Fault::Other("there is such a file, or a log of one, already; name another".to_owned())
                }
                _ => error.into(),
            };
            StoreError::new(copy, Action::Write, fault)
        })
    }
}

impl Handles {
    /// Takes back a copy that [`Handles::copy_to`] made.
    pub fn remove_copy(copy: &Path) {
        // What stays is only in the way.
        let _ = fs::remove_file(copy);
        let _ = fs::remove_file(beside(copy, "-wal"));
    }
}

fn copy_to_new(mut from: &File, path: &Path) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).create_new(true).mode(connection::MODE).open(path)?;
    io::copy(&mut from, &mut to).and_then(|_| to.sync_all()).inspect_err(|_| {
        // It is this call's own, and holds only a part.
        let _ = fs::remove_file(path);
    })
}

/// A database that nobody else has.
#[derive(Debug)]
pub struct Exclusive {
    reader: Reader,
    had_log: bool,
}

impl Exclusive {
    /// Opens an existing database, the path of which has no links. Fails at once when anybody has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || -> Result<Self, Fault> {
            reader::check_header(path)?;
            let had_log = reader::log_bytes(path)? > 0;
            let (connection, is_cut) = connection::connect_alone(path)?;
            let reader =
                Reader { path: path.to_owned(), connection, access: Access::Alone, is_cut, seen: None };
            let exclusive = Self { reader, had_log };
            reader::check_schema(&exclusive.reader.connection)?;
            Ok(exclusive)
        };
        open().map_err(|fault| StoreError::new(path, Action::Open, fault))
    }

    /// To read it.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Deletes and stores rows in one transaction. It is committed only if `is_good` says so of all rows as
    /// they are then; else nothing changes, and the result is false.
    pub fn change(
        &mut self,
        deleted: &[Inode],
        stored: &[Row],
        is_good: impl FnOnce(&Reader) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let written = self.write(deleted, stored).map_err(|error| self.fail(error.into()));
        let verdict = written.and_then(|()| is_good(&self.reader)).and_then(|good| {
            if good {
                self.run("COMMIT").map_err(|error| self.fail(error.into()))?;
            }
            Ok(good)
        });
        if !self.reader.connection.is_autocommit() {
            // What cannot be rolled back now is when the file is opened next.
            let _ = self.run("ROLLBACK");
        }
        verdict
    }

    fn write(&self, deleted: &[Inode], stored: &[Row]) -> Result<(), rusqlite::Error> {
        self.run("BEGIN IMMEDIATE")?;
        let mut delete = self.reader.connection.prepare(DELETE)?;
        for &inode in deleted {
            // A negative number is known by its bits.
            delete.execute([inode as i64])?;
        }
        let mut store = self.reader.connection.prepare(STORE)?;
        for row in stored {
            rows::bind(&mut store, row)?;
            store.raw_execute()?;
        }
        Ok(())
    }

    /// Writes all rows to a new file, with pages of this size and nothing in between. It must not exist, or
    /// be empty.
    pub fn write_compact(&self, path: &Path, page_size: u32) -> Result<(), StoreError> {
        let write = || -> Result<(), rusqlite::Error> {
            self.reader.connection.execute_batch(&format!("PRAGMA page_size = {page_size}"))?;
            let path = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
            self.reader.connection.execute("VACUUM INTO ?1", [path]).map(|_| ())
        };
        write().map_err(|error| StoreError::new(path, Action::Write, error.into()))
    }

    /// Moves what was changed from the log into the file, and lets others in.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.had_log = false;
        checkpoint::truncate(&self.reader.connection)
            .map_err(|fault| StoreError::new(&self.reader.path, Action::Close, fault))
    }

    fn run(&self, statement: &str) -> Result<(), rusqlite::Error> {
        self.reader.connection.execute_batch(statement)
    }

    fn fail(&self, fault: Fault) -> StoreError {
        StoreError::new(&self.reader.path, Action::Write, fault)
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // A log that was there stays as it is. One of our own goes with the connection; if that fails, it
        // holds nothing.
        let keep = self.had_log;
        let _ = self.reader.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
    }
}
