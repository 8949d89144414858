//! Whether a daemon has the database, by the lock that it holds beside it; and taking that lock, so that none
//! starts on a file that is being changed.

use super::ToolError;
use crate::dir::Access;
use crate::options::Paths;
use crate::store::Site;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::Path;

/// Held while a daemon must not start. None where no daemon would look for a database.
pub(super) type DaemonLock = Option<Flock<File>>;

/// Takes the lock of the daemon whose database this is.
pub(super) fn keep_daemon_out(database: &Site) -> Result<DaemonLock, ToolError> {
    let paths = Paths::below(Path::new("/"));
    let is_a_daemons = Some(database.name()) == paths.database.file_name();
    let Some(name) = paths.lock_file.file_name().filter(|_| is_a_daemons) else { return Ok(None) };
    let file = match database.dir().open_file(name, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let lock_file = database.dir().path().join(name);
            let text = format!("unable to open '{}': {error}; run this as root", lock_file.display());
            return Err(ToolError::Refused(text));
        }
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(_) => Err(ToolError::Refused(format!(
            "'{}' is in use by a running pmxcfs; stop that first (systemctl stop pve-cluster), or work on a copy",
            database.path().display()
        ))),
    }
}
