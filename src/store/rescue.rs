//! Copy of a tree in memory as a new, whole database, made when the file of the tree is lost. No existing file is
//! changed or replaced.

use super::room::Room;
use super::site::Site;
use super::{Action, Fault, Reader, Store, StoreError, connection};
use crate::clock::UnixTime;
use crate::dir::{Belongs, Dir, Entry};
use crate::memdb::{Batch, Row};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Numbers to try behind a name that exists.
const TRIES: u32 = 100;

/// A copy that was made.
#[derive(Debug)]
pub struct Rescued {
    dir: Dir,
    name: OsString,
    id: (u64, u64),
    /// Its path, for messages.
    pub path: PathBuf,
}

/// Writes the whole tree to a new file and reads it back; then copies it to the first of `targets` that
/// is writable. The copy is called `name`, with a number if that name exists. `work`: further directories to try for
/// temporary files.
pub fn rescue(
    tree: &Batch,
    now: UnixTime,
    name: &OsStr,
    targets: Vec<Dir>,
    work: &[&Path],
) -> Result<Rescued, StoreError> {
    let room = make(tree, now, work)?;
    let mut failure = None;
    for dir in targets {
        let path = dir.current_path();
        match place(&room, dir, name) {
            Ok(rescued) => return Ok(rescued),
            Err(error) => {
                failure.get_or_insert_with(|| StoreError::new(&path.join(name), Action::Write, error.into()));
            }
        }
    }
    Err(failure.unwrap_or_else(|| StoreError::new(Path::new(name), Action::Write, Fault::Missing)))
}

impl Rescued {
    /// Returns true if the copy is still in its place.
    pub fn exists(&self) -> bool {
        self.dir.entry(&self.name).is_ok_and(|found| found.is_some_and(|found| found.id == self.id))
    }

    /// Removes the copy, which a newer one replaces.
    pub fn remove(self) {
        if self.exists() {
            // A leftover only takes up space.
            let _ = self.dir.remove(&self.name);
        }
    }
}

/// Makes the database in the first directory that has room for it.
fn make(tree: &Batch, now: UnixTime, work: &[&Path]) -> Result<Room, StoreError> {
    let usual = std::env::temp_dir();
    let mut failure = None;
    for parent in work.iter().copied().chain([usual.as_path()]) {
        let room = Room::below(parent).map_err(|fault| StoreError::new(parent, Action::Write, fault));
        let made = room.and_then(|room| write(tree, now, &room.database()).map(|()| room));
        match made {
            Ok(room) => return Ok(room),
            Err(error) => failure.get_or_insert(error),
        };
    }
    Err(failure.unwrap_or_else(|| StoreError::new(&usual, Action::Write, Fault::Missing)))
}

/// Writes a new database, reads it back and compares the rows.
fn write(tree: &Batch, now: UnixTime, path: &Path) -> Result<(), StoreError> {
    let mut store = Store::open(path, now)?;
    store.commit(tree)?;
    store.close()?;
    let reader = Reader::open(path)?;
    let mut rows = Vec::<Row>::with_capacity(tree.rows.len());
    reader.rows(|loose| rows.push(loose.row))?;
    if !reader.problems()?.is_empty() || rows != tree.rows {
        let fault = Fault::Io("it was not written as it should be".to_owned());
        return Err(StoreError::new(path, Action::Write, fault));
    }
    Ok(())
}

fn place(room: &Room, dir: Dir, name: &OsStr) -> io::Result<Rescued> {
    let mut number = 1;
    loop {
        let mut tried = name.to_owned();
        if number > 1 {
            tried.push(format!("-{number}"));
        }
        number += 1;
        let site = Site::in_dir(dir.try_clone()?, tried);
        match site.put_if_free(&room.database(), Belongs::to_me(connection::MODE)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number <= TRIES => {}
            Err(error) => return Err(error),
            Ok(()) => {
                let id = site.entry()?.map_or((0, 0), |entry: Entry| entry.id);
                let (name, path) = (site.name().to_owned(), dir.current_path().join(site.name()));
                return Ok(Rescued { dir, name, id, path });
            }
        }
    }
}
