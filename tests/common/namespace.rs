//! Mount namespaces of single threads. Mounts made there are visible to the thread and the processes that it
//! starts, and vanish with the last of them.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir};
use std::cell::Cell;

/// Moves the calling thread into a mount namespace of its own, and into the other new namespaces of `more`.
/// Fails with EPERM without the rights of root.
pub fn enter(more: CloneFlags) -> nix::Result<()> {
    unshare(more | CloneFlags::CLONE_NEWNS)?;
    make_mounts_private()
}

/// As [`enter`], but once for each thread.
pub fn enter_once() {
    thread_local!(static ENTERED: Cell<bool> = const { Cell::new(false) });
    if !ENTERED.replace(true) {
        enter(CloneFlags::empty()).expect("a mount namespace; this needs root");
    }
}

/// Stops propagation between this mount namespace and the one it was copied from.
///
/// In a plain chroot `/` is no mount point, and has no propagation of its own. To set that of the mounts above,
/// the thread joins its own namespace again, which moves its root to the top, and then returns.
fn make_mounts_private() -> nix::Result<()> {
    let place = |path| open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let (root, work) = (place("/")?, place(".")?);
    let namespace = open("/proc/thread-self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    setns(&namespace, CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    fchdir(&root)?;
    chroot(".")?;
    fchdir(&work)
}
