//! Tells the kernel what its caches must drop. One thread does it, from a queue: handlers of requests
//! only push, nobody who holds a lock or owes the kernel an answer waits for it, and it holds no lock
//! while it talks to the kernel, since that waits for requests in flight.

use super::reply::guarded;
use crate::cfs::{Event, Watcher};
use crate::fs::{Fs, Stale};
use crate::memdb::Touched;
use fuser::{INodeNo, Notifier};
use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// A name that no entry can have. To invalidate it changes nothing, but takes the directory's lock:
/// when that is done, no lookup is in flight that read the tree before the change, and whose late
/// answer would be cached after the invalidation.
const NO_NAME: &[u8] = b"/";

/// By which the kernel is told of changes that it did not make itself.
#[derive(Clone)]
pub struct Invalidate {
    shared: Arc<Shared>,
}

struct Shared {
    fs: Arc<Fs>,
    queue: Mutex<Queue>,
    changed: Condvar,
    notifier: OnceLock<Notifier>,
}

/// Sends the reply to a request.
pub(super) type Reply = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Job, Option<Reply>)>,
    /// Those in `jobs`: what is to be done anyway need not be queued again, so the queue is never
    /// longer than the tree has names and nodes.
    queued: HashSet<Job>,
    /// A job was taken and is not finished.
    busy: bool,
    stopped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Job {
    Stale(Stale),
    /// The modes of all nodes.
    Modes,
}

/// A queue for the tree `fs`; nothing is done before [`Invalidate::start`].
pub(super) fn queue(fs: Arc<Fs>) -> Invalidate {
    let shared = Shared { fs, queue: Mutex::default(), changed: Condvar::new(), notifier: OnceLock::new() };
    Invalidate { shared: Arc::new(shared) }
}

impl fmt::Debug for Invalidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalidate")
    }
}

impl Invalidate {
    /// The kernel will see what was changed otherwise than by its own requests: by another node, or
    /// as a side effect. To be called after the change, from anywhere but with no lock held.
    pub fn changed_elsewhere(&self, touched: &[Touched]) {
        if !touched.is_empty() {
            self.push(self.shared.fs.stale(touched).into_iter().map(Job::Stale));
        }
    }

    /// The kernel will see the modes of all nodes: quorum was gained or lost.
    pub fn modes_changed(&self) {
        self.push([Job::Modes]);
    }

    /// Has the kernel told of quorum, for as long as the mount lasts.
    pub(super) fn watcher(&self) -> Watcher {
        let shared = Arc::downgrade(&self.shared);
        Box::new(move |event| match (event, shared.upgrade()) {
            (Event::Quorum(_), Some(shared)) => Self { shared }.modes_changed(),
            (Event::Quorum(_), None) | (Event::StatusSet { .. } | Event::Logged(_), _) => {}
        })
    }

    /// Invalidates the pages of a file, then sends a reply. Until the mount ends it is sent in any case.
    pub(super) fn before_reply(&self, ino: u64, reply: Reply) {
        let mut queue = self.shared.queue();
        if queue.stopped {
            drop(queue);
            return reply();
        }
        let stale = Stale::Content { parent: None, ino };
        queue.jobs.push_back((Job::Stale(stale), Some(reply)));
        self.shared.changed.notify_all();
    }

    /// Waits until the kernel was told of everything so far. Not to be called by who serves a
    /// request of the kernel. Says whether that was so within `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        let queue = self.shared.queue();
        let unfinished = |queue: &mut Queue| queue.busy || !queue.jobs.is_empty();
        let waited = self.shared.changed.wait_timeout_while(queue, timeout, unfinished);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// If no more than the attributes of a node are touched, drops them at once, and says so. Unlike
    /// everything else this waits for no request, so it may be done before a request is answered.
    pub(super) fn attributes_now(&self, touched: &Touched) -> bool {
        let stale = match touched {
            Touched::Attributes { .. } => self.shared.fs.stale(std::slice::from_ref(touched)),
            Touched::Name { .. } | Touched::Data { .. } | Touched::Removed { .. } => return false,
        };
        for stale in stale {
            if let Stale::Attributes { ino, .. } = stale {
                self.shared.attributes(ino);
            }
        }
        true
    }

