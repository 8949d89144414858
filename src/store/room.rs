//! Private directory in which SQLite works on a copy. SQLite opens files by path and uses any log that it
//! finds beside a database. So a tool run by root never uses it in a directory that other users can write to.

use super::Fault;
use crate::dir::Dir;
use crate::dir::temporary::{self, Temporary};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A directory below `TMPDIR` or `/tmp`, only for the user of this process; removed when dropped, and when a signal
/// ends a tool.
#[derive(Debug)]
pub struct Room {
    path: PathBuf,
    /// Dropped after the removal of the directory.
    _temporary: Temporary,
}

impl Room {
    /// Creates the directory.
    pub fn new() -> Result<Self, Fault> {
        Self::below(&std::env::temp_dir())
    }

    /// Creates the directory in `parent` instead of the usual one.
    pub(super) fn below(parent: &Path) -> Result<Self, Fault> {
        let refuse = |why: String| {
            let parent = parent.display();
            Fault::Other(format!(
                "a private directory to work in cannot be made in '{parent}': {why}; set TMPDIR to a directory that \
                 only you can write to"
            ))
        };
        let dir = Dir::open(parent).map_err(|error| refuse(error.to_string()))?;
        if let Some(exposed) = dir.exposed() {
            return Err(refuse(format!("other users can rename entries of '{}'", exposed.display())));
        }
        let template = dir.path().join(format!("pmxcfs-db-{}", "X".repeat(6)));
        let removal = |path: &PathBuf| -> io::Result<temporary::Removal> {
            let path = path.clone();
            Ok(Box::new(move || fs::remove_dir_all(&path)))
        };
        let made = temporary::make(|| Ok(nix::unistd::mkdtemp(&template)?), removal);
        let (path, temporary) = made.map_err(|error| refuse(error.to_string()))?;
        Ok(Self { path, _temporary: temporary })
    }

    /// Path of a database in the directory.
    pub fn database(&self) -> PathBuf {
        self.at("config.db")
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Only its owner can read a copy that remains.
        let _ = fs::remove_dir_all(&self.path);
    }
}
