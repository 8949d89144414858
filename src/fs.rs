//! The tree as the kernel sees it: lookups, reads and listings here, changes in `fs/change.rs`.
//!
//! It owns what is between the database and the kernel: which number is which node, the generated
//! nodes, permission bits, what is open. It has no kernel types, never waits for the disk, and holds
//! no lock while it calls back. What has to wait is answered by a closure, from the thread that
//! finishes the work.

mod attr;
mod change;
mod coherence;
mod error;
#[cfg(test)]
mod fixture;
mod handles;
mod incarnations;
mod ino;
mod known;
mod late_replies;
mod listing;
pub(crate) mod mode;
mod pending_pages;
pub(crate) mod plug;
mod removed;
mod setattr;
mod walks;

pub use attr::{Attr, Kind, Lifetime, StatFs};
pub use change::{Outcome, Write};
pub use coherence::{CacheRules, Caching, StalePages, Tail};
pub use error::FsError;
pub use ino::ROOT_INO;
pub(crate) use ino::of_entry as ino_of;
pub use late_replies::LateReplies;
pub use listing::DirEntry;
pub use pending_pages::Covered;
pub use setattr::SetAttr;
pub use walks::Thread;

use crate::cfs::Cfs;
use crate::clock::UnixTime;
use crate::counts::KernelCounts;
use crate::memdb::{BLOCK_SIZE, BLOCKS, Entry, FILES, Inode, ROOT};
use handles::{Handles, Removed};
use incarnations::Incarnations;
use ino::Target;
use known::Known;
use mode::Class;
use pending_pages::PendingPages;
use plug::{Plug, Plugs};
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use walks::Walks;

/// What `statfs` says is the longest name.
const NAME_LENGTH: u32 = 256;
/// Longest name that this node creates, in bytes. Kernels older than Linux 6.14 can neither open longer names
/// nor list directories that contain them.
const NEW_NAME_BYTES_MAX: usize = 1024;

/// The tree of one mount.
#[derive(Debug)]
pub struct Fs {
    cfs: Arc<Cfs>,
    plugs: Plugs,
    /// Shared with the database, which tells it of removals.
    handles: Arc<Handles>,
    incarnations: Incarnations,
    rules: CacheRules,
    /// Shared with the change listener.
    known: Arc<Known>,
    /// Shared with the change listener.
    pending_pages: Arc<PendingPages>,
    walks: Walks,
    /// Longest name that the kernel accepts, in bytes.
    name_bytes_max: AtomicUsize,
}

/// An opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// A file of the database.
    Entry(Caching),
    /// A generated file, with the handle that keeps its text.
    Text(u64),
}

/// Part of a file, as it is at the moment of the read. Shares the bytes with the tree.
#[derive(Debug, Clone)]
pub struct Chunk {
    bytes: Bytes,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
enum Bytes {
    File(Arc<Vec<u8>>),
    Text(Arc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::File(content) => content,
            Self::Text(text) => text,
        }
    }
}

