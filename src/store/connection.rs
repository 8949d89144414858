//! Opening the file: who may read it, how SQLite is to treat it, and what a new one holds.
//!
//! It never reads or writes entries.

use super::Fault;
use super::site::Site;
use crate::clock::{UnixTime, utc_for_name};
use crate::dir::{Access, Kind, Refusal};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const MODE: u32 = 0o600;

/// Each connection is used by one thread at a time, and [`Site`] has resolved symbolic links in its path.
pub(super) const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// Letter by letter the table of the stock daemon: SQLite keeps this text in the file.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS tree (  inode INTEGER PRIMARY KEY NOT NULL,  \
    parent INTEGER NOT NULL CHECK(typeof(parent)=='integer'),  \
    version INTEGER NOT NULL CHECK(typeof(version)=='integer'),  \
    writer INTEGER NOT NULL CHECK(typeof(writer)=='integer'),  \
    mtime INTEGER NOT NULL CHECK(typeof(mtime)=='integer'),  \
    type INTEGER NOT NULL CHECK(typeof(type)=='integer'),  \
    name TEXT NOT NULL,  \
    data BLOB)";

/// A new database: nothing happened but the database itself, and that is version 1.
const FIRST_VERSION: &str = "INSERT INTO tree (inode, parent, version, writer, mtime, type, name)
     SELECT 0, 0, 1, 0, ?1, 8, '__version__' WHERE NOT EXISTS (SELECT 1 FROM tree)";

/// Bytes in a page of a new file. A small change writes whole pages: with 4 KiB 2.5 to 3 times the bytes in the same time
/// (measured, see docs/decisions/0004-small-pages.md). A file made with other pages keeps them.
pub const PAGE_BYTES: u32 = 1024;

/// - NORMAL: the log is not synced at each commit; a crash of this process loses nothing. [`super::LogSync`] syncs it
///   against power failures.
/// - [`crate::engine`] makes checkpoints, after it completed the waiters of a commit.
/// - `journal_size_limit`: when a new log begins, SQLite truncates the file to the maximum length of a log (see
///   [`crate::engine`]).
/// - FAST: freed pages are not written once more only to clear them, which would double the
///   bytes written when a big file is replaced.
/// - The file may come from anywhere: its schema gets no functions with side effects.
const SETTINGS: &str = "PRAGMA synchronous = NORMAL;
     PRAGMA wal_autocheckpoint = 0;
     PRAGMA journal_size_limit = 4194304;
     PRAGMA secure_delete = FAST;
     PRAGMA trusted_schema = OFF;
     PRAGMA cell_size_check = ON;";

/// Opens or makes the database; true when it was made.
pub(super) fn open_or_create(
    site: &Site,
    now: UnixTime,
    busy_timeout: Duration,
) -> Result<(Connection, bool), Fault> {
    keep_orphaned_log(site, now)?;
    let is_empty = make_private(site)?;
    let mut connection = connect(site.path(), busy_timeout)?;
    if is_empty {
        connection.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}"))?;
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::NoLog { mode });
    }
    let created = make_table(&mut connection, now)?;
    Ok((connection, created))
}

/// Opens an existing database with all settings that are not in the file itself.
pub(super) fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, Fault> {
    let connection = open_writable(path, busy_timeout)?;
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

/// As [`connect`], for this connection alone: whoever has the file open already is a fault, and nobody else
/// gets in. No shared memory file is made, and what is in the log stays there when it is closed.
/// True when the file is shorter than it says.
pub(super) fn connect_alone(path: &Path) -> Result<(Connection, bool), Fault> {
    let connection = open_writable(path, Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything else that may look into the file.
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    let is_cut = take_as_it_is(&connection)?;
    connection.execute_batch(SETTINGS)?;
    Ok((connection, is_cut))
}

/// Looks into the file for the first time. Of one that was cut off SQLite reads nothing, unless it is told
/// that somebody is about to repair it; then the result is true.
pub(super) fn take_as_it_is(connection: &Connection) -> Result<bool, Fault> {
    let look = || connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()));
    match look().map_err(Fault::from) {
        Ok(()) => Ok(false),
        Err(Fault::Corrupt(_)) => {
            connection.execute_batch("PRAGMA writable_schema = ON")?;
            look()?;
            Ok(true)
        }
        Err(fault) => Err(fault),
    }
}

fn open_writable(path: &Path, busy_timeout: Duration) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | FLAGS;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy_timeout)?;
    // SQLite opens a file that may not be written without a word.
    if connection.is_readonly("main")? {
        return Err(Fault::ReadOnly);
    }
    Ok(connection)
}

/// The name of a file that SQLite keeps beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames a log without a database. SQLite deletes the log of a missing or empty database, and it may have the only
/// copy of the latest changes.
fn keep_orphaned_log(site: &Site, now: UnixTime) -> Result<(), Fault> {
    site.check_beside()?;
    // The log first: SQLite creates no log before the file has contents. In this order the log of another
    // program that creates the database now is not renamed.
    if site.bytes_beside("-wal")? == 0 || site.entry()?.is_some_and(|entry| entry.bytes > 0) {
        return Ok(());
    }
    let (dir, log) = (site.dir(), site.name_beside("-wal"));
    let kept = site.name_beside(&format!(".orphaned-{}-wal", utc_for_name(now)));
    let (log_path, kept_path) = (dir.path().join(&log), dir.path().join(&kept));
    let moved = dir.link(&log, &kept).and_then(|()| dir.sync()).and_then(|()| dir.remove(&log));
    moved.map_err(|error| {
        let (log, kept) = (log_path.display(), kept_path.display());
        Fault::Other(format!(
            "'{log}' is beside it, and cannot be renamed to '{kept}': {error}; move it away"
        ))
    })?;
    log::warn!(
        target: "database",
        "'{}' has changes of a database that is missing or empty; it is kept as '{}'",
        log_path.display(),
        kept_path.display()
    );
    Ok(())
}

/// Makes sure that the file exists and that only its owner can read it, before SQLite puts anything
/// into it and takes over its mode for the log. True when the file is empty.
fn make_private(site: &Site) -> Result<bool, Fault> {
    match site.dir().make_file(site.name(), MODE) {
        Ok(_) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let entry = site.entry()?.ok_or(Fault::Missing)?;
    if entry.kind != Kind::File {
        let refusal = Refusal::WrongKind { found: entry.kind, wanted: Kind::File };
        return Err(io::Error::from(refusal).into());
    }
    let file = site.open(Access::Read)?;
    if entry.mode != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    // A restored copy is rarely synced. Later syncs of the log are worth nothing without it.
    file.sync_all()?;
    Ok(entry.bytes == 0)
}

fn make_table(connection: &mut Connection, now: UnixTime) -> Result<bool, Fault> {
    // Looked at first: to start on an existing database should need no write.
    if holds_entries(connection)? {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    let created = transaction.execute(FIRST_VERSION, [now])? == 1;
    transaction.commit()?;
    Ok(created)
}

/// Whether there is a table `tree` with at least one row. A view of that name would be a program,
/// not data.
fn holds_entries(connection: &Connection) -> Result<bool, Fault> {
    let mut kinds = connection.prepare("SELECT type FROM sqlite_master WHERE name = 'tree'")?;
    let kinds = kinds.query_map([], |row| row.get::<_, String>(0))?;
    let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
    match kinds.first() {
        None => Ok(false),
        Some(kind) if kind == "table" => {
            Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM tree)", [], |row| row.get(0))?)
        }
        Some(kind) => Err(Fault::NotATable { kind: kind.clone() }),
    }
}
