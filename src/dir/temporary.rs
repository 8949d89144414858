//! Temporary files of a tool, removed when SIGHUP, SIGINT or SIGTERM ends it. Without [`remove_on_signals`] nothing is
//! registered: the daemon handles its signals itself.
//!
//! A thread waits for the signals, which all other threads block. It removes what is registered, and then ends the
//! process by the same signal, so that a shell or a service manager sees the signal as the cause.

use nix::sys::signal::{SigSet, Signal, raise};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Removes one temporary file or directory.
pub(crate) type Removal = Box<dyn FnMut() -> io::Result<()> + Send>;

/// Attempts to remove a directory: another thread can be about to create an entry in it.
const TRIES: u32 = 10;

static IS_WATCHING: AtomicBool = AtomicBool::new(false);
static IS_ENDING: AtomicBool = AtomicBool::new(false);
static REMOVALS: Mutex<Removals> = Mutex::new(Removals { next: 0, of: BTreeMap::new() });

struct Removals {
    next: u64,
    of: BTreeMap<u64, Removal>,
}

/// Registration of a temporary file; dropping it ends the registration.
#[derive(Debug)]
pub(crate) struct Temporary(Option<u64>);

/// Starts the thread. Call this from the main thread before there are others. Ignored signals stay ignored.
///
/// # Errors
/// If the signals cannot be blocked, or the thread cannot be started.
pub fn remove_on_signals() -> io::Result<()> {
    let ignored = ignored_signals()?;
    let all = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];
    let signals =
        SigSet::from_iter(all.into_iter().filter(|signal| ignored & (1 << (*signal as u64 - 1)) == 0));
    signals.thread_block()?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || end_by(signals))?;
    IS_WATCHING.store(true, Ordering::Relaxed);
    Ok(())
}

/// Creates a temporary file and registers its removal. The lock on the registry makes a signal wait until both are
/// done.
pub(crate) fn make<T>(
    make: impl FnOnce() -> io::Result<T>,
    removal: impl FnOnce(&T) -> io::Result<Removal>,
) -> io::Result<(T, Temporary)> {
    if !IS_WATCHING.load(Ordering::Relaxed) {
        return Ok((make()?, Temporary(None)));
    }
    let mut removals = lock();
    let made = make()?;
    let number = removals.next;
    removals.next += 1;
    removals.of.insert(number, removal(&made)?);
    Ok((made, Temporary(Some(number))))
}

/// Blocks forever if a signal is ending the process: no new entries may appear in a directory that is removed.
pub(crate) fn wait_if_ending() {
    while IS_ENDING.load(Ordering::Relaxed) {
        thread::park();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(number) = self.0 {
            lock().of.remove(&number);
        }
    }
}

fn lock() -> MutexGuard<'static, Removals> {
    REMOVALS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_by(signals: SigSet) {
    let Ok(signal) = signals.wait() else { return };
    IS_ENDING.store(true, Ordering::Relaxed);
    // This thread keeps the lock until the process ends, so no other thread can register a removal.
    let mut removals = lock();
    for removal in removals.of.values_mut() {
        // Only leftovers that other users cannot read remain after a failure.
        let _ = (0..TRIES).find(|_| removal().is_ok());
    }
    let ended = SigSet::from_iter([signal]).thread_unblock().and_then(|()| raise(signal));
    // A signal that is not ignored ends the process before this.
    let _ = ended.and_then(|()| raise(Signal::SIGKILL));
}

/// Set of signals that this process ignores, one bit each, as a shell's `nohup` sets it.
fn ignored_signals() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.ok_or_else(|| io::Error::other("/proc/self/status does not list the ignored signals"))
}
