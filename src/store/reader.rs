//! Reading a database that may be in use, or damaged, without leaving a trace: nothing is written to
//! the file, to its log or beside it, and no row is refused. A daemon that starts waits only for the reader of
//! a log that a crash has left.
//!
//! It never decides what rows mean; see [`crate::memdb::MemDb::audit`].

use super::connection::{self, beside};
use super::rows::{self, LooseRow};
use super::site::Site;
use super::snapshot::{self, Snapshot};
use super::{Action, Fault, StoreError, salvage};
use crate::dir::{self, Entry};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The columns of the table, in order.
const COLUMNS: &str = "inode, parent, version, writer, mtime, type, name, data";

/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Problems that SQLite lists before it gives up.
const PROBLEMS_MAX: u32 = 1000;

/// A database opened for reading only.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) site: Site,
    /// The copy that SQLite reads, of a file in a directory that other users can write to.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) access: Access,
    /// The file is shorter than it says.
    pub(super) is_cut: bool,
    /// Facts about a file that is read without locks, to detect a change.
    pub(super) seen: Option<Entry>,
}

/// How the file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody has it open and there is no log: the file alone, without locks.
    FileOnly,
    /// What is in a log that was left behind belongs to it; nobody else gets in meanwhile.
    LeftLog,
    /// Beside whoever has it open.
    Shared,
    /// See [`super::Exclusive`].
    Alone,
}

/// What SQLite says about the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the write-ahead log beside it.
    pub log_bytes: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Pages in the file.
    pub pages: u64,
    /// Pages in the file that hold nothing.
    pub free_pages: u64,
    /// `wal` for every database that a daemon has opened.
    pub journal_mode: String,
    /// Whether another program has it open.
    pub in_use: bool,
}

impl Reader {
    /// Opens an existing database, in use or not.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // SQLite looks for the log beside the file, not beside a link to it.
        let site = Site::of(path).map_err(|error| StoreError::new(path, Action::Open, error.into()))?;
        let path = site.path().to_owned();
        Self::at(site).map_err(|fault| StoreError::new(&path, Action::Open, fault))
    }

    fn at(site: Site) -> Result<Self, Fault> {
        let seen = site.entry()?;
        check(&site)?;
        let reader = if site.dir().is_private() {
            let (connection, is_cut, access) = open(&site)?;
            let seen = seen.filter(|_| access == Access::FileOnly);
            Self { connection, site, snapshot: None, access, is_cut, seen }
        } else {
            let snapshot = Snapshot::shared(&site)?;
            let (connection, is_cut) = match snapshot.had_log() {
                true => left_log(&snapshot.database())?.ok_or(Fault::Locked)?,
                false => file_only(&snapshot.database())?,
            };
            let access = if snapshot.in_use { Access::Shared } else { Access::LeftLog };
            Self { connection, site, snapshot: Some(snapshot), access, is_cut, seen: None }
        };
        check_schema(&reader.connection)?;
        Ok(reader)
    }

    /// The file, without links.
    pub fn path(&self) -> &Path {
        self.site.path()
    }

    /// Path of the file that SQLite reads.
    pub(super) fn read_path(&self) -> PathBuf {
        self.snapshot.as_ref().map_or_else(|| self.path().to_owned(), Snapshot::database)
    }

    /// Hands every row to `take`, by rising inode.
    pub fn rows(&self, take: impl FnMut(LooseRow)) -> Result<(), StoreError> {
        rows::load_loose(&self.connection, rows::LOAD, &[], take).map_err(|fault| self.fail(fault))
    }

    /// Hands every row that can be read to `take`. When those are not all, the result is what SQLite says
    /// of the rest, and the rows come in any order.
    pub fn readable_rows(&self, take: impl FnMut(LooseRow)) -> Result<Option<String>, StoreError> {
        let damage = salvage::read(&self.connection, take).map_err(|fault| self.fail(fault))?;
        self.check_unchanged()?;
        Ok(damage.or_else(|| self.is_cut.then(|| "the file was cut off".to_owned())))
    }

    /// Fails if a file that is read without locks has changed.
    pub(super) fn check_unchanged(&self) -> Result<(), StoreError> {
        let Some(seen) = self.seen else { return Ok(()) };
        if self.site.entry().map_err(|error| self.fail(error.into()))? != Some(seen) {
            let text = "a daemon started on it while it was read; try again";
            return Err(self.fail(Fault::Other(text.to_owned())));
        }
        Ok(())
    }

    /// What SQLite finds wrong with the file; nothing for a sound one.
    pub fn problems(&self) -> Result<Vec<String>, StoreError> {
        problems(&self.connection).map_err(|fault| self.fail(fault))
    }

    /// What SQLite says about the file.
    pub fn facts(&self) -> Result<FileFacts, StoreError> {
        let number = |pragma: &str| {
            let value = self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
            value.map(|value| u64::try_from(value).unwrap_or_default())
        };
        let facts = || -> Result<FileFacts, Fault> {
            let path = self.read_path();
            Ok(FileFacts {
                bytes: fs::metadata(&path)?.len(),
                log_bytes: size_of_file(&beside(&path, "-wal"))?,
                page_size: number("PRAGMA page_size")?,
                pages: number("PRAGMA page_count")?,
                free_pages: number("PRAGMA freelist_count")?,
                journal_mode: journal_mode(&path)?,
                in_use: self.access == Access::Shared,
            })
        };
        facts().map_err(|fault| self.fail(fault))
    }

    fn fail(&self, fault: Fault) -> StoreError {
        StoreError::new(self.path(), Action::Read, fault)
    }
}

