//! The shell around the tree: one writer, many readers, and the disk behind them.
//!
//! A change is applied to the tree in memory at once, by the thread that asks. A commit puts what changed
//! on disk: all changes since the last commit in one transaction, so the file always holds the complete
//! state of some version. One thread at a time commits: who needs it does it, when nobody else is at it and
//! nothing is in the way; all others leave it to the commit thread and go on. Durable changes are answered
//! after the commit that contains them, all others at once; see [`Db::submit`]. No lock that readers need is
//! ever held during disk I/O or while somebody is answered, so they never wait for the disk.
//! Which changes are allowed is not decided here, but in [`crate::memdb`].

mod checkpoints;
mod commit;
mod digests;
mod observers;
mod queue;
mod route;
mod writer;

pub use observers::Observer;

use crate::clock::Clock;
use crate::counts::Count;
use crate::dcdb::Refused;
use crate::dfsm::Abandoned;
use crate::memdb::{Applied, Change, ChangeError, Inode, Limits, LoadError, MemDb, Stamp, Trace, TreePath};
use crate::store::{Store, StoreError};
use commit::Committer;
use observers::Observers;
use queue::Queue;
pub use route::{Route, Tell, waits_for_disk};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread::{self, JoinHandle};
use thiserror::Error;
use writer::Writer;

/// Called once with what became of a change; without any lock held.
pub type Done = Box<dyn FnOnce(Result<Applied, DbError>) + Send>;

/// Called once when everything is on disk, or cannot be; without any lock held.
pub type Synced = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// Why a change was not made, or is not on disk.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DbError {
    /// The rules of the tree refuse it.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The last commit failed. The log has the cause; until a later one succeeds nothing is changed.
    #[error("the database cannot be written at present; see the log")]
    Storage,
    /// [`Db::close`] was called.
    #[error("the database is closed")]
    Closed,
    /// The group that makes the changes refuses it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The group did not say what became of the change.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// It was made here, but not stored when the tree of another member took the place of this node's.
    #[error("the cluster's database took the place of this node's, and may not have the change")]
    Replaced,
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
pub struct Db {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<Result<(), DbError>>>>,
}

/// What callers and the commit thread share. The locks of `tree` and `queue` are never held
/// together.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    path: PathBuf,
    tree: RwLock<MemDb>,
    queue: Queue,
    /// For who has the turn that the queue gives. None once it is closed.
    writer: Mutex<Option<Writer>>,
    observers: Observers,
    /// Who makes changes instead of this node alone.
    route: OnceLock<Route>,
    /// The version on disk.
    committed: AtomicU64,
    /// The last commit failed: what is in the tree is not on disk.
    failed: AtomicBool,
    /// Which time of another tree taking its place was the last that the log tells of.
    replaced_told: AtomicU64,
    commits: Count,
    rows: Count,
    bytes: Count,
    failures: Count,
}

impl Db {
    /// Loads all of `store` and starts the threads that write to it.
    pub fn open(store: Store, clock: Clock) -> Result<Self, OpenError> {
        let now = clock.uptime();
        let tree = store
            .load(|rows| MemDb::load(rows, now))?
            .map_err(|error| OpenError::Load { path: store.path().to_owned(), error })?;
        // A table without a version row gets one with the first commit.
        let is_stored = tree.is_clean();
        let path = store.path().to_owned();
        let writer = Writer::new(store)?;
        let shared = Arc::new(Shared {
            clock,
            path,
            committed: AtomicU64::new(if is_stored { tree.version() } else { 0 }),
            tree: RwLock::new(tree),
            queue: Queue::default(),
            writer: Mutex::new(Some(writer)),
            observers: Observers::default(),
            route: OnceLock::new(),
            failed: AtomicBool::new(false),
            replaced_told: AtomicU64::new(0),
            commits: Count::default(),
            rows: Count::default(),
            bytes: Count::default(),
            failures: Count::default(),
        });
        if !is_stored {
            shared.queue.commit_soon(clock);
        }
        let committer = Committer::new(shared.clone());
        let thread = thread::Builder::new().name("commit".to_owned());
        let thread = thread.spawn(move || committer.run()).map_err(OpenError::Thread)?;
        Ok(Self { shared, committer: Mutex::new(Some(thread)) })
    }

    /// The tree as it is now, on disk or not. Hold it briefly: changes wait for it.
    pub fn read(&self) -> RwLockReadGuard<'_, MemDb> {
        // After a panic amidst a change readers go on; nothing is changed or stored any more.
        self.shared.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `observer` is told of every change, under the lock of the tree: no reader sees the
    /// tree without it having been told. It must not wait, and must not use this database.
    pub fn observe(&self, observer: Observer) {
        self.shared.observers.add(observer);
    }

    /// Makes a change: by the group if there is one (see [`Db::replicate_by`]), else as a daemon on its
    /// own does, by nobody's node id, now.
    ///
    /// On its own, `done` is called in this thread, before this returns, when the change is refused, need not
    /// be durable, or could be stored at once; otherwise later, from the commit thread. The change itself
    /// is always made or refused before this returns. One thread at most is held by the disk in here.
    pub fn submit(&self, change: Change, done: Done) {
        if let Some(route) = self.shared.route.get() {
            return match self.check_local(&change) {
                Ok(()) => (route.change)(change, done),
                Err(error) => done(Err(error)),
            };
        }
        let stamp = Stamp { writer: 0, time: self.shared.clock.unix() };
        self.apply_now(change, stamp, Limits::Enforced, done);
    }

