//! Place of a database file: the handle of its directory, and its name there.

use super::Fault;
use crate::dir::{Access, Belongs, Dir, Entry, Kind, Refusal};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files that SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A database file, which may be missing.
#[derive(Debug, Clone)]
pub struct Site {
    dir: Arc<Dir>,
    name: OsString,
    path: PathBuf,
}

impl Site {
    /// Opens the directory of the file that `path` leads to.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (dir, name) = Dir::holding_target(path)?;
        Ok(Self::in_dir(dir, name))
    }

    /// The file `name` in a directory.
    pub fn in_dir(dir: Dir, name: OsString) -> Self {
        let path = dir.path().join(&name);
        Self { dir: Arc::new(dir), name, path }
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its name in the directory.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its path, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Facts about the file; `None` if it is missing.
    pub fn entry(&self) -> io::Result<Option<Entry>> {
        self.dir.entry(&self.name)
    }

    /// Opens the file. Closing the handle releases all locks of this process on it, so SQLite must not have
    /// it open.
    pub(super) fn open(&self, access: Access) -> io::Result<File> {
        self.dir.open_file(&self.name, access)
    }

    /// Name of a file that SQLite keeps beside it.
    pub(super) fn name_beside(&self, suffix: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(suffix);
        name
    }

    /// Facts about a file beside it; `None` if it is missing.
    pub fn beside(&self, suffix: &str) -> io::Result<Option<Entry>> {
        self.dir.entry(&self.name_beside(suffix))
    }

    /// Size of a file beside it; 0 if it is missing.
    pub(super) fn bytes_beside(&self, suffix: &str) -> io::Result<u64> {
        Ok(self.beside(suffix)?.map_or(0, |entry| entry.bytes))
    }

    /// Refuses links, FIFOs and the like where SQLite expects regular files.
    pub(super) fn check_beside(&self) -> Result<(), Fault> {
        for suffix in BESIDE {
            if let Some(Entry { kind, .. }) = self.beside(suffix)?.filter(|entry| entry.kind != Kind::File) {
                let name = self.dir.path().join(self.name_beside(suffix));
                let refusal = Refusal::WrongKind { found: kind, wanted: Kind::File };
                return Err(Fault::Other(format!("'{}' beside it: {refusal}", name.display())));
            }
        }
        Ok(())
    }

    /// Replaces the file by a copy of `from`, or creates it if it is missing.
    pub fn put(&self, from: &Path, belongs: Belongs) -> io::Result<()> {
        self.draft(from, belongs)?.replace()
    }

    /// Creates the file as a copy of `from`; fails if it exists.
    pub fn put_if_free(&self, from: &Path, belongs: Belongs) -> io::Result<()> {
        self.draft(from, belongs)?.place_if_free()
    }

    pub(super) fn draft(&self, from: &Path, belongs: Belongs) -> io::Result<crate::dir::Draft<File>> {
        let draft = self.dir.draft_file(&self.name, belongs)?;
        io::copy(&mut File::open(from)?, &mut draft.made())?;
        draft.made().sync_all()?;
        Ok(draft)
    }
}
