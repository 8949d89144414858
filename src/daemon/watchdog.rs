//! Feeds the service manager's watchdog, for as long as the daemon really answers: a process of its own,
//! the probe, asks the service and reads a file of the tree, as any client does, and reports what worked.
//! While another process holds the service's name, the tree alone counts: to kill the daemon would take
//! away the tree and not bring back the name. The same holds while other processes flood the service with connects:
//! if the probe gets no turn, the daemon is alive as long as it works through that queue.
//!
//! It is a process because the daemon must never use its own tree: a thread that waits for an answer
//! which its own process owes cannot even be killed. For the same reason nobody waits for the probe to
//! end. It decides nothing: what happens to a daemon that no longer answers is up to the manager.

use super::availability::Availability;
use super::notify::{self, Manager};
use crate::clock::Clock;
use crate::ipc::ops::Op;
use crate::ipc::qb::Clients;
use crate::ipc::qb::client::{Client, ClientError};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Set in the environment of the probe: the daemon's pid.
const PROBE_MARK: &str = "PMXCFS_PROBE_OF";

/// The program that runs, also after an upgrade has put another in its place.
const PROGRAM: &str = "/proc/self/exe";

/// What process lists call it: nobody looks for the daemon under that.
const PROBE_NAME: &str = "cfs-probe";

/// So many probes fit into the time that the manager gives, so that a late one does no harm.
const PROBES_PER_INTERVAL: u32 = 3;

/// A probe that ended is started again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// Least pause between two probes, however long the last one took.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Report of the probe: service and tree responded.
const ANSWERED: u8 = b'1';

/// Report of the probe: the tree responded, the service did not.
const TREE_ONLY: u8 = b't';

/// Report of the probe: the tree responded, and the probe could not connect to the service in time.
const NOT_CONNECTED: u8 = b'c';

/// Peers accepted between two reports that show an accepting thread at work on a long queue.
const QUEUE_PROGRESS: u64 = 64;

/// What the probe asks for is short.
const MESSAGE_SIZE: u32 = 8192;

/// What is probed, and how often.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the service.
    pub service: String,
    /// Where the tree is mounted.
    pub mount_point: PathBuf,
    /// The manager's interval.
    pub interval: Duration,
}

/// The running watchdog; ends when dropped.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    probe: Mutex<Option<Child>>,
}

impl Watchdog {
    /// Starts to feed. The status in the manager is kept up to date along the way.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(
        target: Target,
        manager: Arc<Manager>,
        availability: Arc<Availability>,
        clients: Clients,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watchdog = Self { shared: Arc::clone(&shared) };
        // The probe is told of the end of this thread, which lives as long as the process.
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut feed = Feed { manager, availability, clients, accepted: 0, status: String::new() };
            loop {
                if let Err(error) = shared.probe_until_it_ends(&target, &mut feed) {
                    log::warn!(target: "main", "unable to start the watchdog's probe: {error}");
                }
                std::thread::sleep(PAUSE);
                if shared.stopping.load(Ordering::Acquire) {
                    break;
                }
            }
        })?;
        Ok(watchdog)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(probe) = self.shared.probe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // Fails only when it has ended.
            let _ = probe.kill();
        }
    }
}

impl Shared {
    fn probe_until_it_ends(&self, target: &Target, feed: &mut Feed) -> io::Result<()> {
        let Some(reports) = self.start_probe(target)? else { return Ok(()) };
        // One report is one byte; whatever else ends the loop, the probe has ended.
        for report in io::BufReader::new(reports).bytes() {
            let Some(is_alive) = report.ok().and_then(|report| feed.is_alive(report)) else { break };
            if is_alive {
                feed.answered();
            }
        }
        Ok(())
    }

    /// None when the watchdog is stopping.
    fn start_probe(&self, target: &Target) -> io::Result<Option<ChildStdout>> {
        let mut place = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = place.as_mut() {
            // Reaped, but never waited for.
            last.try_wait()?;
        }
        if self.stopping.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut probe = notify::hide_from(&mut Command::new(PROGRAM))
            .arg0(PROBE_NAME)
            .arg(&target.service)
            .arg(&target.mount_point)
            .arg((target.interval / PROBES_PER_INTERVAL).as_micros().to_string())
            .env(PROBE_MARK, std::process::id().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let reports = probe.stdout.take();
        *place = Some(probe);
        Ok(reports)
    }
}

/// Whether a report shows a daemon that is alive; `None` if it is no report.
fn is_alive(report: u8, has_name: bool, accepted: u64) -> Option<bool> {
    match report {
        ANSWERED => Some(true),
        TREE_ONLY => Some(!has_name),
        NOT_CONNECTED => Some(!has_name || accepted >= QUEUE_PROGRESS),
        _ => None,
    }
}

/// What follows from an answer.
struct Feed {
    manager: Arc<Manager>,
    availability: Arc<Availability>,
    clients: Clients,
    /// Peers accepted until the last report.
    accepted: u64,
    status: String,
}

impl Feed {
    fn is_alive(&mut self, report: u8) -> Option<bool> {
        let before = std::mem::replace(&mut self.accepted, self.clients.accepted());
        is_alive(report, self.availability.has_name(), self.accepted.saturating_sub(before))
    }

