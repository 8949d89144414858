//! Where a verb puts what it makes: first beside its final name, so that nobody ever sees a part of it, and
//! gone again when it cannot be finished.

use super::ToolError;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A name beside a final one. What is there is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// A free name in the directory of `target`, which must exist.
    pub fn of(target: &Path) -> Result<Self, ToolError> {
        let unable = |error: io::Error| refused("write to the directory of", target, &error);
        let parent = match target.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => {
                return Err(ToolError::Refused(format!(
                    "'{}' cannot be made; name another",
                    target.display()
                )));
            }
        };
        let parent = fs::canonicalize(parent).map_err(unable)?;
        let Some(name) = target.file_name() else {
            return Err(ToolError::Refused(format!(
                "'{}' is no name for a file; name another",
                target.display()
            )));
        };
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".new-{}", std::process::id()));
        Ok(Self { path: parent.join(draft), target: parent.join(name) })
    }

    /// Where to make it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its final name, without links above it.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Gives it the owner and mode of another file.
    pub fn belong_as(&self, other: &Metadata) -> Result<(), ToolError> {
        let set = || -> io::Result<()> {
            let own = fs::metadata(&self.path)?;
            if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
                std::os::unix::fs::chown(&self.path, Some(other.uid()), Some(other.gid()))?;
            }
            fs::set_permissions(&self.path, Permissions::from_mode(other.permissions().mode() & 0o7777))
        };
        set().map_err(|error| refused("set owner and mode of", &self.path, &error))
    }

    /// Gives it its final name, in place of what has it.
    pub fn take_place(self) -> Result<(), ToolError> {
        fs::rename(&self.path, &self.target).map_err(|error| refused("make", &self.target, &error))?;
        self.sync_directory();
        Ok(())
    }

    /// Gives a file its final name if that is free.
    pub fn take_free_place(self) -> Result<(), ToolError> {
        fs::hard_link(&self.path, &self.target).map_err(|error| refused("make", &self.target, &error))?;
        // The other name goes when this is dropped.
        self.sync_directory();
        Ok(())
    }

    fn sync_directory(&self) {
        // The file is whole in any case; only its name could be lost with the power.
        if let Some(directory) = self.target.parent() {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Most often it is gone by now.
        let _ = if self.path.is_dir() { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
        for suffix in ["-wal", "-shm", "-journal"] {
            let mut beside = self.path.as_os_str().to_owned();
            beside.push(suffix);
            let _ = fs::remove_file(PathBuf::from(beside));
        }
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
