//! A database that a tool has for itself while it changes it: nobody else has it open, or can open it.
//! Nothing in the file changes before a transaction is committed.

use super::connection;
use super::reader::{self, Access, Reader};
use super::site::Site;
use super::snapshot::{Log, Snapshot};
use super::{Action, DELETE, Fault, STORE, StoreError, checkpoint, rows};
use crate::dir::temporary::{self, Removal, Temporary};
use crate::dir::{self, Belongs, Dir};
use crate::memdb::{Inode, Row};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The file and its log, opened to be copied. Such handles must be opened before the database and closed
/// after it: the system takes all locks of a process off a file when one handle of it is closed.
#[derive(Debug)]
pub struct Handles {
    file: File,
    log: Option<File>,
}

/// Copy of a database and its log.
#[derive(Debug)]
pub struct Backup {
    dir: Dir,
    names: Vec<OsString>,
    /// Registrations of its files, until it is complete.
    incomplete: Vec<Temporary>,
}

impl Handles {
    /// Opens what is to be copied.
    pub fn open(site: &Site) -> Result<Self, StoreError> {
        let open = || -> Result<Self, Fault> {
            reader::check(site)?;
            let log = match site.dir().open_file(&site.name_beside("-wal"), dir::Access::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => Some(other?),
            };
            Ok(Self { file: site.open(dir::Access::Read)?, log })
        };
        open().map_err(|fault| StoreError::new(site.path(), Action::Open, fault))
    }

    /// Copies both byte by byte to `name` in a directory, and syncs them. That name and the name of its log
    /// must be free. After a failure no copy is left.
    pub fn copy_to(&self, dir: &Dir, name: &OsStr) -> Result<Backup, StoreError> {
        let mut log = name.to_owned();
        log.push("-wal");
        let all = || -> io::Result<Backup> {
            // It would be taken for the log of the copy.
            if dir.entry(&log)?.is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let (dir, names, incomplete) = (dir.try_clone()?, Vec::new(), Vec::new());
            let mut backup = Backup { dir, names, incomplete };
            let mut copy = || -> io::Result<()> {
                backup.add(&self.file, name)?;
                match &self.log {
                    Some(from) if from.metadata()?.len() > 0 => backup.add(from, &log),
                    _ => Ok(()),
                }
            };
            match copy() {
                Ok(()) => Ok(backup.complete()),
                Err(error) => {
                    backup.remove();
                    Err(error)
                }
            }
        };
        all().map_err(|error| {
            let fault = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    Fault::Other("there is such a file, or a log of one, already; name another".to_owned())
                }
                _ => error.into(),
            };
            StoreError::new(&dir.path().join(name), Action::Write, fault)
        })
    }
}

impl Backup {
    fn add(&mut self, mut from: &File, name: &OsStr) -> io::Result<()> {
        let removal = |_: &File| -> io::Result<Removal> {
            let (dir, name) = (self.dir.try_clone()?, name.to_owned());
            Ok(Box::new(move || dir.remove(&name).map(drop)))
        };
        let made = temporary::make(|| self.dir.make_file(name, connection::MODE), removal)?;
        let (mut to, temporary) = made;
        self.incomplete.push(temporary);
        self.names.push(name.to_owned());
        io::copy(&mut from, &mut to)?;
        to.sync_all()
    }

    fn complete(mut self) -> Self {
        self.incomplete.clear();
        self
    }

    /// Removes the copy.
    pub fn remove(&self) {
        for name in &self.names {
            // A leftover only takes up space.
            let _ = self.dir.remove(name);
        }
    }
}

/// A database that nobody else has.
#[derive(Debug)]
pub struct Exclusive {
    reader: Reader,
    had_log: bool,
    is_changed: bool,
    belongs: Belongs,
}

impl Exclusive {
    /// Opens an existing database. Fails immediately when another program has it open.
    pub fn open(site: &Site) -> Result<Self, StoreError> {
        let open = || -> Result<Self, Fault> {
            let belongs = Belongs::as_file(&reader::check(site)?);
            let snapshot = match site.dir().is_private() {
                true => None,
                false => Some(Snapshot::exclusive(site)?),
            };
            let had_log = site.bytes_beside("-wal")? > 0;
            let path = snapshot.as_ref().map_or_else(|| site.path().to_owned(), Snapshot::database);
            let (connection, is_cut) = connection::connect_alone(&path)?;
            let (site, access) = (site.clone(), Access::Alone);
            let reader = Reader { connection, site, snapshot, access, is_cut, seen: None };
            let exclusive = Self { reader, had_log, is_changed: false, belongs };
            reader::check_schema(&exclusive.reader.connection)?;
            Ok(exclusive)
        };
        open().map_err(|fault| StoreError::new(site.path(), Action::Open, fault))
    }

    /// To read it.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether changes are made to a copy, by which [`Exclusive::close`] replaces the file.
    pub fn is_snapshot(&self) -> bool {
        self.reader.snapshot.is_some()
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
        self.is_changed = matches!(verdict, Ok(true));
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
        let close = || -> Result<(), Fault> {
            checkpoint::restart_for_good(&self.reader.connection)?;
            match &self.reader.snapshot {
                Some(snapshot) if self.is_changed || snapshot.had_log() => {
                    snapshot.replace(&self.reader.site, &snapshot.database(), Log::Merge)
                }
                _ => Ok(()),
            }
        };
        close().map_err(|fault| StoreError::new(self.reader.path(), Action::Close, fault))
    }

    /// Replaces the file by a copy of `new`, with the same owner and mode.
    pub fn replace(self, new: &Path, log: Log) -> Result<(), StoreError> {
        let (site, belongs) = (self.reader.site.clone(), self.belongs);
        let replaced = match (&self.reader.snapshot, log) {
            (Some(snapshot), _) => snapshot.replace(&site, new, log),
            (None, Log::Merge) => {
                self.close()?;
                site.put(new, belongs).map_err(Fault::from)
            }
            (None, Log::Discard) => {
                drop(self);
                let removed = site.dir().remove(&site.name_beside("-wal"));
                removed.and_then(|_| site.put(new, belongs)).map_err(Fault::from)
            }
        };
        replaced.map_err(|fault| StoreError::new(site.path(), Action::Write, fault))
    }

    fn run(&self, statement: &str) -> Result<(), rusqlite::Error> {
        self.reader.connection.execute_batch(statement)
    }

    fn fail(&self, fault: Fault) -> StoreError {
        StoreError::new(self.reader.path(), Action::Write, fault)
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
