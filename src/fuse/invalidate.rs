//! Invalidations of the kernel's caches. Request handlers only queue them. Threads that hold no lock send
//! them, because the kernel can block a sender until requests in flight are replied to.
//!
//! There are three lanes, separated by the events for which the kernel blocks the sender:
//!
//! | lane | by | drops | waits for |
//! | --- | --- | --- | --- |
//! | attributes | inode | attributes | nothing |
//! | contents | inode | pages and attributes of a file | requests for pages of this file |
//! | names | directory | names, and results of late lookups | requests that hold this directory's lock: create, mkdir, unlink, rename, lookup |
//!
//! So a slow request delays only invalidations of its own file or directory. Pages and attributes are dropped
//! immediately, even if their directory is locked. A lookup that read the tree before a change and is replied
//! to after that invalidation could restore old attributes. Until Linux 6.15 the lane of names drops attributes
//! once more, after it had the directory's lock. Later kernels get a new epoch instead; see
//! [`LateReplies`].

mod lane;

use super::notifier::{Notification, Notifier};
use crate::cfs::{Event, Watcher};
use crate::fs::{Fs, LateReplies, StalePages, Tail, ino_of};
use crate::memdb::{ByteRange, Inode, Invalidation, Name};
use lane::Lane;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A name that no entry can have. To invalidate it changes nothing, but takes the directory's lock:
/// when that is done, no lookup is in flight that read the tree before the change, and whose late
/// answer would be cached after the invalidation.
const NO_NAME: &[u8] = b"/";

/// Number of directories, and of files, that can stall without delaying others. Each stall blocks one thread.
const STALLED_DIRECTORIES_MAX: usize = 32;
const STALLED_FILES_MAX: usize = 16;

/// Queues of invalidations for the kernel's caches.
#[derive(Clone)]
pub struct Invalidate {
    lanes: Arc<Lanes>,
}

struct Lanes {
    kernel: Arc<Kernel>,
    attributes: Lane<Node, Removal>,
    contents: Lane<u64, Content>,
    names: Lane<u64, Directory>,
}

/// Sends the reply to a request.
pub(super) type Reply = Box<dyn FnOnce() + Send>;

/// Sends invalidations to the kernel, from the calling thread.
struct Kernel {
    fs: Arc<Fs>,
    notifier: OnceLock<Notifier>,
}

/// Key of the lane of attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Node {
    /// One inode.
    One(u64),
    /// All nodes, whose modes depend on quorum.
    All,
}

/// Whether an inode was removed while no name of it is queued.
type Removal = bool;

/// Queue of the contents of a file.
struct Content {
    /// Bytes that changed.
    range: ByteRange,
    /// Last bytes of appends that landed after the offset that the kernel expected.
    tails: Vec<Tail>,
    /// Replies to send afterwards.
    replies: Vec<Reply>,
}

impl Default for Content {
    fn default() -> Self {
        Self { range: ByteRange::NONE, tails: Vec::new(), replies: Vec::new() }
    }
}

/// Queue of a directory.
#[derive(Debug, Default)]
struct Directory {
    names: HashSet<Name>,
    /// Inodes whose attributes a late lookup may have restored.
    looked_up: BTreeSet<u64>,
    /// Inodes that were removed, some of them with these names.
    removed: BTreeSet<u64>,
}

/// Lanes for the tree `fs`. Invalidations before [`Invalidate::start`] are dropped: the kernel has no caches
/// then.
pub(super) fn lanes(fs: Arc<Fs>) -> Invalidate {
    let kernel = Arc::new(Kernel { fs, notifier: OnceLock::new() });
    let names = {
        let kernel = Arc::clone(&kernel);
        Lane::new("notify-names", STALLED_DIRECTORIES_MAX, move |ino, jobs| kernel.directory(ino, jobs))
    };
    let contents = {
        let kernel = Arc::clone(&kernel);
        Lane::new("notify-contents", STALLED_FILES_MAX, move |ino, content: Content| {
            let replies = SendAtEnd(content.replies);
            kernel.content(ino, content.range, &content.tails);
            drop(replies);
        })
    };
    let attributes = {
        let (kernel, names) = (Arc::clone(&kernel), names.clone());
        Lane::new("notify-attrs", 1, move |node, removal| match node {
            Node::One(ino) => kernel.node(ino, removal),
            Node::All => kernel.modes(&names),
        })
    };
    Invalidate { lanes: Arc::new(Lanes { kernel, attributes, contents, names }) }
}

/// Replies that must be sent even if the invalidation before them fails.
struct SendAtEnd(Vec<Reply>);