    /// The one way into the tree: applies a change whose time and sender are settled.
    fn apply_now(&self, change: Change, stamp: Stamp, limits: Limits, done: Done) {
        let is_durable = is_durable(&change);
        match self.shared.apply(change, stamp, limits) {
            Err(error) => done(Err(error)),
            Ok(applied) if is_durable => self.shared.store_now(answer_stored(applied, done)),
            Ok(applied) => self.shared.answer_unstored(applied, done),
        }
    }

    /// Answers when everything that is applied by now is on disk: in this thread, when it already is or
    /// could be stored at once.
    pub fn sync(&self, done: Synced) {
        let (version, trace) = {
            let tree = self.read();
            (tree.version(), tree.trace())
        };
        self.sync_until(version, trace, done);
    }

    /// The same for one entry alone. Of one that is not there nothing is to be stored.
    pub fn sync_entry(&self, inode: Inode, done: Synced) {
        let seen = {
            let tree = self.read();
            tree.get(inode).map(|entry| (entry.version, tree.trace_of(inode)))
        };
        match seen {
            Some((version, trace)) => self.sync_until(version, trace, done),
            None => done(Ok(())),
        }
    }

    fn sync_until(&self, version: u64, trace: Trace, done: Synced) {
        if self.is_stored(version) {
            done(Ok(()));
        } else {
            self.shared.store_now(self.shared.unless_replaced(trace, done));
        }
    }

    /// [`Db::submit`] for who can wait. Not to be called from a [`Done`] or [`Synced`].
    pub fn submit_wait(&self, change: Change) -> Result<Applied, DbError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        // Nobody else holds the receiver, and it lives until there is an answer.
        self.submit(change, Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(DbError::Closed))
    }

    /// [`Db::sync`] for who can wait. Not to be called from a [`Done`] or [`Synced`].
    pub fn sync_wait(&self) -> Result<(), DbError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.sync(Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(DbError::Closed))
    }

    /// Whether the lock directory at `path` has been held too long, by what is known of it since
    /// the daemon started; see [`MemDb::lock_expired`].
    /// In a group that is not for this node to say: the group is asked, and the answer is no.
    pub fn lock_expired(&self, path: &TreePath, checksum: &[u8; 32]) -> bool {
        if let Some(route) = self.shared.route.get() {
            (route.expire_lock)(path.clone(), *checksum);
            return false;
        }
        let now = self.shared.clock.uptime();
        self.shared.write().is_ok_and(|mut tree| tree.lock_expired(path, checksum, now))
    }

    /// Whether what the tree was at this version is on disk.
    pub fn is_stored(&self, version: u64) -> bool {
        self.shared.committed.load(Ordering::Acquire) >= version
    }

    /// Whether changes are refused because the file cannot be written.
    pub fn is_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// What the commit thread did so far.
    pub fn commit_stats(&self) -> CommitStats {
        CommitStats {
            commits: self.shared.commits.get(),
            rows: self.shared.rows.get(),
            bytes: self.shared.bytes.get(),
            failures: self.shared.failures.get(),
        }
    }

    /// The version on disk.
    pub fn stored_version(&self) -> u64 {
        self.shared.committed.load(Ordering::Acquire)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// How large its files are; 0 for what is not there.
    pub fn file_sizes(&self) -> FileSizes {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut log = self.path().as_os_str().to_owned();
        log.push("-wal");
        FileSizes { database: size(self.path()), log: size(Path::new(&log)) }
    }

    /// Stores what is left and closes the file; the tree can still be read. An error means that
    /// changes were lost that nobody was told to be stored.
    pub fn close(&self) -> Result<(), DbError> {
        self.shared.queue.stop();
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread {
            // The last owner was an answer: the commit thread ends by itself after it.
            Some(thread) if thread.thread().id() == thread::current().id() => Ok(()),
            Some(thread) => thread.join().unwrap_or(Err(DbError::Storage)),
            None => Ok(()),
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // The commit thread has logged what went wrong.
        let _ = self.close();
    }
}

/// Answers a change that is applied, once it is stored.
fn answer_stored(applied: Applied, done: Done) -> Synced {
    Box::new(move |stored| done(stored.map(|()| applied)))
}

/// Whether a change is answered only after its commit. The others become durable with the next of
/// these, with the flush that closes a file, or shortly after.
fn is_durable(change: &Change) -> bool {
    match change {
        Change::Mkdir { .. } | Change::Rename { .. } | Change::Delete { .. } | Change::Unlock { .. } => true,
        Change::Create { .. } | Change::Write { .. } | Change::Truncate { .. } | Change::SetMtime { .. } => {
            false
        }
    }
}

impl Shared {
    fn apply(&self, change: Change, stamp: Stamp, limits: Limits) -> Result<Applied, DbError> {
        self.check_open()?;
        let now = self.clock.uptime();
        let mut tree = self.write()?;
        let applied = tree.apply(change, stamp, limits, now)?;
        self.observers.tell(&applied.touched);
        Ok(applied)
    }

    /// Answers a change that need not be stored now, but soon.
    fn answer_unstored(&self, applied: Applied, done: Done) {
        self.queue.commit_soon(self.clock);
        done(Ok(applied));
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, MemDb>, DbError> {
        // Poisoned: a change panicked half-way. What it left must not reach the disk.
        self.tree.write().map_err(|_| DbError::Storage)
    }
}
