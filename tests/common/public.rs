//! Programs that tests run as another user. Other users may be unable to enter directories above the project,
//! such as root's home. So such a program runs from a copy in a directory that every user can reach.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Permission of others to pass through a directory or to execute a file.
const OTHERS_EXECUTE: u32 = 0o001;

/// Creates a directory that every user can reach, even if `TMPDIR` is private.
pub fn dir() -> TempDir {
    let dir =
        tempfile::Builder::new().prefix("pmxcfs-test-").tempdir_in("/tmp").expect("a directory in /tmp");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("its mode");
    dir
}

/// A copy of a program in a public directory, removed when dropped.
pub struct Copy {
    dir: TempDir,
    program: PathBuf,
}

impl Copy {
    pub fn of(program: impl AsRef<Path>) -> Self {
        let dir = dir();
        let copy = copy(program.as_ref(), dir.path());
        Self { dir, program: copy }
    }

    /// Path of the copy.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The public directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command that runs the copy as another user.
    pub fn command_as(&self, uid: u32, gid: u32) -> Command {
        command_as(&self.program, uid, gid)
    }
}

/// Copies a file into a directory, readable and executable for every user. Returns its new path.
///
/// `cp` does the work: if this process wrote the file, a thread that forks at the same time would inherit the
/// open descriptor, and exec would fail with ETXTBSY.
pub fn copy(file: &Path, dir: &Path) -> PathBuf {
    let path = dir.join(file.file_name().expect("a file has a name"));
    let status = Command::new("cp").arg(file).arg(&path).status().expect("cp runs");
    assert!(status.success(), "cp {} {}: {status}", file.display(), path.display());
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode");
    path
}

/// A command that runs as another user, in `/`. All tests use it for that.
///
/// # Panics
/// If that user cannot reach the program; use a [`Copy`] then.
pub fn command_as(program: impl AsRef<Path>, uid: u32, gid: u32) -> Command {
    let program = program.as_ref();
    if let Some(closed) = closed_to_others(program) {
        panic!("user {uid} cannot reach {}: {} is closed to others", program.display(), closed.display());
    }
    let mut command = Command::new(program);
    command.uid(uid).gid(gid).current_dir("/");
    command
}

/// The file itself or the lowest directory above it that other users cannot pass. `None` for names that are
/// looked up in `PATH`.
pub fn closed_to_others(path: &Path) -> Option<PathBuf> {
    let is_closed = |path: &&Path| {
        let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        metadata.mode() & OTHERS_EXECUTE == 0
    };
    let path = path.is_absolute().then_some(path)?;
    path.ancestors().find(is_closed).map(Path::to_owned)
}
