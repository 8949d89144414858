//! CPU priority of the accepting thread. Any local user can fill the queue of the setup socket, and libqb's clients then
//! fail with EAGAIN, those of root too. So this thread runs before the processes that connect. Threads inherit the
//! priority of the thread that starts them, so threads that serve clients give it up.
#![allow(unsafe_code, reason = "priority of a thread, which nix has no call for")]

use nix::errno::Errno;
use std::sync::atomic::{AtomicI32, Ordering};

/// Nice value of the accepting thread, the lowest one.
const ACCEPTING: i32 = -20;
/// No thread was raised.
const NONE: i32 = i32::MAX;

/// Nice value of the accepting thread before it was raised.
static USUAL: AtomicI32 = AtomicI32::new(NONE);

/// Raises the calling thread.
///
/// # Errors
/// Without `CAP_SYS_NICE` and with a too low `RLIMIT_NICE`.
pub(super) fn raise() -> nix::Result<()> {
    let usual = nice()?;
    set_nice(ACCEPTING)?;
    USUAL.store(usual, Ordering::Relaxed);
    Ok(())
}

/// Gives up the priority that the calling thread inherited from an accepting thread.
pub(super) fn give_up() {
    let usual = USUAL.load(Ordering::Relaxed);
    if usual != NONE {
        // A thread may always lower itself.
        let _ = set_nice(usual);
    }
}

/// Nice value of the calling thread.
fn nice() -> nix::Result<i32> {
    Errno::clear();
    // SAFETY: the call takes only numbers; 0 is the calling thread.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    match Errno::last_raw() {
        0 => Ok(nice),
        errno => Err(Errno::from_raw(errno)),
    }
}

fn set_nice(nice: i32) -> nix::Result<()> {
    // SAFETY: the call takes only numbers; 0 is the calling thread.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}
