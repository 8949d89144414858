//! Check that the paths of an open database still lead to its files. SQLite keeps writing to files that were
//! deleted, moved, or hidden by a mount, and the next start does not find the later changes.

use super::site::Site;
use crate::dir::Entry;
use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and inode number.
type Id = (u64, u64);

/// Kind of loss of a database: the next start would not find it, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    #[error("was deleted")]
    Deleted,
    #[error("was moved away")]
    Moved,
    #[error("was replaced: another file is at its path")]
    Replaced,
    #[error("is hidden: another file system is mounted over its directory")]
    Hidden,
    #[error("is hidden: another directory is in the place of its own")]
    OtherDirectory,
    #[error("is not at its path: its directory was moved or deleted")]
    NoDirectory,
    #[error("lost its log: the file with '-wal' behind its name was deleted or moved")]
    LogGone,
    #[error("lost its log: another file is in the place of the one with '-wal' behind its name")]
    LogReplaced,
}

impl Loss {
    /// One word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Moved => "moved",
            Self::Replaced => "replaced",
            Self::Hidden => "hidden",
            Self::OtherDirectory => "other-directory",
            Self::NoDirectory => "no-directory",
            Self::LogGone => "log-gone",
            Self::LogReplaced => "log-replaced",
        }
    }
}

/// Identity of the files of an open database.
#[derive(Debug)]
pub struct FileWatch {
    /// As it was given: the next start follows its links again.
    given: PathBuf,
    site: Site,
    /// Keep the inode numbers from being used again.
    database: OwnedFd,
    log: Option<OwnedFd>,
}

impl FileWatch {
    /// Identifies the files. SQLite must have opened them, and the log must exist.
    pub(super) fn new(given: &Path, site: &Site) -> io::Result<Self> {
        let log = match site.dir().pin(&site.name_beside("-wal")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        let database = site.dir().pin(site.name())?;
        Ok(Self { given: std::path::absolute(given)?, site: site.clone(), database, log })
    }

    /// Its place.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Compares the files at the paths with the open ones. A path that cannot be examined is not a loss.
    pub fn check(&self) -> io::Result<Option<Loss>> {
        let opened = Entry::of_open(&self.database)?;
        if id_at(&self.given)? == Some(opened.id) {
            return self.check_log();
        }
        let own_directory = Entry::of_open(self.site.dir())?.id;
        Ok(Some(match id_at(self.site.dir().path())? {
            None => Loss::NoDirectory,
            Some(found) if found.0 != own_directory.0 => Loss::Hidden,
            Some(found) if found != own_directory => Loss::OtherDirectory,
            Some(_) if id_at(&self.given)?.is_some() => Loss::Replaced,
            Some(_) if opened.links == 0 => Loss::Deleted,
            Some(_) => Loss::Moved,
        }))
    }

    fn check_log(&self) -> io::Result<Option<Loss>> {
        let Some(log) = &self.log else { return Ok(None) };
        let found = id_at(&self.site.dir().path().join(self.site.name_beside("-wal")))?;
        Ok(match found {
            None => Some(Loss::LogGone),
            Some(id) if id != Entry::of_open(log)?.id => Some(Loss::LogReplaced),
            Some(_) => None,
        })
    }
}

fn id_at(path: &Path) -> io::Result<Option<Id>> {
    let id = |found: Metadata| (found.dev(), found.ino());
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(id(found))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
