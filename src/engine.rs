//! Engine of the tree: the one way of a change, from submit to reply. One writer, many readers, group commit.
//!
//! A local change is applied in memory by the calling thread; a replicated change is applied when the group
//! delivers it. A commit stores all changes since the last commit in one transaction, so the file always holds
//! the complete state of one version. Only the thread with the commit permit commits. A caller that finds the
//! permit free commits itself; all others leave the commit to the commit thread. Durable changes are replied to
//! after their commit, all others immediately; see [`Engine::submit`]. A commit survives a crash of the process.
//! A power failure may lose it before [`Engine::fsync`] has replied, or [`SYNC_DELAY`] has passed. No lock that
//! readers need is held during disk I/O or during a callback, so readers never wait for the disk.
//! The rules of the tree are in [`crate::memdb`].

mod batch_writer;
mod change_listeners;
mod checkpoints;
mod commit;
mod commit_queue;
mod file_loss;
mod incremental_digest;
mod local;
mod log_bound;
mod pending;
mod replicated;
mod sync_queue;
mod write_state;

pub use change_listeners::ChangeListener;

use crate::clock::Clock;
use crate::counts::Count;
use crate::dcdb::Refused;
use crate::dfsm::SendError;
use crate::memdb::{
    Applied, Change, ChangeError, Fingerprint, Inode, Limits, LoadError, MemDb, NUMBER_MAX,
    SOUND_VERSION_MAX, Stamp, TreePath,
};
use crate::store::{Store, StoreError};
use batch_writer::BatchWriter;
use change_listeners::ChangeListeners;
use commit::Committer;
use commit_queue::CommitQueue;
pub use file_loss::FileLoss;
use file_loss::{FileGuard, Watcher};
pub use pending::{PENDING_TIMEOUT, PendingChanges, PendingTable, Rejection};
pub use replicated::{GroupClosed, Invalidate, Notify, Proposal, Proposer, Replica};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
pub use sync_queue::SYNC_DELAY;
use sync_queue::SyncQueue;
use thiserror::Error;
use write_state::WriteState;

/// Called once with what became of a change; without any lock held.
pub type ChangeCallback = Box<dyn FnOnce(Result<Applied, EngineError>) + Send>;

/// Called once when everything is on disk, or cannot be; without any lock held.
pub type CommitCallback = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

/// Why a change was not made, or is not on disk.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The rules of the tree refuse it.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The last commit failed. The log has the cause; until a later one succeeds nothing is changed.
    #[error("the database cannot be written at present; see the log")]
    Storage,
    /// As [`EngineError::Storage`]; the cause is a full file system.
    #[error("no space left on the file system of the database; see the log")]
    NoSpace,
    /// [`Engine::close`] was called.
    #[error("the database is closed")]
    Closed,
    /// The group that makes the changes refuses it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The outcome of the change is not known: its message was not delivered back.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The change was not delivered back in time. It may still be made.
    #[error("the cluster did not answer in time")]
    TimedOut,
    /// The change was applied here, but not stored before a resync replaced the tree.
    #[error("a resync replaced the local database, and the leader may lack the change")]
    TreeReplaced,
}

/// Why a database cannot be used at all.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "unable to load database '{0}': {error}; 'pmxcfs-db check {0}' lists all that is wrong with it, \
         'pmxcfs-db repair {0}' what can be done",
        path.display()
    )]
    Load {
        /// The database file.
        path: PathBuf,
        /// What is wrong with its rows.
        error: LoadError,
    },
    #[error("unable to start a thread for the database: {0}")]
    Thread(io::Error),
}

/// What the commit thread did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitStats {
    /// Transactions on disk.
    pub commits: u64,
    /// Rows stored by them, version rows included.
    pub rows: u64,
    /// Bytes of files in these rows.
    pub bytes: u64,
    /// Transactions that failed.
    pub failures: u64,
}

/// How large the files of a database are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSizes {
    /// The database.
    pub database: u64,
    /// What was committed and is not in it yet.
    pub log: u64,
}

/// An open database.
#[derive(Debug)]
pub struct Engine {
    inner: Arc<EngineInner>,
    committer: Mutex<Option<JoinHandle<Result<(), EngineError>>>>,
    watcher: Mutex<Option<Watcher>>,
}

