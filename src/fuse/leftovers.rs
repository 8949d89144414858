//! Check of the mount point before the tree is mounted. The dead tree of a killed daemon is unmounted; any
//! other mount is refused. Files that the tree will hide are named in the log.
//!
//! A tree is dead if the kernel itself fails its requests with ENOTCONN. Any other access to a tree blocks
//! forever if its daemon hangs.

use super::mount_table::{Mount, topmost};
use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::statfs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Most dead trees that can be stacked at one mount point.
const LEFTOVERS_MAX: usize = 16;
/// Time for a tree to respond. A dead one fails immediately.
const LIFE_SIGN: Duration = Duration::from_secs(3);
/// A connection that is being aborted fails once with another error before it is dead.
const LOOKS: usize = 3;
/// Most entries of a mount point that are counted.
const COUNTED_MAX: usize = 1000;

/// Reason why a tree cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A file system that no pmxcfs made.
    #[error(
        "a file system of type {kind} from '{from}' is mounted there: no pmxcfs made it, so unmount it first \
         (umount {path})"
    )]
    Foreign {
        /// Its type.
        kind: String,
        /// Its source.
        from: String,
        /// The mount point.
        path: String,
    },
    /// A tree that a process serves.
    #[error("a running process serves a tree there - does another pmxcfs serve it? Stop that one first")]
    Live,
    /// A tree that does not respond and is not dead.
    #[error(
        "a tree is mounted there that does not answer, but whose process is not gone: end that process \
         (fuser -vm {path}; ps -C pmxcfs), or abort the mount (umount -f {path})"
    )]
    Silent {
        /// The mount point.
        path: String,
    },
    /// A system call failed.
    #[error("{0} - is /dev/fuse there, and the directory free?")]
    Io(#[from] io::Error),
}

/// Whether a mount looks like that of a pmxcfs-rs or stock daemon.
pub(super) fn is_tree(mount: &Mount) -> bool {
    mount.kind == "fuse" && mount.source == super::mounted::DEVICE
}

/// Unmounts dead trees from the mount point.
///
/// # Errors
/// If anything else is mounted there.
pub(super) fn clear(path: &Path) -> Result<(), MountError> {
    for _ in 0..LEFTOVERS_MAX {
        let Some(mount) = topmost(path) else { return Ok(()) };
        let shown = path.display().to_string();
        if !is_tree(&mount) {
            return Err(MountError::Foreign { kind: mount.kind, from: mount.source, path: shown });
        }
        match look(path) {
            Look::Dead => unmount_dead(path)?,
            Look::Live => return Err(MountError::Live),
            Look::Silent => return Err(MountError::Silent { path: shown }),
        }
    }
    Err(io::Error::other(format!("more than {LEFTOVERS_MAX} dead trees are mounted there")).into())
}

fn unmount_dead(path: &Path) -> io::Result<()> {
    // A process with an open file keeps the tree busy; it is then detached lazily.
    if umount2(path, MntFlags::MNT_FORCE).is_err() {
        umount2(path, MntFlags::MNT_DETACH)?;
    }
    log::warn!(target: "fuse", "unmounted the tree of a daemon that is gone: {}", path.display());
    Ok(())
}

/// State of a mounted tree.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Live,
    Dead,
    Silent,
}

/// Whether the kernel has given up the tree mounted at `path`.
pub fn is_dead(path: &Path) -> bool {
    look(path) == Look::Dead
}

/// Requests the size of the tree, which the kernel does not cache. A separate thread waits for the reply;
/// without a reply it ends with this process.
fn look(path: &Path) -> Look {
    for _ in 0..LOOKS {
        let (sender, answer) = mpsc::channel();
        let asked = path.to_owned();
        let ask = move || {
            // The receiver is gone if the reply is late.
            let _ = sender.send(statfs(&asked).map(drop).map_err(io::Error::from));
        };
        if thread::Builder::new().name("mount-look".to_owned()).spawn(ask).is_err() {
            return Look::Silent;
        }
        match answer.recv_timeout(LIFE_SIGN) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotConnected => return Look::Dead,
            // The abort of the connection was in progress.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Ok(_) => return Look::Live,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Look::Silent,
        }
    }
    Look::Live
}

/// Warns of files in the directory that the tree will hide.
pub(super) fn warn_of_hidden(path: &Path) {
    let Ok(entries) = path.read_dir() else { return };
    let mut entries = entries.take(COUNTED_MAX).filter_map(Result::ok);
    let Some(first) = entries.next() else { return };
    let more = match entries.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    log::warn!(
        target: "fuse",
        "the mount point {} is not empty: '{}'{more} cannot be reached while the tree is mounted",
        path.display(),
        first.file_name().to_string_lossy()
    );
}