    fn answered(&mut self) {
        self.manager.alive();
        let status = self.availability.status();
        if status != self.status {
            self.manager.status(&status);
            self.status = status;
        }
    }
}

/// In a process that a [`Watchdog`] made: its whole life. Returns at once in any other.
pub fn run_if_probe() -> bool {
    let Some(daemon) = std::env::var(PROBE_MARK).ok().and_then(|pid| pid.parse().ok()) else { return false };
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [service, mount_point, interval] = arguments.as_slice() else { return false };
    let Some(interval) = interval.to_str().and_then(|text| text.parse().ok()) else { return false };
    if let Err(error) = probe(Pid::from_raw(daemon), service, Path::new(mount_point), interval) {
        log::error!(target: "main", "the watchdog's probe ends: {error}");
    }
    true
}

fn probe(daemon: Pid, service: &OsStr, mount_point: &Path, microseconds: u64) -> io::Result<()> {
    // Whatever is sent to the daemon's process group or session is not for the probe; nothing of a
    // client that may be stuck in the tree is worth more than its end.
    SigSet::all().thread_block()?;
    prctl::set_name(c"cfs-probe")?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let (service, interval) = (service.to_string_lossy(), Duration::from_micros(microseconds));
    let mut reports = io::stdout();
    // A daemon that died before the kernel knew that somebody cares has another parent in its place.
    while getppid() == daemon {
        let clock = Clock::start();
        if let Some(report) = report(&service, mount_point, interval) {
            reports.write_all(&[report])?;
            reports.flush()?;
        }
        std::thread::sleep(interval.saturating_sub(clock.uptime()).max(PAUSE_MIN));
    }
    Ok(())
}

/// Queries service and tree; `None` if the tree did not respond.
fn report(service: &str, mount_point: &Path, limit: Duration) -> Option<u8> {
    let asked = ask_service(service, limit);
    match &asked {
        // Another process has the name; the daemon logs that.
        Ok(()) | Err(Unanswered::Service { source: ClientError::Untrusted(_), .. }) => {}
        Err(error) => log::warn!(target: "main", "the watchdog's probe fails: {error}"),
    }
    match read_tree(mount_point) {
        Ok(()) => Some(match asked {
            Ok(()) => ANSWERED,
            Err(Unanswered::Connect { .. }) => NOT_CONNECTED,
            Err(_) => TREE_ONLY,
        }),
        Err(error) => {
            log::warn!(target: "main", "the watchdog is not fed: {error}");
            None
        }
    }
}

/// Why the daemon counts as not answering.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the service '{service}' does not answer: {source}")]
    Service { service: String, source: ClientError },
    #[error("the service '{service}' accepts no connection in time")]
    Connect { service: String },
    #[error("the service '{service}' answers with error {error}")]
    Refused { service: String, error: i32 },
    #[error("'{path}' cannot be read: {source}")]
    Tree { path: PathBuf, source: io::Error },
}

fn ask_service(service: &str, limit: Duration) -> Result<(), Unanswered> {
    let failed = |source| Unanswered::Service { service: service.to_owned(), source };
    match Client::connect(service, MESSAGE_SIZE, limit) {
        Ok(mut client) => {
            let answer = client.request(Op::GetFsVersion.id(), &[], Some(limit)).map_err(failed)?;
            match answer.error {
                0 => Ok(()),
                error => Err(Unanswered::Refused { service: service.to_owned(), error }),
            }
        }
        // Full of clients, which is an answer: to end them all would help nobody.
        Err(ClientError::Refused(_)) => Ok(()),
        Err(ClientError::TimedOut) => Err(Unanswered::Connect { service: service.to_owned() }),
        Err(error) => Err(failed(error)),
    }
}

fn read_tree(mount_point: &Path) -> Result<(), Unanswered> {
    // Without a limit: there is none for a file. A probe that waits here reports nothing.
    let path = mount_point.join(".version");
    match fs::read(&path) {
        Ok(text) if !text.is_empty() => Ok(()),
        Ok(_) => Err(Unanswered::Tree { path, source: io::ErrorKind::UnexpectedEof.into() }),
        Err(source) => Err(Unanswered::Tree { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_alone_counts_only_without_the_name() {
        assert_eq!(is_alive(ANSWERED, true, 0), Some(true));
        assert_eq!(is_alive(ANSWERED, false, 0), Some(true));
        assert_eq!(is_alive(TREE_ONLY, true, 1000), Some(false), "the service hangs");
        assert_eq!(is_alive(TREE_ONLY, false, 0), Some(true));
        assert_eq!(is_alive(b'x', false, 0), None);
    }

    #[test]
    fn flooded_service_counts_while_it_accepts() {
        assert_eq!(is_alive(NOT_CONNECTED, true, 1000), Some(true));
        assert_eq!(is_alive(NOT_CONNECTED, true, 1), Some(false), "only the probe itself was accepted");
        assert_eq!(is_alive(NOT_CONNECTED, false, 0), Some(true));
    }
}
