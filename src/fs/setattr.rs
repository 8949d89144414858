//! Changes of attributes: chmod and chown, which only accept what is so anyway; truncate; and times,
//! which also ask for the expiry of a lock or renew it.

use super::change::{Outcome, outcome};
use super::ino::Target;
use super::{Attr, Fs, FsError, StalePages, entry_target, ino, mode};
use crate::clock::UnixTime;
use crate::memdb::{Change, EntryChange, Inode, Invalidation, TreePath};
use std::sync::Arc;

/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// The time that asks for the expiry of a lock.
const EXPIRE: UnixTime = 0;

/// What is to be changed of a node's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// chmod.
    pub mode: Option<u32>,
    /// chown, user.
    pub uid: Option<u32>,
    /// chown, group.
    pub gid: Option<u32>,
    /// truncate.
    pub size: Option<u64>,
    /// utimens.
    pub mtime: Option<UnixTime>,
    /// Asked for by an opened file, not by a path.
    pub is_opened: bool,
}

type Done = Box<dyn FnOnce(Outcome<Attr>) + Send>;

impl Fs {
    /// Changes attributes; answers those that the node has then. All checks of modes and owners are
    /// made before anything is changed.
    pub fn setattr(
        self: &Arc<Self>,
        ino: u64,
        set: SetAttr,
        done: impl FnOnce(Outcome<Attr>) + Send + 'static,
    ) {
        // The kernel sends a descriptor's times without its handle, and then does not resolve a path again.
        let opened = || entry_target(ino).is_some_and(|inode| self.handles.is_open(inode));
        let is_opened = set.is_opened || (set.size.is_none() && opened());
        let fs = Arc::clone(self);
        let done: Done = Box::new(move |mut outcome: Outcome<Attr>| {
            match &outcome.result {
                Ok(attr) if fs.has_pending_pages(attr.ino) => {
                    outcome.stale_pages = Some(StalePages::of(attr.ino));
                }
                // The path may lead to another node now, but not for a directory.
                Err(FsError::NotFound) if !is_opened && !fs.was_directory(ino) => {
                    outcome.result = Err(FsError::Stale);
                }
                Ok(_) | Err(_) => {}
            }
            done(outcome);
        });
        if let Err(error) = self.check_fixed(ino, &set) {
            return done(Err(error).into());
        }
        let Some(size) = set.size else { return self.set_times(ino, set.mtime, done) };
        let fs = Arc::clone(self);
        self.truncate(ino, size, set.is_opened, move |cut| match cut.result {
            Ok(()) => {
                let stale_pages = cut.stale_pages;
                fs.set_times(
                    ino,
                    set.mtime,
                    Box::new(move |outcome| done(Outcome { stale_pages, ..outcome })),
                );
            }
            Err(error) => {
                done(Outcome {
                    result: Err(error),
                    invalidations: cut.invalidations,
                    stale_pages: cut.stale_pages,
                });
            }
        });
    }

    /// Modes and owners follow from the path, and cannot be changed.
    fn check_fixed(&self, ino: u64, set: &SetAttr) -> Result<(), FsError> {
        if let Some(mode) = set.mode {
            if mode & PERMISSIONS != mode::accepted_by_chmod(self.is_private(ino)?) {
                return Err(FsError::FixedMode);
            }
        }
        let foreign_user = set.uid.is_some_and(|uid| uid != 0);
        let foreign_group = set.gid.is_some_and(|gid| gid != self.cfs.node.www_data_gid);
        if foreign_user || foreign_group { Err(FsError::FixedOwner) } else { Ok(()) }
    }

    fn is_private(&self, ino: u64) -> Result<bool, FsError> {
        let Some(inode) = entry_target(ino) else { return Ok(false) };
        let tree = self.cfs.engine.read();
        if let Some(entry) = tree.get(inode) {
            return Ok(entry.is_private());
        }
        let (_, class) = self.handles.removed(inode).ok_or(FsError::NotFound)?;
        Ok(class.private)
    }

    fn truncate(
        self: &Arc<Self>,
        ino: u64,
        size: u64,
        is_opened: bool,
        done: impl FnOnce(Outcome<()>) + Send + 'static,
    ) {
        let inode = match ino::target(ino) {
            Target::Entry(inode) => inode,
            Target::Generated(index) => {
                return done(self.plug(index).and_then(|plug| plug.truncate()).into());
            }
        };
        let fs = Arc::clone(self);
        self.submit_entry(inode, EntryChange::Truncate { size }, move |result| {
            let result = match result {
                // By path it is meant for the new file, if there is one.
                Err(FsError::NotFound) if is_opened => fs.truncate_removed(inode, size),
                result => result.map(drop),
            };
            let stale_pages = fs.stale_pages(inode, None);
            done(Outcome { result, invalidations: Vec::new(), stale_pages });
        });
    }

    fn set_times(self: &Arc<Self>, ino: u64, mtime: Option<UnixTime>, done: Done) {
        let Some(mtime) = mtime else { return done(self.getattr(ino).into()) };
        let Some(inode) = entry_target(ino) else { return done(Err(FsError::Generated).into()) };
        if mtime == EXPIRE && self.cfs.is_quorate() {
            if let Some((path, checksum)) = self.expired_lock(inode) {
                return self.expire(path, checksum, done);
            }
        }
        let fs = Arc::clone(self);
        self.submit_entry(inode, EntryChange::SetMtime { mtime }, move |result| {
            let set = match result {
                Err(FsError::NotFound) => fs.touch_removed(inode, mtime),
                result => result.map(drop),
            };
            done(set.and_then(|()| fs.getattr(ino)).into());
        });
    }

    /// Path and checksum of this entry, if it is a lock that was held too long.
    fn expired_lock(&self, inode: Inode) -> Option<(TreePath, [u8; 32])> {
        let (path, checksum) = {
            let tree = self.cfs.engine.read();
            tree.get(inode).filter(|entry| entry.is_dir())?;
            (tree.path_of(inode)?, tree.entry_checksum(inode)?)
        };
        let expired = path.is_below_lock_dir() && self.cfs.engine.lock_expired(&path, &checksum);
        expired.then_some((path, checksum))
    }

    /// Removes a lock that was held too long, but not a later lock of the same name. The caller gets ENOENT, as with
    /// the stock daemon, which replies with the attributes of the path.
    fn expire(&self, path: TreePath, checksum: [u8; 32], done: Done) {
        self.cfs.engine.submit(
            Change::Unlock { path, checksum },
            Box::new(move |result| {
                // The kernel believes that it set a time. Told of the removal, it settles it too.
                let removed: Vec<Invalidation> =
                    result.as_ref().map(|applied| applied.invalidations.clone()).unwrap_or_default();
                let mut outcome = outcome(result, Vec::new(), |_| Err(FsError::NotFound));
                outcome.invalidations.extend(removed);
                done(outcome);
            }),
        );
    }
}
