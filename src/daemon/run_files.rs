//! The files by which the daemon is known while it runs: lock, pid, restart flag, and the directories
//! they are in. It makes and removes them; it never looks at the database.

use super::guard;
use crate::options::{Config, Paths};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, chown};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a held lock is tried again, once a second.
const LOCK_TRIES: u32 = 10;

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// A file or directory could not be made.
    #[error("unable to create '{path}': {source}")]
    Create {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Another daemon holds the lock.
    #[error(
        "unable to acquire pmxcfs lock '{path}': another pmxcfs uses this database - stop it first \
         (systemctl stop pve-cluster)"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

fn create_error(path: &Path) -> impl FnOnce(io::Error) -> RunFileError + '_ {
    |source| RunFileError::Create { path: path.to_owned(), source }
}

/// Makes the directories that the daemon keeps files in.
pub fn make_directories(config: &Config) -> Result<(), RunFileError> {
    let paths = &config.paths;
    for path in [&paths.state_dir, &paths.run_dir] {
        make_directory(path).map_err(create_error(path))?;
    }
    // Clients that are not root look for the restart flag.
    chown(&paths.run_dir, None, Some(Gid::from_raw(config.www_data_gid)))
        .map_err(|errno| create_error(&paths.run_dir)(errno.into()))
}

/// A directory of mode 0750 below parents of mode 0755.
pub fn make_directory(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Takes the lock that keeps a second daemon off the database; held as long as the value lives.
pub fn lock(paths: &Paths) -> Result<Flock<File>, RunFileError> {
    let path = &paths.lock_file;
    let open = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut file = open.map_err(create_error(path))?;
    for tried in 1..=LOCK_TRIES {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, _)) => file,
        };
        if tried == 1 {
            log::info!(target: "main", "unable to acquire pmxcfs lock - trying again");
        }
        guard::abort_mount_of_dead(&paths.pid_file, &paths.mount_point);
        std::thread::sleep(Duration::from_secs(1));
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| RunFileError::Locked { path: path.to_owned() })
}

/// The pid file; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes this process's id.
    pub fn write(path: &Path) -> Result<Self, RunFileError> {
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
            writeln!(file, "{}", std::process::id())?;
            file.set_permissions(Permissions::from_mode(0o644))
        };
        write().map_err(create_error(path))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!(target: "main", "unable to remove '{}': {error}", self.path.display());
        }
    }
}

/// Tells clients that the daemon is about to come back: they keep trying to connect.
pub fn raise_restart_flag(paths: &Paths, www_data_gid: u32) {
    let raise = || -> io::Result<()> {
        let path = &paths.restart_flag;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o440).open(path)?;
        chown(path, None, Some(Gid::from_raw(www_data_gid)))?;
        Ok(())
    };
    if let Err(error) = raise() {
        log::warn!(target: "main", "unable to create '{}': {error}", paths.restart_flag.display());
    }
}

/// Clients that wait may connect.
pub fn lower_restart_flag(paths: &Paths) {
    match fs::remove_file(&paths.restart_flag) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            log::warn!(target: "main", "unable to remove '{}': {error}", paths.restart_flag.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_does_not_get_the_lock() {
        let dir = tempfile::tempdir().expect("temp dir");
        let paths = Paths::below(dir.path());
        make_directory(&paths.state_dir).expect("made");
        let held = lock(&paths).expect("free");
        let file = File::open(&paths.lock_file).expect("made");
        let (_, errno) = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect_err("held");
        assert_eq!(io::Error::from(errno).kind(), io::ErrorKind::WouldBlock);
        drop(held);
        lock(&paths).expect("free again");
        let mode = fs::metadata(&paths.lock_file).expect("made").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn the_pid_file_goes_with_its_owner() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("pve-cluster.pid");
        let pid_file = PidFile::write(&path).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), format!("{}\n", std::process::id()));
        drop(pid_file);
        assert!(!path.exists());
    }

    #[test]
    fn directories_are_made_with_their_parents_and_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a/b/c");
        make_directory(&path).expect("made");
        make_directory(&path).expect("kept");
        let mode = |path: &Path| fs::metadata(path).expect("made").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o750);
        assert_eq!(mode(&dir.path().join("a")), 0o755);
    }
}
