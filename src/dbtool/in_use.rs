//! Whether a daemon has the database, by the lock that it holds beside it; and taking that lock, so that none
//! starts on a file that is being changed.

use super::ToolError;
use crate::options::Paths;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::Path;

/// Held while a daemon must not start. None where no daemon would look for a database.
pub(super) type DaemonLock = Option<Flock<File>>;

/// Takes the lock of the daemon whose database this is.
pub(super) fn keep_daemon_out(database: &Path) -> Result<DaemonLock, ToolError> {
    let paths = Paths::below(Path::new("/"));
    let is_a_daemons = database.file_name() == paths.database.file_name();
    let lock_name = paths.lock_file.file_name().filter(|_| is_a_daemons);
    let Some(lock_file) = lock_name.map(|name| database.with_file_name(name)) else { return Ok(None) };
    let file = match File::open(&lock_file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let text = format!("unable to open '{}': {error}; run this as root", lock_file.display());
            return Err(ToolError::Refused(text));
        }
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(_) => Err(ToolError::Refused(format!(
            "'{}' is in use by a running pmxcfs; stop that first (systemctl stop pve-cluster), or work on a copy",
            database.display()
        ))),
    }
}