    /// Begins to tell the kernel, by `notifier`.
    pub(super) fn start(&self, notifier: Notifier) -> io::Result<()> {
        // Set once: each mount has its own queue.
        let _ = self.shared.notifier.set(notifier);
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name("notifier".to_owned()).spawn(move || shared.run())?;
        Ok(())
    }

    /// The mount ended: there is nobody to tell any more.
    pub(super) fn stop(&self) {
        let mut queue = self.shared.queue();
        queue.stopped = true;
        let unsent: Vec<Reply> = queue.jobs.drain(..).filter_map(|(_, reply)| reply).collect();
        queue.queued.clear();
        self.shared.changed.notify_all();
        drop(queue);
        unsent.into_iter().for_each(|reply| reply());
    }

    fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut jobs = jobs.into_iter().peekable();
        if jobs.peek().is_none() {
            return;
        }
        let mut queue = self.shared.queue();
        for job in jobs {
            if !queue.stopped && queue.queued.insert(job.clone()) {
                queue.jobs.push_back((job, None));
            }
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some((job, reply)) = self.next() {
            guarded("invalidation", || self.tell(job));
            if let Some(reply) = reply {
                reply();
            }
        }
    }

    /// The next job, when there is one; None when the mount ended.
    fn next(&self) -> Option<(Job, Option<Reply>)> {
        let mut queue = self.queue();
        queue.busy = false;
        self.changed.notify_all();
        let nothing = |queue: &mut Queue| queue.jobs.is_empty() && !queue.stopped;
        let waited = self.changed.wait_while(queue, nothing);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        let job = queue.jobs.pop_front()?;
        queue.queued.remove(&job.0);
        queue.busy = true;
        Some(job)
    }

    fn tell(&self, job: Job) {
        match job {
            Job::Stale(Stale::Name { parent, name }) => self.entry(parent, &name),
            Job::Stale(Stale::Content { parent, ino }) => {
                self.wait_for_lookups(parent);
                self.content(ino);
            }
            Job::Stale(Stale::Attributes { parent, ino }) => {
                self.wait_for_lookups(parent);
                self.attributes(ino);
            }
            Job::Stale(Stale::Removed { parent, ino }) => {
                self.wait_for_lookups(parent);
                self.attributes(ino);
                self.fs.settle(ino);
            }
            Job::Modes => {
                for (directory, nodes) in self.fs.nodes_by_directory() {
                    self.wait_for_lookups(Some(directory));
                    nodes.into_iter().for_each(|ino| self.attributes(ino));
                }
            }
        }
    }

    fn wait_for_lookups(&self, parent: Option<u64>) {
        if let Some(parent) = parent {
            self.entry(parent, NO_NAME);
        }
    }

    fn entry(&self, parent: u64, name: &[u8]) {
        self.with_notifier(|kernel| kernel.inval_entry(INodeNo(parent), OsStr::from_bytes(name)));
    }

    fn content(&self, ino: u64) {
        self.with_notifier(|kernel| kernel.inval_inode(INodeNo(ino), 0, 0));
    }

    fn attributes(&self, ino: u64) {
        self.with_notifier(|kernel| kernel.inval_inode(INodeNo(ino), -1, 0));
    }

    fn with_notifier(&self, tell: impl FnOnce(&Notifier) -> io::Result<()>) {
        self.fs.counts().invalidations.one();
        if let Some(Err(error)) = self.notifier.get().map(tell) {
            // The mount ended, or the kernel had nothing to drop.
            log::debug!(target: "fuse", "invalidation: {error}");
        }
    }
}