impl Chunk {
    /// The bytes from `offset`, at most `size` of them and none beyond the end.
    fn new(bytes: Bytes, offset: u64, size: u32) -> Self {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(size as usize).min(bytes.len());
        Self { bytes, range: start..end }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl Fs {
    /// The tree over `cfs`, with these rules for the kernel's caches.
    pub fn new(cfs: Arc<Cfs>, rules: CacheRules) -> Arc<Self> {
        let handles = Arc::<Handles>::default();
        let (known, pending_pages) = (Arc::new(Known::new(cfs.clock)), Arc::<PendingPages>::default());
        let weak = (Arc::downgrade(&handles), Arc::downgrade(&known), Arc::downgrade(&pending_pages));
        cfs.engine.observe(Box::new(move |invalidations| {
            let (Some(handles), Some(known), Some(pending_pages)) =
                (weak.0.upgrade(), weak.1.upgrade(), weak.2.upgrade())
            else {
                return;
            };
            handles.keep_removed(invalidations);
            pending_pages.note(invalidations, &known, rules);
        }));
        let plugs = Plugs::new(&cfs.node.name);
        Arc::new(Self {
            cfs,
            plugs,
            handles,
            incarnations: Incarnations::default(),
            rules,
            known,
            pending_pages,
            walks: Walks::default(),
            name_bytes_max: AtomicUsize::new(NEW_NAME_BYTES_MAX),
        })
    }

    /// Sets the longest name that the kernel accepts, in bytes. Other members may have created longer names
    /// than this node does. A kernel fails the whole listing of a directory if it contains a name that it
    /// does not accept.
    pub fn set_name_bytes_max(&self, bytes: usize) {
        self.name_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Sets the rule for late replies. Must be called before the first reply.
    pub fn set_late_replies(&self, rule: LateReplies) {
        self.known.recent().set_rule(rule);
    }

    /// The rule for late replies.
    pub fn late_replies(&self) -> LateReplies {
        self.known.recent().rule()
    }

    /// Returns true if the kernel may cache a late reply with this name after the invalidation that the caller is
    /// about to send. Must be called before the caller sends it.
    pub fn name_may_be_late(&self, parent: u64, name: &[u8]) -> bool {
        self.known.recent().take_name(parent, name)
    }

    /// Returns true if the kernel may cache a late reply with this node's attributes after the invalidation that the
    /// caller is about to send. Must be called before the caller sends it.
    pub fn node_may_be_late(&self, ino: u64) -> bool {
        self.known.recent().take_node(ino)
    }

    /// Notes that the kernel's attributes of this inode may come from a late reply.
    pub fn note_late_node(&self, ino: u64) {
        self.known.recent().note_late_node(ino);
    }

    /// Returns true, once, if the attributes of an inode must be invalidated before it is opened.
    pub fn take_late_node(&self, ino: u64) -> bool {
        self.known.recent().take_late_node(ino)
    }

    /// What the kernel asks for is counted here.
    pub fn counts(&self) -> &KernelCounts {
        &self.cfs.kernel
    }

    /// The node called `name` in a directory.
    ///
    /// # Errors
    /// There is no such node.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Attr, FsError> {
        if let Some((index, plug)) = self.generated(parent, name) {
            return Ok(plug.attr(ino::of_generated(index), &self.cfs));
        }
        let parent = entry_target(parent).ok_or(FsError::NotDirectory)?;
        let tree = self.cfs.engine.read();
        // The kernel caches a negative reply as well.
        self.known.note_name(ino::of_entry(parent), name);
        let Some(entry) = tree.lookup(parent, name) else {
            // In a removed directory, too: mkdir and mknod do not repeat a walk that fails with ESTALE.
            return Err(check_new_name(name).err().unwrap_or(FsError::NotFound));
        };
        Ok(self.attr_of(entry, mode::class_of(entry)))
    }

    /// The attributes of a node.
    ///
    /// # Errors
    /// There is no such node, or no longer.
    pub fn getattr(&self, ino: u64) -> Result<Attr, FsError> {
        let inode = match ino::target(ino) {
            Target::Entry(inode) => inode,
            Target::Generated(index) => return Ok(self.plug(index)?.attr(ino, &self.cfs)),
        };
        if let Some(attr) = self.entry_attr(inode) {
            return Ok(attr);
        }
        if let Some((removed, class)) = self.handles.removed(inode) {
            return Ok(self.removed_attr(inode, &removed, class));
        }
        self.removed_directory(inode).unwrap_or(Err(FsError::Stale))
    }

    /// Attributes of a removed directory, or `NotFound` if its place is free, as with stock. `None` if it is no
    /// removed directory, or was removed long ago.
    fn removed_directory(&self, inode: Inode) -> Option<Result<Attr, FsError>> {
        let (parent, name, mtime) = self.handles.removed_directory(inode)?;
        let tree = self.cfs.engine.read();
        let Some(there) = tree.lookup(parent, &name) else { return Some(Err(FsError::NotFound)) };
        // Not ESTALE: for a descriptor or a working directory there is no path that the kernel could walk again.
        let permissions = mode::directory(there.is_private(), self.cfs.is_quorate());
        Some(Ok(self.attr(ino::of_entry(inode), Kind::Directory, permissions, 0, 0, mtime)))
    }

    /// Whether this was a directory, and its place is free now.
    fn was_directory(&self, ino: u64) -> bool {
        let removed = entry_target(ino).and_then(|inode| self.removed_directory(inode));
        matches!(removed, Some(Err(FsError::NotFound)))
    }

    /// Notes that the kernel's lookup for this thread found a node.
    pub fn found(&self, thread: Thread, ino: u64) {
        self.walks.found(thread, ino);
    }

    /// Returns true if an operation by path that found `Stale` must not fail with it again, because the kernel has
    /// already walked the path twice for this thread. Must be called once for each `Stale`.
    pub fn is_final(&self, thread: Thread, ino: u64) -> bool {
        self.walks.is_final(thread, ino, self.cfs.clock.uptime())
    }

    /// Opens a file that was replaced after the kernel had found it.
    ///
    /// # Errors
    /// It was not replaced, but removed.
    pub fn open_replaced(&self, ino: u64) -> Result<Opened, FsError> {
        let inode = entry_target(ino).ok_or(FsError::NotFound)?;
        if !self.handles.open_replaced(inode) {
            return Err(FsError::NotFound);
        }
        Ok(Opened::Entry(self.caching(true)))
    }

    /// Attributes of a file that was replaced after the kernel had found it, as a change by path leaves them. The
    /// change itself is kept only if a descriptor could show it.
    ///
    /// # Errors
    /// It was not replaced, but removed.
    pub fn set_replaced(&self, ino: u64, set: &SetAttr) -> Result<Attr, FsError> {
        let inode = entry_target(ino).ok_or(FsError::NotFound)?;
        let (removed, class) = self.handles.removed(inode).ok_or(FsError::NotFound)?;
        if !removed.is_writable {
            return Err(FsError::NotFound);
        }
        if self.handles.is_open(inode) {
            if let Some(size) = set.size {
                self.truncate_removed(inode, size)?;
            }
            if let Some(mtime) = set.mtime {
                self.touch_removed(inode, mtime)?;
            }
            return self.getattr(ino);
        }
        let mut attr = self.removed_attr(inode, &removed, class);
        attr.size = set.size.unwrap_or(attr.size);
        attr.mtime = set.mtime.unwrap_or(attr.mtime);
        Ok(attr)
    }

    /// The kernel forgot a node. Contents of a removed file are not needed any more.
    pub fn forget(&self, ino: u64) {
        if let Some(inode) = entry_target(ino) {
            self.handles.forget(inode);
        }
    }

    /// Where a link points.
    ///
    /// # Errors
    /// The node is no link.
    pub fn readlink(&self, ino: u64) -> Result<&[u8], FsError> {
        match ino::target(ino) {
            Target::Generated(index) => self.plug(index)?.target(),
            Target::Entry(_) => Err(FsError::Generated),
        }
    }

    /// Opens a file. From now on until [`Fs::release`] it can be read, removed or not.
    ///
    /// # Errors
    /// There is no such file, or no longer.
    pub fn open(&self, ino: u64, writing: bool) -> Result<Opened, FsError> {
        match ino::target(ino) {
            Target::Generated(index) => {
                let text = self.plug(index)?.open(&self.cfs)?;
                Ok(Opened::Text(self.handles.add_text(text)))
            }
            Target::Entry(inode) => {
                self.open_entry(inode, writing).map(|()| Opened::Entry(self.caching(writing)))
            }
        }
    }

    /// Caching of the contents of a file that the kernel opens or creates.
    pub fn caching(&self, writing: bool) -> Caching {
        self.rules.caching(writing)
    }

    /// Whether the kernel may cache the attributes in a reply to SETATTR.
    pub fn trusts_setattr(&self) -> bool {
        !self.rules.setattr_expires
    }

    /// Whether a reply with the attributes of a file must wait until its pages are invalidated.
    pub fn has_pending_pages(&self, ino: u64) -> bool {
        self.pending_pages.contains(ino)
    }

    /// Must be called before the pages of a file are invalidated.
    pub fn begin_page_invalidation(&self, ino: u64) -> Covered {
        self.pending_pages.begin(ino)
    }

    /// Must be called after the pages of a file were invalidated.
    pub fn end_page_invalidation(&self, covered: Covered) {
        self.pending_pages.end(covered);
    }

    fn open_entry(&self, inode: Inode, writing: bool) -> Result<(), FsError> {
        let tree = self.cfs.engine.read();
        match tree.get(inode) {
            Some(entry) if entry.is_dir() => Err(FsError::IsDirectory),
            Some(entry) => {
                // Under the lock that a removal needs: it comes before this, or sees it.
                self.handles.open(inode, mode::class_of(entry));
                Ok(())
            }
            // What is written must not vanish with the old file when there is a new one of that name.
            None if !writing && self.handles.open_removed(inode) => Ok(()),
            None => Err(FsError::Stale),
        }
    }

    /// Closes what [`Fs::open`] or a create opened.
    pub fn release(&self, ino: u64, handle: u64) {
        match ino::target(ino) {
            Target::Entry(inode) => self.handles.close(inode),
            Target::Generated(_) => self.handles.remove_text(handle),
        }
    }

    /// Reads from an opened file; `writing` is true if it was opened for writing, too.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn read(
        &self,
        ino: u64,
        handle: u64,
        writing: bool,
        offset: u64,
        size: u32,
    ) -> Result<Chunk, FsError> {
        let bytes = match ino::target(ino) {
            Target::Entry(inode) => Bytes::File(self.content(inode, self.caching(writing))?),
            Target::Generated(_) => Bytes::Text(self.handles.text(handle).ok_or(FsError::NotFound)?),
        };
        Ok(Chunk::new(bytes, offset, size))
    }

    fn content(&self, inode: Inode, caching: Caching) -> Result<Arc<Vec<u8>>, FsError> {
        let tree = self.cfs.engine.read();
        if caching == Caching::Pages {
            self.known.note_pages(ino::of_entry(inode));
        }
        if let Some(entry) = tree.get(inode) {
            return entry.content().cloned().ok_or(FsError::IsDirectory);
        }
        drop(tree);
        let (removed, _) = self.handles.removed(inode).ok_or(FsError::NotFound)?;
        Ok(removed.content)
    }

    /// The time that a change of this moment is stamped with.
    pub fn now(&self) -> UnixTime {
        self.cfs.clock.unix()
    }

    /// How full the database is.
    pub fn statfs(&self) -> StatFs {
        let usage = self.cfs.engine.read().usage();
        StatFs {
            block_size: BLOCK_SIZE as u32,
            blocks: BLOCKS,
            blocks_free: BLOCKS.saturating_sub(usage.blocks),
            files: FILES,
            files_free: FILES.saturating_sub(usage.entries),
            name_length: NAME_LENGTH,
        }
    }

    /// The generated node of this name, when the directory is the root.
    fn generated(&self, parent: u64, name: &[u8]) -> Option<(usize, &Plug)> {
        if parent == ROOT_INO { self.plugs.find(name) } else { None }
    }

    fn plug(&self, index: usize) -> Result<&Plug, FsError> {
        self.plugs.get(index).ok_or(FsError::NotFound)
    }

    /// The attributes of an entry that is in the tree.
    fn entry_attr(&self, inode: Inode) -> Option<Attr> {
        let tree = self.cfs.engine.read();
        let entry = tree.get(inode)?;
        Some(self.attr_of(entry, mode::class_of(entry)))
    }

    /// For the kernel; the tree is locked.
    fn attr_of(&self, entry: &Entry, class: Class) -> Attr {
        let quorate = self.cfs.is_quorate();
        let (kind, permissions, links, mtime) = match (entry.inode, entry.is_dir()) {
            // Generated: it looks the same whatever the database's last change was.
            (ROOT, _) => (Kind::Directory, mode::ROOT_DIRECTORY, 2, 0),
            (_, true) => (Kind::Directory, mode::directory(class.private, quorate), 2, entry.mtime),
            (_, false) => (Kind::File, mode::file(class, quorate), 1, entry.mtime),
        };
        let ino = ino::of_entry(entry.inode);
        self.known.note_node(ino);
        self.attr(ino, kind, permissions, links, entry.size(), mtime)
    }

    /// Attributes of a new entry, for the reply to its creation.
    fn created_attr(&self, inode: Inode) -> Option<Attr> {
        let tree = self.cfs.engine.read();
        let entry = tree.get(inode)?;
        self.known.note_name(ino::of_entry(entry.parent), &entry.name);
        Some(self.attr_of(entry, mode::class_of(entry)))
    }

    fn removed_attr(&self, inode: Inode, removed: &Removed, class: Class) -> Attr {
        let permissions = mode::file(class, self.cfs.is_quorate());
        let size = removed.content.len() as u64;
        let links = u32::from(removed.is_leaving);
        self.attr(ino::of_entry(inode), Kind::File, permissions, links, size, removed.mtime)
    }

    fn attr(&self, ino: u64, kind: Kind, permissions: u16, links: u32, size: u64, mtime: u32) -> Attr {
        Attr {
            ino,
            incarnation: self.incarnations.of(ino),
            kind,
            permissions,
            links,
            size,
            mtime,
            gid: self.cfs.node.www_data_gid,
            lifetime: Lifetime::UntilInvalidated,
        }
    }
}

/// Fails with `NameTooLong` for a name that this node does not create.
fn check_new_name(name: &[u8]) -> Result<(), FsError> {
    if name.len() > NEW_NAME_BYTES_MAX { Err(FsError::NameTooLong) } else { Ok(()) }
}

/// The entry that a number of the kernel means; None for a generated node.
fn entry_target(ino: u64) -> Option<Inode> {
    match ino::target(ino) {
        Target::Entry(inode) => Some(inode),
        Target::Generated(_) => None,
    }
}