/// State that callers and the commit thread share. The locks of `tree` and `queue` are never held
/// together.
#[derive(Debug)]
struct EngineInner {
    clock: Clock,
    path: PathBuf,
    tree: RwLock<MemDb>,
    queue: CommitQueue,
    syncs: Arc<SyncQueue>,
    /// Locked only by the thread that has the commit permit. None once it is closed.
    writer: Mutex<Option<BatchWriter>>,
    listeners: ChangeListeners,
    /// The group that makes the changes; unset in local mode.
    proposer: OnceLock<Box<dyn Proposer>>,
    pending: PendingChanges,
    /// The version on disk.
    committed: AtomicU64,
    /// If the last commit failed, the tree is not on disk.
    write_state: WriteState,
    /// Detects a lost database file: the path no longer leads to the open file.
    file: FileGuard,
    /// Generation of the tree for which the log has the last warning of lost changes.
    tree_generation_logged: AtomicU64,
    /// The log has a line about the last version.
    last_version_logged: AtomicBool,
    commits: Count,
    rows: Count,
    bytes: Count,
    failures: Count,
}

impl Engine {
    /// Loads all of `store` and starts the threads that write to it.
    pub fn open(store: Store, clock: Clock) -> Result<Self, OpenError> {
        Self::open_with_delay(store, clock, SYNC_DELAY)
    }

    /// [`Engine::open`] with another time than [`SYNC_DELAY`].
    pub fn open_with_delay(store: Store, clock: Clock, sync_delay: Duration) -> Result<Self, OpenError> {
        let now = clock.uptime();
        let tree = store
            .load(|rows| MemDb::load(rows, now))?
            .map_err(|error| OpenError::Load { path: store.path().to_owned(), error })?;
        warn_if_few_versions_left(&tree, store.path());
        // A table without a version row gets one with the first commit.
        let is_stored = tree.is_clean();
        let path = store.path().to_owned();
        let syncs = Arc::new(SyncQueue::new(clock, sync_delay));
        let file = FileGuard::new(&store)?;
        let writer = BatchWriter::new(store, &syncs)?;
        let inner = Arc::new(EngineInner {
            clock,
            path,
            committed: AtomicU64::new(if is_stored { tree.version() } else { 0 }),
            tree: RwLock::new(tree),
            queue: CommitQueue::default(),
            syncs,
            writer: Mutex::new(Some(writer)),
            listeners: ChangeListeners::default(),
            proposer: OnceLock::new(),
            pending: PendingChanges::new(clock),
            write_state: WriteState::default(),
            file,
            tree_generation_logged: AtomicU64::new(0),
            last_version_logged: AtomicBool::new(false),
            commits: Count::default(),
            rows: Count::default(),
            bytes: Count::default(),
            failures: Count::default(),
        });
        if !is_stored {
            inner.queue.commit_soon(clock);
        }
        let watcher = Watcher::start(Arc::clone(&inner))?;
        let committer = Committer::new(Arc::clone(&inner));
        let thread = thread::Builder::new().name("commit".to_owned());
        let thread = thread.spawn(move || committer.run()).map_err(OpenError::Thread)?;
        Ok(Self { inner, committer: Mutex::new(Some(thread)), watcher: Mutex::new(Some(watcher)) })
    }