impl Drop for SendAtEnd {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|reply| reply());
    }
}

impl fmt::Debug for Invalidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalidate")
    }
}

impl Invalidate {
    /// Queues the invalidations of changes, unless the kernel cannot have cached the parts. Call this after the change
    /// without any lock. Never blocks.
    pub fn queue(&self, invalidations: &[Invalidation]) {
        // A removal follows the invalidation of its name.
        let mut named_in = None;
        for invalidation in invalidations.iter().filter(|invalidation| self.may_be_cached(invalidation)) {
            if let Invalidation::Entry { parent, .. } = invalidation {
                named_in = Some(*parent);
            }
            self.push(invalidation, named_in);
        }
    }

    fn may_be_cached(&self, invalidation: &Invalidation) -> bool {
        self.lanes.kernel.fs.may_be_cached(invalidation)
    }

    /// The kernel will see the modes of all nodes: quorum was gained or lost.
    pub fn modes_changed(&self) {
        self.lanes.attributes.push(Node::All, |_| ());
    }

    /// Has the kernel told of quorum, for as long as the mount lasts.
    pub(super) fn watcher(&self) -> Watcher {
        let lanes = Arc::downgrade(&self.lanes);
        Box::new(move |event| match (event, lanes.upgrade()) {
            (Event::Quorum(_), Some(lanes)) => Self { lanes }.modes_changed(),
            (Event::Quorum(_), None) | (Event::StatusSet { .. } | Event::Logged(_), _) => {}
        })
    }

    /// Invalidates the pages of a file, then sends a reply. The reply is sent even if the mount ends first.
    pub(super) fn before_reply(&self, stale: StalePages, reply: Reply) {
        let mut unsent = Some(reply);
        self.lanes.contents.push(stale.ino, |content| {
            content.tails.extend(stale.tail);
            content.replies.extend(unsent.take());
        });
        if let Some(reply) = unsent {
            reply();
        }
    }

    /// Blocks until all invalidations queued so far were sent. Only for tests; never call it in a request
    /// handler. Returns false on timeout.
    pub fn wait(&self, timeout: Duration) -> bool {
        // Work on the lane of attributes adds work to the lane of names, so wait for attributes first.
        let lanes = &self.lanes;
        lanes.attributes.wait(timeout) && lanes.contents.wait(timeout) && lanes.names.wait(timeout)
    }

    /// Invalidates the kernel's attributes of a node that is about to be opened, if they may come from a late reply.
    /// The invalidation does not wait for other requests.
    pub(super) fn before_open(&self, ino: u64) {
        if self.lanes.kernel.fs.take_late_node(ino) {
            self.lanes.kernel.attributes(ino);
        }
    }

    /// If only the attributes of a node are stale, drops them immediately and returns true. Unlike
    /// everything else this waits for no request, so it may be done before a request is answered.
    pub(super) fn attributes_now(&self, invalidation: &Invalidation) -> bool {
        let Invalidation::Attributes { inode } = invalidation else { return false };
        if self.may_be_cached(invalidation) {
            self.lanes.kernel.attributes(ino_of(*inode));
        }
        true
    }

    /// Begins to tell the kernel, by `notifier`.
    pub(super) fn start(&self, notifier: Notifier) -> io::Result<()> {
        // Set once, since each mount has its own lanes.
        let _ = self.lanes.kernel.notifier.set(notifier);
        self.lanes.attributes.start()?;
        self.lanes.contents.start()?;
        self.lanes.names.start()
    }

    /// The mount ended: there is nobody to tell any more.
    pub(super) fn stop(&self) {
        self.lanes.attributes.stop();
        self.lanes.names.stop();
        let contents = self.lanes.contents.stop().into_iter();
        drop(SendAtEnd(contents.flat_map(|content| content.replies).collect()));
    }

    /// Queues one invalidation. `named_in` is the directory of the invalid name before it, if any.
    fn push(&self, stale: &Invalidation, named_in: Option<Inode>) {
        let lanes = &self.lanes;
        match stale {
            Invalidation::Entry { parent, name } => {
                lanes.names.push(ino_of(*parent), |directory| {
                    directory.names.insert(name.clone());
                });
            }
            Invalidation::Content { inode, range } => {
                lanes.contents.push(ino_of(*inode), |content| content.range = content.range.join(*range));
                self.push_looked_up(*inode);
            }
            Invalidation::Attributes { inode } => {
                lanes.attributes.push(Node::One(ino_of(*inode)), |_| ());
                self.push_looked_up(*inode);
            }
            Invalidation::Removed { inode, .. } => {
                let (ino, directory) = (ino_of(*inode), lanes.kernel.fs.note_removed(*inode).or(named_in));
                lanes.attributes.push(Node::One(ino), |removal| *removal |= directory.is_none());
                if let Some(directory) = directory {
                    lanes.names.push(ino_of(directory), |directory| {
                        directory.removed.insert(ino);
                    });
                }
            }
        }
    }