/// With whether the file was cut off.
fn open(site: &Site) -> Result<(Connection, bool, Access), Fault> {
    let path = site.path();
    let with = |(connection, is_cut), access| Ok((connection, is_cut, access));
    if !may_have_log(site)? {
        return with(file_only(path)?, Access::FileOnly);
    }
    match left_log(path) {
        Ok(Some(alone)) => with(alone, Access::LeftLog),
        Ok(None) => with(shared(path)?, Access::Shared),
        // Who may not write may still read what others have open.
        Err(Fault::ReadOnly | Fault::NoPermission) => with(shared(path)?, Access::Shared),
        Err(fault) => Err(fault),
    }
}

/// Whether the log has to be read with the file. SQLite creates a missing log even for a reader, and leaves it
/// behind. So a file without a log is read alone, unless the log was deleted under a program that uses it.
fn may_have_log(site: &Site) -> Result<bool, Fault> {
    let (log, has_index) = (site.beside("-wal")?, site.beside("-shm")?.is_some());
    match log {
        Some(log) => Ok(log.bytes > 0 || has_index),
        None if !has_index || !snapshot::is_in_use(site)? => Ok(false),
        // A program that opens the file creates the log first.
        None if site.beside("-wal")?.is_some() => Ok(true),
        None => Err(Fault::LogMissing { log: beside(site.path(), "-wal") }),
    }
}

/// Checks the file and the files beside it before SQLite does, whose errors come late and are vague.
pub(super) fn check(site: &Site) -> Result<Metadata, Fault> {
    let mut file = site.open(dir::Access::Read)?;
    let metadata = file.metadata()?;
    if metadata.len() == 0 {
        return Err(Fault::Empty);
    }
    let mut magic = [0; MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *MAGIC => {}
        Ok(()) => return Err(Fault::NotADatabase),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Fault::NotADatabase),
        Err(error) => return Err(error.into()),
    }
    check_beside(site)?;
    Ok(metadata)
}

/// Checks the files beside a database.
pub(super) fn check_beside(site: &Site) -> Result<(), Fault> {
    site.check_beside()?;
    if site.bytes_beside("-journal")? > 0 {
        return Err(Fault::HotJournal { journal: beside(site.path(), "-journal") });
    }
    Ok(())
}

/// Bytes 18 and 19 of the file are 2 when it has a write-ahead log.
fn journal_mode(path: &Path) -> Result<String, Fault> {
    let mut head = [0; 20];
    File::open(path)?.read_exact(&mut head)?;
    Ok(if head[18] == 2 { "wal" } else { "delete" }.to_owned())
}

fn size_of_file(path: &Path) -> Result<u64, Fault> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Reads the file as if on a medium that cannot change: SQLite makes nothing beside it.
fn file_only(path: &Path) -> Result<(Connection, bool), Fault> {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | connection::FLAGS;
    prepared(Connection::open_with_flags(uri, flags)?)
}

/// Reads the file together with a log that a crash has left; None when somebody has it open.
fn left_log(path: &Path) -> Result<Option<(Connection, bool)>, Fault> {
    match connection::connect_alone(path) {
        Ok(alone) => {
            alone.0.execute_batch("PRAGMA query_only = ON")?;
            Ok(Some(alone))
        }
        Err(Fault::Locked) => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn shared(path: &Path) -> Result<(Connection, bool), Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | connection::FLAGS;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(super::BUSY_TIMEOUT)?;
    prepared(connection)
}

fn prepared(connection: Connection) -> Result<(Connection, bool), Fault> {
    let is_cut = connection::take_as_it_is(&connection)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok((connection, is_cut))
}

/// Whether the table is the one that this program knows.
pub(super) fn check_schema(connection: &Connection) -> Result<(), Fault> {
    let kind = "SELECT type FROM sqlite_master WHERE name = 'tree'";
    match connection.query_row(kind, [], |row| row.get::<_, String>(0)) {
        Ok(kind) if kind == "table" => {}
        Ok(kind) => return Err(Fault::NotATable { kind }),
        Err(rusqlite::Error::QueryReturnedNoRows) => return Err(Fault::NoTable),
        Err(error) => return Err(error.into()),
    }
    // Its number is what a row is known by.
    let names = "SELECT iif((name = 'inode') = (pk > 0), name, name || ' (not the key)') FROM pragma_table_info('tree')";
    let mut columns = connection.prepare(names)?;
    let columns = columns.query_map([], |row| row.get::<_, String>(0))?;
    let columns = columns.collect::<Result<Vec<_>, _>>()?.join(", ");
    if columns == COLUMNS { Ok(()) } else { Err(Fault::Schema { columns }) }
}

pub(super) fn problems(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({PROBLEMS_MAX})"))?;
    let found = check.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found == ["ok"] => Ok(Vec::new()),
        Ok(found) => Ok(found),
        // So damaged that the check itself does not get through.
        Err(rusqlite::Error::SqliteFailure(cause, text)) if cause.code == ErrorCode::DatabaseCorrupt => {
            Ok(vec![text.unwrap_or_else(|| cause.to_string())])
        }
        Err(error) => Err(error.into()),
    }
}
