//! Destination of a verb: the directory, by its handle, and a name in it.

use super::{Output, ToolError};
use crate::dir::Dir;
use crate::store::Site;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// A name in an open directory. An entry of this name may exist.
#[derive(Debug)]
pub(super) struct Place {
    pub dir: Dir,
    pub name: OsString,
}

impl Place {
    /// Opens the directory of `target`, which must exist.
    pub fn of(target: &Path) -> Result<Self, ToolError> {
        let refuse =
            |what: &str| Err(ToolError::Refused(format!("'{}' {what}; name another", target.display())));
        if target.parent().is_none() {
            return refuse("cannot be made");
        }
        if target.file_name().is_none() {
            return refuse("is no name for a file");
        }
        let found = Dir::holding(target);
        let (dir, name) = found.map_err(|error| refused("write to the directory of", target, &error))?;
        Ok(Self { dir, name })
    }

    /// Warns if other users can replace the new entry.
    pub fn warn_if_exposed(&self, output: &mut Output<'_>) {
        warn_if_exposed(&self.dir, output);
    }
}

/// The database at `path`.
pub(super) fn find_database(path: &Path) -> Result<Site, ToolError> {
    Site::of(path).map_err(|error| refused("find", path, &error))
}

/// Warns if other users can rename entries of this directory or of one of its parents.
pub(super) fn warn_if_exposed(dir: &Dir, output: &mut Output<'_>) {
    if let Some(exposed) = dir.exposed() {
        let exposed = exposed.display();
        output.complain(&format!(
            "warning: other users can rename and remove entries of '{exposed}', and so exchange what is made there; \
             use a directory that only root can write to"
        ));
    }
}

/// A failed call of the system in words that say what to do.
pub(super) fn refused(action: &str, path: &Path, error: &io::Error) -> ToolError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => "; run this as root, or in a directory of your own",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space there",
        io::ErrorKind::ReadOnlyFilesystem => "; make it writable, or use another place",
        io::ErrorKind::AlreadyExists => "; name another",
        _ => "",
    };
    let text = error.to_string();
    // Without the number behind it.
    let text = text.split(" (os error").next().unwrap_or_default();
    ToolError::Refused(format!("unable to {action} '{}': {text}{hint}", path.display()))
}
