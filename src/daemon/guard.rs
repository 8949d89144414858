//! A small second process that outlives a killed daemon by a moment, to release who waits for it.
//!
//! The kernel gives up a mounted tree when the last thread of its daemon is gone. But a thread that
//! tells the kernel to drop a name may be waiting, unkillable, for a directory that a client has
//! locked, while that client waits for an answer of the daemon: killed at that moment, neither ever
//! ends, nor does the service manager learn of the death. So when the daemon's main thread dies
//! without having stopped the guard, the guard aborts the mount, which answers all who wait.
//!
//! The guard never touches another process's mount, and does nothing at an orderly stop. A device number does
//! not identify a mount for long: the next daemon's tree often gets the same number. So the guard aborts the
//! mount only while the killed daemon still exists. It unmounts a dead tree only with the daemon's lock,
//! which keeps the next daemon from starting meanwhile.

use super::notify;
use crate::clock::Clock;
use crate::dir;
use crate::fuse::{has_tree, is_dead, mounted_device};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Set in the environment of the guard: the daemon's pid.
const GUARD_MARK: &str = "PMXCFS_GUARD_OF";

/// What process lists call it: nobody looks for the daemon under that.
const GUARD_NAME: &str = "cfs-guard";

/// Sent by the kernel when the daemon's main thread is gone.
const DEATH_SIGNAL: Signal = Signal::SIGUSR1;

/// Time for the threads of a killed daemon to end, and the pause between two checks.
const DYING_MAX: Duration = Duration::from_millis(200);
const DYING_PAUSE: Duration = Duration::from_millis(2);

/// The running guard; stopped when dropped.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts the guard of the tree mounted at `mount_point`, for a daemon that holds a lock on `lock_file`. Call
    /// this from the main thread: the guard is notified of the end of the calling thread.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn start(mount_point: &Path, lock_file: &Path) -> io::Result<Self> {
        let child = notify::hide_from(&mut Command::new(std::env::current_exe()?))
            .arg0(GUARD_NAME)
            .arg(mount_point)
            .arg(lock_file)
            .env(GUARD_MARK, std::process::id().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a process that [`Guard::start`] made: its whole life. Returns at once in any other.
pub fn run_if_guard() -> bool {
    let Some(daemon) = std::env::var(GUARD_MARK).ok().and_then(|pid| pid.parse().ok()) else { return false };
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(mount_point), Some(lock_file)) = (arguments.next(), arguments.next()) else { return false };
    if let Err(error) = guard(Pid::from_raw(daemon), &mount_point, &lock_file) {
        log::error!("guarding '{}': {error}", mount_point.display());
    }
    true
}

fn guard(daemon: Pid, mount_point: &Path, lock_file: &Path) -> nix::Result<()> {
    // Whatever else is sent to the daemon's process group or session is not for the guard.
    SigSet::all().thread_block()?;
    // A name that does not match the daemon's: `killall pmxcfs` must not take the guard with it.
    prctl::set_name(c"cfs-guard")?;
    let guarded = mounted_device(mount_point);
    prctl::set_pdeathsig(DEATH_SIGNAL)?;
    // The daemon may have died before the kernel knew that somebody cares.
    if getppid() == daemon {
        SigSet::from_iter([DEATH_SIGNAL]).wait()?;
    }
    let is_mounted = || guarded.is_some() && mounted_device(mount_point) == guarded && has_tree(mount_point);
    if is_stuck(daemon) {
        if is_mounted() {
            log::error!("pmxcfs was killed: aborting its mount '{}'", mount_point.display());
            abort_mount(mount_point);
        }
    } else if let Some(_lock) = lock(lock_file) {
        if is_mounted() && is_dead(mount_point) {
            log::error!("pmxcfs was killed: unmounting its tree '{}'", mount_point.display());
            abort_mount(mount_point);
        }
    }
    Ok(())
}

/// Waits briefly for the threads of a killed daemon to end. Returns true if some cannot end.
fn is_stuck(daemon: Pid) -> bool {
    let tasks = PathBuf::from(format!("/proc/{daemon}/task"));
    let has_threads = || fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() > 1);
    let stat = format!("/proc/{daemon}/stat");
    let clock = Clock::start();
    while has_threads() && is_dying(&fs::read_to_string(&stat).unwrap_or_default()) {
        if clock.uptime() > DYING_MAX {
            return true;
        }
        std::thread::sleep(DYING_PAUSE);
    }
    false
}

/// Takes the lock of the killed daemon; `None` if another process has it. That process then handles the
/// mount.
fn lock(path: &Path) -> Option<Flock<File>> {
    let file = dir::open_file(path).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Answers everybody who waits for the tree mounted at `mount_point` with an error, and unmounts it if
/// nobody uses it.
fn abort_mount(mount_point: &Path) {
    // In use is no failure: the abort comes first. Any other error means that there is no mount.
    let _ = umount2(mount_point, MntFlags::MNT_FORCE);
}

/// Aborts the mount of a daemon that was killed together with its guard, so that it can end and let
/// go of its lock. Does nothing while the daemon lives.
pub fn abort_mount_of_dead(pid_file: &Path, mount_point: &Path) {
    let text = dir::read_file(pid_file).ok().and_then(|text| String::from_utf8(text).ok());
    let pid = text.and_then(|text| text.trim().parse::<u32>().ok());
    let dead =
        pid.is_some_and(|pid| is_dying(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()));
    if dead && has_tree(mount_point) {
        log::warn!("aborting the mount '{}' of a killed daemon that cannot end", mount_point.display());
        abort_mount(mount_point);
    }
}

/// Whether a line of `/proc/PID/stat` is that of a process whose main thread has ended.
fn is_dying(stat: &str) -> bool {
    // The name in front may hold anything, parentheses too.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_ended_is_dying() {
        assert!(is_dying("12 (pm) xcfs) Z 1 12"));
        assert!(!is_dying("12 (pm Z) S 1 12"));
        assert!(!is_dying(""));
    }
}
