//! Copy of a database and its log that a verb makes before it changes the database.

use super::place::{Place, refused, warn_if_exposed};
use super::text::utc_for_name;
use super::{Output, ToolError};
use crate::clock::Clock;
use crate::dir::Dir;
use crate::store::{Backup, Handles, Site};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of a copy that is still to be made.
#[derive(Debug)]
pub(super) struct CopyBefore {
    place: Place,
    path: PathBuf,
    /// Whether the directory is another one than that of the database.
    is_elsewhere: bool,
}

impl CopyBefore {
    /// The copy at a path that the user chose. No file of that name, and no log of one, may exist; this is checked
    /// again when the copy is made.
    pub fn at(path: &Path) -> Result<Self, ToolError> {
        let place = Place::of(path)?;
        let mut log = place.name.clone();
        log.push("-wal");
        for name in [&place.name, &log] {
            if place.dir.entry(name).map_err(|error| refused("make", path, &error))?.is_some() {
                let path = path.display();
                return Err(ToolError::Refused(format!(
                    "unable to make '{path}': there is such a file, or a log of one, already; name another"
                )));
            }
        }
        Ok(Self { place, path: path.to_owned(), is_elsewhere: true })
    }

    /// A copy beside the database, named by `purpose` and the time.
    pub fn beside(site: &Site, purpose: &str) -> Result<Self, ToolError> {
        let mut name: OsString = site.name().to_owned();
        name.push(format!(".before-{purpose}-{}", utc_for_name(Clock::start().unix())));
        let path = site.dir().path().join(&name);
        let dir = site.dir().try_clone().map_err(|error| refused("open", &path, &error))?;
        Ok(Self { place: Place { dir, name }, path, is_elsewhere: false })
    }

    pub fn dir(&self) -> &Dir {
        &self.place.dir
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the file and its log, never over an existing file.
    pub fn make(&self, handles: &Handles, site: &Site, output: &mut Output<'_>) -> Result<Backup, ToolError> {
        output.progress("copying the file");
        if self.is_elsewhere && self.place.dir.exposed() != site.dir().exposed() {
            warn_if_exposed(&self.place.dir, output);
        }
        Ok(handles.copy_to(&self.place.dir, &self.place.name)?)
    }
}
