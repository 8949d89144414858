//! Mounting and unmounting: what was left on the mount point, the session's threads, and how the
//! daemon learns that the tree was unmounted by somebody else.

use super::adapter::Adapter;
use super::hooks::Hooks;
use super::invalidate::{self, Invalidate};
use super::leftovers::{self, MountError};
use super::mount_table::{mounted_device, topmost};
use super::notifier::Notifier;
use crate::cfs::Cfs;
use crate::fs::{CacheRules, Fs};
use fuser::{Config, Session, SessionACL};
use nix::mount::{MntFlags, MsFlags, umount2};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long the kernel may rely on names and attributes. It is told of every change, so this is only
/// how long a mistake could last.
const CACHE_LIFETIME: Duration = Duration::from_secs(300);

/// Event loops. One at a time may be held by the disk ([`crate::engine`]), so there are at least two. More than
/// there are cores only take turns, each time on another core that has to wake up.
const LOOPS: std::ops::RangeInclusive<usize> = 2..=4;

/// By which the kernel talks to file systems outside of it.
pub(super) const DEVICE: &str = "/dev/fuse";

/// Options of a mount.
pub struct Options {
    /// Lifetime of names and attributes in the kernel.
    pub cache_lifetime: Duration,
    /// Rules for the kernel's caches.
    pub rules: CacheRules,
    /// Event loops.
    pub loops: usize,
    /// Hooks of tests.
    pub hooks: Hooks,
    /// Called once when the tree was unmounted by somebody else than [`Mounted::unmount`].
    pub on_end: Box<dyn FnOnce() + Send>,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            cache_lifetime: CACHE_LIFETIME,
            rules: CacheRules::THIS_MOUNT,
            loops: cores.clamp(*LOOPS.start(), *LOOPS.end()),
            hooks: Hooks::default(),
            on_end: Box::new(|| ()),
        }
    }
}

/// A mounted tree. It is unmounted when this is dropped, but nobody waits for that then.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    /// Device number of the tree.
    device: Option<String>,
    invalidate: Invalidate,
    end: Arc<End>,
}

/// End of the session.
#[derive(Debug, Default)]
struct End {
    asked: AtomicBool,
    ended: Mutex<bool>,
    changed: Condvar,
}

/// Mounts the tree at `path`, which is created if it is missing. The dead tree of a killed daemon is
/// unmounted first.
///
/// # Errors
/// If anything but a dead tree is mounted there, or a system call fails.
pub fn mount(cfs: Arc<Cfs>, path: &Path, options: Options) -> Result<Mounted, MountError> {
    let path = real_path(path)?;
    leftovers::clear(&path)?;
    leftovers::warn_of_hidden(&path);
    let fs = Fs::new(Arc::clone(&cfs), options.rules);
    let invalidate = invalidate::lanes(Arc::clone(&fs));
    let notification = options.hooks.notification.clone();
    let adapter = Adapter::new(fs, invalidate.clone(), options.cache_lifetime, options.hooks, options.rules);
    let (device, copy) = attach(&path)?;
    let notifier = Notifier::new(copy, notification);
    let session = start_session(adapter, device, &path, options.loops)?;
    invalidate.start(notifier)?;
    cfs.watch(invalidate.watcher());
    let end = Arc::<End>::default();
    let device = mounted_device(&path);
    let mounted = Mounted { path, device, invalidate, end: Arc::clone(&end) };
    let invalidate = mounted.invalidate.clone();
    let serve = move || {
        if let Err(error) = session.run() {
            log::error!(target: "fuse", "serving the mounted tree ended: {error}");
        }
        invalidate.stop();
        end.report(options.on_end);
    };
    thread::Builder::new().name("mount".to_owned()).spawn(serve)?;
    Ok(mounted)
}

/// The mount point without links, made if it is not there. The tree that may be mounted on it is not
/// asked.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    std::fs::create_dir_all(parent)?;
    let path = parent.canonicalize()?.join(name);
    if mounted_device(&path).is_none() {
        std::fs::create_dir_all(&path)?;
        return path.canonicalize();
    }
    Ok(path)
}

/// A session on what is mounted here. It is not left to fuser to mount: it would unmount when the session
/// ends, which may be after somebody else has mounted another tree at the same place.
fn start_session(
    adapter: Adapter,
    device: OwnedFd,
    path: &Path,
    loops: usize,
) -> io::Result<Session<Adapter>> {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(loops);
    Session::from_fd(adapter, device, SessionACL::All, config).inspect_err(|_| {
        // Nobody would serve it; the first error is the one to tell.
        let _ = umount2(path, MntFlags::MNT_DETACH);
    })
}

/// The device by which the kernel asks for what is below `path` from now on, and a copy for notifications.
fn attach(path: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let copy = device.try_clone()?;
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        nix::unistd::getuid(),
        nix::unistd::getgid()
    );
    // With the device's name as the source, and no subtype, it shows as the stock daemon's does.
    nix::mount::mount(
        Some(DEVICE),
        path,
        Some("fuse"),
        MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
        Some(options.as_str()),
    )?;
    Ok((device.into(), copy.into()))
}

/// Whether the topmost mount at `path` looks like the tree of a daemon.
pub fn has_tree(path: &Path) -> bool {
    topmost(path).is_some_and(|mount| leftovers::is_tree(&mount))
}

impl Mounted {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// By which the kernel is told of changes that it did not make.
    pub fn invalidate(&self) -> &Invalidate {
        &self.invalidate
    }

    /// Unmounts the tree: immediately for path lookups, later for open files. Returns false if files were
    /// still open after `timeout`.
    pub fn unmount(self, timeout: Duration) -> bool {
        if !self.detach() {
            return true;
        }
        self.end.wait(timeout)
    }

    /// Waits until it is unmounted, by whomever; at most for `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.end.wait(timeout)
    }

    /// Returns false if the tree stays mounted.
    fn detach(&self) -> bool {
        // Only once, and not when it ended: another tree may be mounted here by now.
        if self.end.asked.swap(true, Ordering::AcqRel) || self.end.wait(Duration::ZERO) {
            return true;
        }
        let path = self.path.display();
        if let Some(above) = topmost(&self.path).filter(|mount| Some(&mount.device) != self.device.as_ref()) {
            // An unmount affects the topmost file system.
            log::error!(
                target: "fuse",
                "a file system of type {} from '{}' lies over the tree: the tree stays mounted, without a \
                 daemon; unmount both (umount {path}; umount {path})",
                above.kind,
                above.source
            );
            return false;
        }
        if let Err(error) = umount2(&self.path, MntFlags::MNT_DETACH) {
            log::error!(target: "fuse", "unmounting {path}: {error}");
        }
        true
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.detach();
    }
}

impl End {
    fn report(&self, on_end: Box<dyn FnOnce() + Send>) {
        if !self.asked.load(Ordering::Acquire) {
            on_end();
        }
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, timeout, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
