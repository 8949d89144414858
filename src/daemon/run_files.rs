//! The files by which the daemon is known while it runs: lock, pid, restart flag, and the directories
//! they are in. It makes and removes them; it never looks at the database.

use super::guard;
use crate::dir::{Belongs, Dir};
use crate::options::{Config, Paths};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, fchown};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
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

/// Creates the daemon's directories. Warns if other users can replace files there.
pub fn make_directories(config: &Config) -> Result<(), RunFileError> {
    let paths = &config.paths;
    let make = |path| make_directory(path).map_err(create_error(path));
    let (state_dir, run_dir) = (make(&paths.state_dir)?, make(&paths.run_dir)?);
    // Clients that are not root look for the restart flag.
    let group = Gid::from_raw(config.www_data_gid);
    run_dir.set_group(group).map_err(create_error(&paths.run_dir))?;
    // The directories of these files may be missing until a file is written.
    let parents = [&paths.pid_file, &paths.corosync_conf].map(|path| Dir::holding(path).ok());
    let all = [state_dir, run_dir].into_iter().chain(parents.into_iter().flatten().map(|(dir, _)| dir));
    let exposed: BTreeSet<PathBuf> = all.filter_map(|dir| Some(dir.exposed()?.to_owned())).collect();
    for path in exposed {
        log::warn!(
            target: "main",
            "other users can rename and remove entries of '{}', and so exchange the daemon's files there: \
             give it to root, and take write permission from others",
            path.display()
        );
    }
    Ok(())
}

/// A directory of mode 0750 below parents of mode 0755.
fn make_directory(path: &Path) -> io::Result<Dir> {
    Dir::open_or_make(path, 0o755, 0o750)
}

/// Takes the lock that keeps a second daemon off the database; held as long as the value lives.
pub fn lock(paths: &Paths) -> Result<Flock<File>, RunFileError> {
    let path = &paths.lock_file;
    let open = Dir::holding(path).and_then(|(dir, name)| dir.open_or_make_file(&name, 0o600));
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
    dir: Dir,
    name: OsString,
}

impl PidFile {
    /// Writes this process's id.
    pub fn write(path: &Path) -> Result<Self, RunFileError> {
        let write = || -> io::Result<Self> {
            let (dir, name) = Dir::holding(path)?;
            let contents = format!("{}\n", std::process::id());
            dir.replace_file(&name, Belongs::to_me(0o644), contents.as_bytes())?;
            Ok(Self { dir, name })
        };
        write().map_err(create_error(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = self.dir.remove(&self.name) {
            let path = self.dir.path().join(&self.name);
            log::warn!(target: "main", "unable to remove '{}': {error}", path.display());
        }
    }
}

/// Tells clients that the daemon is about to come back: they keep trying to connect.
pub fn raise_restart_flag(paths: &Paths, www_data_gid: u32) {
    let raise = || -> io::Result<()> {
        let (dir, name) = Dir::holding(&paths.restart_flag)?;
        let flag = dir.open_or_make_file(&name, 0o440)?;
        Ok(fchown(&flag, None, Some(Gid::from_raw(www_data_gid)))?)
    };
    if let Err(error) = raise() {
        log::warn!(target: "main", "unable to create '{}': {error}", paths.restart_flag.display());
    }
}

/// Clients that wait may connect.
pub fn lower_restart_flag(paths: &Paths) {
    match Dir::holding(&paths.restart_flag).and_then(|(dir, name)| dir.remove(&name)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            log::warn!(target: "main", "unable to remove '{}': {error}", paths.restart_flag.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

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

    /// An entry made by another user is not followed or written, and cannot block.
    #[test]
    fn links_and_fifos_as_run_files_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let paths = Paths::below(dir.path());
        make_directory(&paths.state_dir).expect("made");
        make_directory(&paths.run_dir).expect("made");
        let canary = dir.path().join("canary");
        fs::write(&canary, "kept").expect("written");
        let mode = || fs::metadata(&canary).expect("there").permissions();
        let before = mode();
        for path in [&paths.lock_file, &paths.pid_file, &paths.restart_flag] {
            symlink(&canary, path).expect("made");
        }
        let error = lock(&paths).expect_err("a link");
        assert!(error.to_string().contains("it is a symbolic link, not a regular file"), "{error}");
        raise_restart_flag(&paths, 33);
        let written = PidFile::write(&paths.pid_file).expect("replaces the link");
        assert!(fs::symlink_metadata(&paths.pid_file).expect("there").is_file());
        drop(written);
        assert_eq!((fs::read(&canary).expect("there"), mode()), (b"kept".to_vec(), before));
        fs::remove_file(&paths.lock_file).expect("removed");
        nix::unistd::mkfifo(&paths.lock_file, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let error = lock(&paths).expect_err("a FIFO");
        assert!(error.to_string().contains("it is a FIFO, not a regular file"), "{error}");
        lower_restart_flag(&paths);
        assert!(fs::symlink_metadata(&paths.restart_flag).is_err(), "the link itself is removed");
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
