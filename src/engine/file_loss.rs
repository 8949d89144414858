//! Loss of the database file under the engine: deleted, moved, replaced, or hidden by a mount. A thread compares the
//! paths with the open files once a second. While the file is lost, changes are refused, and the whole tree is saved
//! as a new database beside the path. Files that other programs put at the path are neither read nor changed.

use super::{EngineError, EngineInner, OpenError};
use crate::clock::utc_for_name;
use crate::dir::Dir;
use crate::memdb::Batch;
use crate::store::{FileWatch, Loss, Rescued, Store, StoreError, rescue};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// A lost database file, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLoss {
    pub loss: Loss,
    /// Copy of the tree.
    pub rescued: Option<PathBuf>,
}

/// State of the file, shared by the watch thread, the commit thread and reports.
#[derive(Debug)]
pub(super) struct FileGuard {
    watch: FileWatch,
    is_lost: AtomicBool,
    /// Version that the next start finds at the path although the file is lost.
    version_at_path: AtomicU64,
    state: Mutex<State>,
    /// Directory for the copy if none at the path takes it.
    spare: OnceLock<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    loss: Option<Loss>,
    /// The copy, and its version.
    rescued: Option<(Rescued, u64)>,
}

/// Fate of the tree of a lost file, in words for the log.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The file at the path contains the whole tree.
    AtPath,
    /// A copy was made.
    Saved(PathBuf),
    Failed(StoreError),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtPath => {
                write!(f, "nothing is lost, the file at the path has all changes; restart pmxcfs")
            }
            Self::Saved(path) => write!(
                f,
                "all changes are saved in '{}'; bring the file back, or stop pmxcfs, run 'pmxcfs-db restore' with the copy, and start it",
                path.display()
            ),
            Self::Failed(error) => {
                write!(
                    f,
                    "its contents are only in memory, do not stop pmxcfs before they are saved: {error}"
                )
            }
        }
    }
}

impl FileGuard {
    pub(super) fn new(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            watch: store.file_watch()?,
            is_lost: AtomicBool::new(false),
            version_at_path: AtomicU64::new(0),
            state: Mutex::default(),
            spare: OnceLock::new(),
        })
    }

    pub(super) fn set_spare(&self, dir: PathBuf) {
        // Only the first one counts.
        let _ = self.spare.set(dir);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    pub(super) fn loss(&self) -> Option<Loss> {
        if self.is_lost() { self.lock().loss } else { None }
    }

    pub(super) fn version_at_path(&self) -> u64 {
        self.version_at_path.load(Ordering::Acquire)
    }

    pub(super) fn report(&self) -> Option<FileLoss> {
        let state = self.lock();
        let rescued = state.rescued.as_ref().map(|(rescued, _)| rescued.path.clone());
        Some(FileLoss { loss: state.loss?, rescued })
    }

    /// Compares the paths with the files. Returns true if the result differs from the last one.
    fn check(&self) -> bool {
        let Ok(loss) = self.watch.check() else { return false };
        let mut state = self.lock();
        if state.loss == loss {
            return false;
        }
        state.loss = loss;
        self.version_at_path.store(0, Ordering::Release);
        self.is_lost.store(loss.is_some(), Ordering::Release);
        true
    }

    /// Makes sure that the tree is in a file that an admin finds. `is_in_own_file`: the lost file contains all of it,
    /// and its log is empty.
    pub(super) fn secure(&self, inner: &EngineInner, loss: Loss, is_in_own_file: bool) -> Outcome {
        let version = inner.read().version();
        if loss == Loss::LogGone && is_in_own_file {
            self.version_at_path.store(version, Ordering::Release);
            return Outcome::AtPath;
        }
        if let Some((rescued, saved)) = &self.lock().rescued {
            if *saved == version && rescued.exists() {
                return Outcome::Saved(rescued.path.clone());
            }
        }
        let tree = inner.read().whole();
        match self.save(&tree, inner.clock.unix()) {
            Err(error) => Outcome::Failed(error),
            Ok(rescued) => {
                let path = rescued.path.clone();
                let before = self.lock().rescued.replace((rescued, tree.version));
                if let Some((before, _)) = before {
                    before.remove();
                }
                Outcome::Saved(path)
            }
        }
    }

    /// The path of the copy that is no longer needed, once the file is back.
    pub(super) fn take_rescued(&self) -> Option<PathBuf> {
        self.lock().rescued.take().map(|(rescued, _)| rescued.path)
    }

    fn save(&self, tree: &Batch, now: u32) -> Result<Rescued, StoreError> {
        let site = self.watch.site();
        let mut name = site.name().to_owned();
        name.push(format!(".rescued-{}", utc_for_name(now)));
        let beside = [Dir::open(site.dir().path()), site.dir().try_clone()];
        let spare = self.spare.get().map(PathBuf::as_path);
        let last = spare.map(Dir::open);
        let targets = beside.into_iter().chain(last).filter_map(io::Result::ok).collect();
        let work: Vec<&Path> = spare.into_iter().chain([site.dir().path()]).collect();
        rescue(tree, now, &name, targets, &work)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EngineInner {
    /// Checks the file. If it was lost, changes are refused immediately; the commit thread does the rest, now or when
    /// the file is back.
    pub(super) fn check_file(&self) {
        if self.file.check() {
            if self.file.is_lost() && self.write_state.fail(&EngineError::Storage) {
                self.on_write_state();
            }
            self.queue.commit_at(self.clock.uptime());
        }
    }
}

/// The thread that checks the file.
#[derive(Debug)]
pub(super) struct Watcher {
    thread: JoinHandle<()>,
    _alive: SyncSender<()>,
}

impl Watcher {
    pub(super) fn start(inner: Arc<EngineInner>) -> Result<Self, OpenError> {
        let (alive, ended) = sync_channel(1);
        let run = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                inner.check_file();
            }
        };
        let thread = thread::Builder::new().name("file-watch".to_owned()).spawn(run);
        Ok(Self { thread: thread.map_err(OpenError::Thread)?, _alive: alive })
    }

    /// Ends the thread.
    pub(super) fn stop(self) {
        drop(self._alive);
        // It has no result; a panic was reported.
        let _ = self.thread.join();
    }
}