    /// The tree as it is now, on disk or not. Hold it briefly: changes wait for it.
    pub fn read(&self) -> RwLockReadGuard<'_, MemDb> {
        self.inner.read()
    }

    /// From now on `observer` is told of every change, under the lock of the tree: no reader sees the
    /// tree without it having been told. It must not wait, and must not use this database.
    pub fn observe(&self, observer: ChangeListener) {
        self.inner.listeners.add(observer);
    }

    /// Makes a change: through the group if there is one (see [`Engine::replicate_by`]), else locally. `done`
    /// is called exactly once, from any thread, possibly from this one before this returns.
    ///
    /// A local change is applied or refused before this returns. At most one thread at a time blocks on the
    /// disk in here.
    pub fn submit(&self, change: Change, done: ChangeCallback) {
        match self.inner.proposer.get() {
            None => self.inner.submit_local(change, done),
            Some(proposer) => self.inner.submit_replicated(proposer.as_ref(), change, done),
        }
    }

    /// Pending changes of the group.
    pub fn pending(&self) -> &PendingChanges {
        &self.inner.pending
    }

    /// Answers when everything that is applied by now is on disk: in this thread, when it already is or
    /// could be stored at once.
    pub fn sync(&self, done: CommitCallback) {
        let (version, fingerprint) = {
            let tree = self.read();
            (tree.version(), tree.fingerprint())
        };
        self.sync_until(version, fingerprint, done);
    }

    /// The same for one entry alone. Of one that is not there nothing is to be stored.
    pub fn sync_entry(&self, inode: Inode, done: CommitCallback) {
        let seen = {
            let tree = self.read();
            tree.get(inode).map(|entry| (entry.version, tree.fingerprint_of(inode)))
        };
        match seen {
            Some((version, fingerprint)) => self.sync_until(version, fingerprint, done),
            None => done(Ok(())),
        }
    }

    fn sync_until(&self, version: u64, fingerprint: Fingerprint, done: CommitCallback) {
        if self.is_stored(version) {
            done(Ok(()));
        } else {
            self.inner.store_now(self.inner.fail_if_tree_replaced(fingerprint, done));
        }
    }

    /// As [`Engine::sync`], but calls `done` once the changes also survive a power failure. Never blocks on the disk
    /// for longer than [`Engine::sync`] does.
    pub fn fsync(&self, done: CommitCallback) {
        self.sync(self.inner.then_sync(done));
    }

    /// As [`Engine::fsync`], for one entry.
    pub fn fsync_entry(&self, inode: Inode, done: CommitCallback) {
        self.sync_entry(inode, self.inner.then_sync(done));
    }

    /// Blocking form of [`Engine::submit`]. Must not be called from a [`ChangeCallback`] or
    /// [`CommitCallback`].
    pub fn submit_wait(&self, change: Change) -> Result<Applied, EngineError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        // Nobody else holds the receiver, and it lives until there is an answer.
        self.submit(change, Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// Blocking form of [`Engine::sync`]. Must not be called from a [`ChangeCallback`] or [`CommitCallback`].
    pub fn sync_wait(&self) -> Result<(), EngineError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.sync(Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// Blocking form of [`Engine::fsync`]. Must not be called from a [`ChangeCallback`] or [`CommitCallback`].
    pub fn fsync_wait(&self) -> Result<(), EngineError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.fsync(Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// Whether the lock directory at `path` has been held too long, by what is known of it since
    /// the daemon started; see [`MemDb::lock_expired`].
    /// In a group that is not for this node to say: the group is asked, and the answer is no.
    pub fn lock_expired(&self, path: &TreePath, checksum: &[u8; 32]) -> bool {
        if let Some(proposer) = self.inner.proposer.get() {
            proposer.request_expiry(path.clone(), *checksum);
            return false;
        }
        let now = self.inner.clock.uptime();
        self.inner.write().is_ok_and(|mut tree| tree.lock_expired(path, checksum, now))
    }

    /// Whether what the tree was at this version is on disk.
    pub fn is_stored(&self, version: u64) -> bool {
        !self.inner.file.is_lost() && self.inner.committed.load(Ordering::Acquire) >= version
    }

    /// Returns true if all transactions so far survive a power failure.
    pub fn is_synced(&self) -> bool {
        self.inner.syncs.is_synced()
    }

    /// Whether changes are refused because the file cannot be written.
    pub fn is_failed(&self) -> bool {
        self.inner.write_state.is_failed()
    }

    /// Returns true if changes are refused because the file system is full.
    pub fn is_out_of_space(&self) -> bool {
        self.inner.write_state.check() == Err(EngineError::NoSpace)
    }

    /// What the commit thread did so far.
    pub fn commit_stats(&self) -> CommitStats {
        CommitStats {
            commits: self.inner.commits.get(),
            rows: self.inner.rows.get(),
            bytes: self.inner.bytes.get(),
            failures: self.inner.failures.get(),
        }
    }

    /// The version on disk, as the next start would find it.
    pub fn stored_version(&self) -> u64 {
        match self.inner.file.is_lost() {
            true => self.inner.file.version_at_path(),
            false => self.inner.committed.load(Ordering::Acquire),
        }
    }

    /// Loss of the file; `None` while its path leads to it.
    pub fn file_loss(&self) -> Option<FileLoss> {
        self.inner.file.report()
    }

    /// Sets the directory for a copy of the tree, if the file is lost and no copy can be made beside its path. Only
    /// the first call counts.
    pub fn set_rescue_dir(&self, dir: PathBuf) {
        self.inner.file.set_spare(dir);
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// How large its files are; 0 for what is not there.
    pub fn file_sizes(&self) -> FileSizes {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut log = self.path().as_os_str().to_owned();
        log.push("-wal");
        FileSizes { database: size(self.path()), log: size(Path::new(&log)) }
    }

    /// Stores what is left and closes the file; the tree can still be read. An error means that
    /// changes were lost, none of them acknowledged as stored.
    pub fn close(&self) -> Result<(), EngineError> {
        if let Some(watcher) = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take() {
            watcher.stop();
            // If the file was lost since the last check, the last commit must save the tree elsewhere.
            self.inner.check_file();
        }
        self.inner.queue.stop();
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread {
            // The last owner was an answer: the commit thread ends by itself after it.
            Some(thread) if thread.thread().id() == thread::current().id() => Ok(()),
            Some(thread) => thread.join().unwrap_or(Err(EngineError::Storage)),
            None => Ok(()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The commit thread has logged what went wrong.
        let _ = self.close();
    }
}

fn warn_if_few_versions_left(tree: &MemDb, path: &Path) {
    let version = tree.version();
    if version > SOUND_VERSION_MAX {
        let (left, file) = (NUMBER_MAX.saturating_sub(version), path.display());
        log::error!(
            target: "database",
            "database '{file}' has version {version}, so only {left} more changes are possible; stop the daemon and run \
             'pmxcfs-db repair --apply {file}'"
        );
    }
}

/// Answers a change that is applied, once it is stored.
fn answer_stored(applied: Applied, done: ChangeCallback) -> CommitCallback {
    Box::new(move |stored| done(stored.map(|()| applied)))
}

/// Whether the reply to this change waits for its commit. Other changes become durable with the next commit:
/// on the flush when the file is closed, or after 50 ms at the latest.
pub fn requires_commit(change: &Change) -> bool {
    match change {
        Change::Mkdir { .. } | Change::Rename { .. } | Change::Delete { .. } | Change::Unlock { .. } => true,
        Change::Create { .. }
        | Change::Write { .. }
        | Change::Truncate { .. }
        | Change::SetMtime { .. }
        | Change::Entry { .. } => false,
    }
}

impl EngineInner {
    fn apply(&self, change: Change, stamp: Stamp, limits: Limits) -> Result<Applied, EngineError> {
        self.check_open()?;
        let now = self.clock.uptime();
        let mut tree = self.write()?;
        let applied = tree.apply(change, stamp, limits, now)?;
        self.listeners.notify(&applied.invalidations);
        Ok(applied)
    }

    /// Logs, once, that the database has reached its last version.
    fn log_last_version(&self, error: &EngineError) {
        if let EngineError::Change(error @ ChangeError::LastVersion { .. }) = error {
            if !self.last_version_logged.swap(true, Ordering::Relaxed) {
                log::error!(target: "database", "no more changes: {error}: '{}'", self.path.display());
            }
        }
    }

    /// Answers a change that need not be stored now, but soon.
    fn answer_unstored(&self, applied: Applied, done: ChangeCallback) {
        self.queue.commit_soon(self.clock);
        done(Ok(applied));
    }

    /// Completes the waiter of a commit after the log was synced.
    fn then_sync(&self, done: CommitCallback) -> CommitCallback {
        let syncs = Arc::clone(&self.syncs);
        Box::new(move |stored| match stored {
            Ok(()) => syncs.wait(done),
            Err(error) => done(Err(error)),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, MemDb> {
        // After a panic during a change, readers continue; changes and commits fail.
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> Result<(), EngineError> {
        if self.queue.is_stopping() {
            return Err(EngineError::Closed);
        }
        self.write_state.check()
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, MemDb>, EngineError> {
        // Poisoned: a change panicked half-way. What it left must not reach the disk.
        self.tree.write().map_err(|_| EngineError::Storage)
    }
}