    /// A late reply may restore the attributes of an inode.
    fn push_looked_up(&self, inode: Inode) {
        let fs = &self.lanes.kernel.fs;
        if fs.late_replies() != LateReplies::Locked {
            return;
        }
        if let Some(directory) = fs.directory_of(inode) {
            self.lanes.names.push(ino_of(directory), |directory| {
                directory.looked_up.insert(ino_of(inode));
            });
        }
    }
}

impl Kernel {
    /// Drops names, and then the results of lookups that were in flight in the directory.
    fn directory(&self, ino: u64, jobs: Directory) {
        for name in &jobs.names {
            self.entry(ino, name);
        }
        if jobs.looked_up.is_empty() && jobs.removed.is_empty() {
            return;
        }
        if self.fs.late_replies() == LateReplies::Locked {
            self.entry(ino, NO_NAME);
        }
        for ino in jobs.looked_up.into_iter().chain(jobs.removed.iter().copied()) {
            self.attributes(ino);
        }
        // Only after its names were dropped, so that none leads to the inode.
        jobs.removed.into_iter().for_each(|ino| self.fs.settle(ino));
    }

    fn node(&self, ino: u64, removal: Removal) {
        self.attributes(ino);
        if removal {
            self.fs.settle(ino);
        }
    }

    fn modes(&self, names: &Lane<u64, Directory>) {
        let nodes = self.fs.nodes_by_directory();
        nodes.values().flatten().for_each(|ino| self.attributes(*ino));
        if self.fs.late_replies() != LateReplies::Locked {
            return;
        }
        for (directory, nodes) in nodes {
            names.push(directory, |directory| directory.looked_up.extend(nodes));
        }
    }

    fn entry(&self, parent: u64, name: &[u8]) {
        // In this order: the notification covers all replies noted before.
        let may_be_late = self.fs.name_may_be_late(parent, name);
        if !self.send(&Notification::Entry { parent, name }) && may_be_late {
            self.send(&Notification::Epoch);
        }
    }

    fn content(&self, ino: u64, range: ByteRange, tails: &[Tail]) {
        let covered = self.fs.begin_page_invalidation(ino);
        self.pages(ino, range.join(covered.range()));
        self.fs.end_page_invalidation(covered);
        for tail in tails {
            // After the invalidation, so that no reader finds the new size and the old last page. The byte
            // may create a page that counts as complete: that page is dropped, too.
            self.send(&Notification::Store { ino, offset: tail.offset, bytes: &[tail.byte] });
            // The length of a file always fits.
            let offset = i64::try_from(tail.offset).unwrap_or(0);
            self.send(&Notification::Inode { ino, offset, length: 1 });
        }
    }

    fn attributes(&self, ino: u64) {
        self.inode(ino, -1, 0);
    }

    /// Drops attributes, and all pages with bytes of the range.
    fn pages(&self, ino: u64, range: ByteRange) {
        if range.is_empty() {
            return self.attributes(ino);
        }
        let start = i64::try_from(range.start);
        let length = range.end.map(|end| i64::try_from(end - range.start)).transpose();
        match (start, length) {
            // To the kernel a length of 0 means all bytes up to the end.
            (Ok(start), Ok(length)) => self.inode(ino, start, length.unwrap_or(0)),
            (Err(_), _) | (_, Err(_)) => self.inode(ino, 0, 0),
        }
    }

    /// Drops attributes, and pages unless `offset` is negative.
    fn inode(&self, ino: u64, offset: i64, length: i64) {
        let may_be_late = self.fs.node_may_be_late(ino);
        if !self.send(&Notification::Inode { ino, offset, length }) && may_be_late {
            self.fs.note_late_node(ino);
            self.send(&Notification::Epoch);
        }
    }

    /// Returns false if the kernel does not know the name or inode.
    fn send(&self, notification: &Notification<'_>) -> bool {
        self.fs.counts().invalidations.one();
        match self.notifier.get().map(|notifier| notifier.send(notification)) {
            Some(Err(error)) => {
                // Also at the end of the mount.
                log::debug!(target: "fuse", "{notification:?}: {error}");
                false
            }
            // Without a notifier the kernel has no caches yet.
            Some(Ok(())) | None => true,
        }
    }
}
