//! Consistent copy of a database in a directory that other users can write to. The copy is made by
//! descriptors into a [`Room`]. Locks on the bytes that SQLite documents keep other programs from changing
//! the file meanwhile.

use super::connection::{self, beside};
use super::room::Room;
use super::site::Site;
use super::{Action, BUSY_TIMEOUT, Fault, Store, StoreError, checkpoint, reader};
use crate::clock::UnixTime;
use crate::dir::{Access, Belongs, Entry, Refusal};
use crate::memdb::{BLOCK_SIZE, BLOCKS};
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::Uid;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A range of bytes for locks of SQLite's file format.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    start: i64,
    length: i64,
}

/// In the database: pending, reserved and all shared locks. A program with the file open holds some of them.
const ALL: Bytes = Bytes { start: 0x4000_0000, length: 512 };

/// In the database: the shared locks.
const SHARED: Bytes = Bytes { start: 0x4000_0002, length: 510 };

/// In the shared memory file: the locks of the writer and of the checkpointer.
const WRITER_AND_CHECKPOINT: Bytes = Bytes { start: 120, length: 2 };

/// The largest file that is copied: 32 times what a tree can hold. A sparse file of another user, which needs no space
/// on the disk, would fill the file system of the [`Room`].
const BYTES_MAX: u64 = 32 * BLOCKS * BLOCK_SIZE;

/// Time between two attempts to lock.
const RETRY: Duration = Duration::from_millis(5);

/// Treatment of the log when its database is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// It is first checkpointed into the old file, so that no data is lost if the replacement fails.
    Merge,
    /// It is deleted: the old file is damaged.
    Discard,
}

/// Opens or creates the database at `path` for a tool, and lets `work` change it. If other users can write to
/// its directory, `work` changes a copy, which then replaces the file.
pub fn work_on<E: From<StoreError>>(
    path: &Path,
    now: UnixTime,
    work: impl FnOnce(&mut Store) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |action, fault: Fault| StoreError::new(path, action, fault);
    let site = Site::of(path).map_err(|error| fail(Action::Open, error.into()))?;
    let change = |path: &Path| -> Result<(), E> {
        let mut store = Store::open(path, now)?;
        work(&mut store)?;
        Ok(store.close()?)
    };
    if site.dir().is_private() {
        return change(site.path());
    }
    if let Some(_found) = site.entry().map_err(|error| fail(Action::Open, error.into()))? {
        let copied = reader::check_beside(&site).and_then(|()| Snapshot::exclusive(&site));
        let snapshot = copied.map_err(|fault| fail(Action::Open, fault))?;
        change(&snapshot.database())?;
        let replaced = snapshot.replace(&site, &snapshot.database(), Log::Merge);
        return Ok(replaced.map_err(|fault| fail(Action::Write, fault))?);
    }
    let room = Room::new().map_err(|fault| fail(Action::Open, fault))?;
    change(&room.database())?;
    let made = site.put_if_free(&room.database(), Belongs::to_me(connection::MODE));
    Ok(made.map_err(|error| fail(Action::Write, error.into()))?)
}

/// The copy, removed when dropped.
#[derive(Debug)]
pub(super) struct Snapshot {
    room: Room,
    /// Another program has the original open.
    pub in_use: bool,
    /// Facts about the copied log, to recognize it.
    log: Option<Entry>,
    /// A second copy, with the log checkpointed into it.
    merged: Option<PathBuf>,
    belongs: Belongs,
    /// The locked original, if it is to be replaced.
    _lock: Option<File>,
}

impl Snapshot {
    /// Makes a copy for reading; other programs may use the original.
    pub fn shared(site: &Site) -> Result<Self, Fault> {
        let original = site.open(Access::Read)?;
        let in_use = is_locked(&original, ALL)?;
        wait_for_lock(&original, SHARED)?;
        let shared_memory = if_there(site, "-shm")?;
        if let Some(file) = &shared_memory {
            wait_for_lock(file, WRITER_AND_CHECKPOINT)?;
        }
        Self::copy(site, &original, in_use)
    }

    /// Makes a copy that will replace the original, which stays locked. Fails immediately if another program
    /// has it open.
    pub fn exclusive(site: &Site) -> Result<Self, Fault> {
        let original = site.open(Access::ReadWrite)?;
        if !lock(&original, ALL, libc::F_WRLCK)? {
            return Err(Fault::Locked);
        }
        let mut copied = Self::copy(site, &original, false)?;
        if copied.log.is_some() {
            copied.merged = copied.merge()?;
        }
        copied._lock = Some(original);
        Ok(copied)
    }

    fn copy(site: &Site, original: &File, in_use: bool) -> Result<Self, Fault> {
        let room = Room::new()?;
        check_size("it", original)?;
        copy_to_new(original, &room.database())?;
        let found = if_there(site, "-wal")?;
        let log = match found.filter(|log| log.metadata().is_ok_and(|metadata| metadata.len() > 0)) {
            Some(log) => Some(copy_log(site, &log, &Entry::of_open(original)?, &room)?),
            None => None,
        };
        let belongs = Belongs::as_file(&original.metadata()?);
        Ok(Self { room, in_use, log, merged: None, belongs, _lock: None })
    }

