//! What ends the daemon: signals, and the tree being unmounted by somebody else. It only reports.

use nix::sys::signal::{SigSet, Signal};
use std::sync::mpsc::{self, Receiver, Sender};

/// Why the daemon stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It was told to.
    Signal(Signal),
    /// The tree is no longer mounted.
    Unmounted,
}

fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// Keeps the signals that stop the daemon from doing so before it is ready to. Threads inherit this,
/// so it is called before the first one is made.
///
/// # Errors
/// The system's word; none is known for valid signal numbers.
pub fn hold() -> nix::Result<()> {
    stop_signals().thread_block()
}

/// Starts to wait for signals. The sender is for whoever else can end the daemon.
///
/// # Errors
/// When no thread can be made.
pub fn watch() -> std::io::Result<(Sender<StopReason>, Receiver<StopReason>)> {
    let (sender, receiver) = mpsc::channel();
    let reports = sender.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        // The thread lives as long as the process; when nobody listens any more it is on its way out.
        while let Ok(signal) = stop_signals().wait() {
            if reports.send(StopReason::Signal(signal)).is_err() {
                break;
            }
        }
    })?;
    Ok((sender, receiver))
}