    /// `None` if SQLite fails because the file is too damaged.
    fn merge(&self) -> Result<Option<PathBuf>, Fault> {
        let merged = self.room.at("merged.db");
        for suffix in ["", "-wal"] {
            copy_to_new(&File::open(beside(&self.database(), suffix))?, &beside(&merged, suffix))?;
        }
        let moved = connection::connect(&merged, Duration::ZERO)
            .and_then(|connection| checkpoint::restart_for_good(&connection));
        Ok(moved.is_ok().then_some(merged))
    }

    /// The copy.
    pub fn database(&self) -> PathBuf {
        self.room.database()
    }

    /// Whether there was a log; the copy contains it.
    pub fn had_log(&self) -> bool {
        self.log.is_some()
    }

    /// Replaces the original by `new`, and removes its log.
    pub fn replace(&self, site: &Site, new: &Path, log: Log) -> Result<(), Fault> {
        match (self.log, log, &self.merged) {
            (None, ..) => {}
            (Some(_), Log::Discard, _) => self.remove_log(site)?,
            // The file with its log equals the original, so any of these steps may be the last one.
            (Some(_), Log::Merge, Some(merged)) => {
                let _held = self.put(site, merged)?;
                self.remove_log(site)?;
            }
            (Some(_), Log::Merge, None) => {
                return Err(Fault::Corrupt("its log cannot be moved into it".to_owned()));
            }
        }
        self.put(site, new).map(drop)
    }

    /// Other programs cannot open the new file while the result lives.
    fn put(&self, site: &Site, new: &Path) -> Result<File, Fault> {
        let draft = site.draft(new, self.belongs)?;
        let held = draft.made().try_clone()?;
        lock(&held, ALL, libc::F_WRLCK)?;
        draft.replace()?;
        Ok(held)
    }

    fn remove_log(&self, site: &Site) -> Result<(), Fault> {
        let found = site.beside("-wal")?;
        if found.map(|found| found.id) != self.log.map(|log| log.id) {
            return Err(io::Error::from(Refusal::Exchanged).into());
        }
        site.dir().remove(&site.name_beside("-wal"))?;
        Ok(())
    }
}

fn if_there(site: &Site, suffix: &str) -> io::Result<Option<File>> {
    match site.dir().open_file(&site.name_beside(suffix), Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Another user may have put a log beside the database to change its contents.
fn copy_log(site: &Site, log: &File, database: &Entry, room: &Room) -> Result<Entry, Fault> {
    let entry = Entry::of_open(log)?;
    if ![database.uid, 0, Uid::effective().as_raw()].contains(&entry.uid) {
        return Err(Fault::Other(format!(
            "its log '{}' belongs to user {}, the database to user {}; move the log away if it is not yours",
            site.dir().path().join(site.name_beside("-wal")).display(),
            entry.uid,
            database.uid
        )));
    }
    check_size("its log", log)?;
    copy_to_new(log, &beside(&room.database(), "-wal"))?;
    Ok(entry)
}

fn check_size(what: &str, file: &File) -> Result<(), Fault> {
    let bytes = file.metadata()?.len();
    if bytes <= BYTES_MAX {
        return Ok(());
    }
    Err(Fault::Other(format!(
        "{what} has {bytes} bytes; at most {BYTES_MAX} are copied from a directory that other users can write to, so \
         move the database to a directory that only you can write to"
    )))
}

fn copy_to_new(from: &File, to: &Path) -> io::Result<()> {
    // It may grow meanwhile.
    io::copy(&mut from.take(BYTES_MAX), &mut File::create_new(to)?).map(drop)
}

fn flock(kind: i32, bytes: Bytes) -> libc::flock {
    let (l_type, l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    libc::flock { l_type, l_whence, l_start: bytes.start, l_len: bytes.length, l_pid: 0 }
}

/// Locks the open file description, not the process. Returns false if another program holds a conflicting
/// lock.
fn lock(file: &File, bytes: Bytes, kind: i32) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&flock(kind, bytes))).map_err(io::Error::from) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether another program has the database open.
pub fn is_in_use(site: &Site) -> Result<bool, Fault> {
    Ok(is_locked(&site.open(Access::Read)?, ALL)?)
}

fn is_locked(file: &File, bytes: Bytes) -> io::Result<bool> {
    let mut found = flock(libc::F_WRLCK, bytes);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

/// A read lock: it excludes writers, and needs no permission to write.
fn wait_for_lock(file: &File, bytes: Bytes) -> Result<(), Fault> {
    let mut waited = Duration::ZERO;
    while !lock(file, bytes, libc::F_RDLCK)? {
        if waited >= BUSY_TIMEOUT {
            return Err(Fault::Locked);
        }
        std::thread::sleep(RETRY);
        waited += RETRY;
    }
    Ok(())
}
