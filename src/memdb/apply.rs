//! The rules by which the tree changes. Every operation first checks everything, then changes; a
//! refused change leaves no trace. What is accepted must be what a stock node accepts, else nodes
//! drift apart; known exceptions are named where they are.

mod checks;
mod steps;

use super::{
    Applied, ByteRange, Change, ChangeError, Entry, EntryChange, Inode, Invalidation, Limits, MAX_FILE_SIZE,
    MemDb, Node, ROOT, Removal, Stamp, TreePath, WriteAt, index,
};
use std::sync::Arc;
use std::time::Duration;
use steps::put_bytes;

/// What all kinds of change need to know beside themselves.
#[derive(Clone, Copy)]
struct Context {
    stamp: Stamp,
    limits: Limits,
    now: Duration,
}

impl MemDb {
    /// Applies a change, or refuses it and leaves everything as it was. `now` is this node's
    /// uptime; it only counts for the ages of locks.
    pub fn apply(
        &mut self,
        change: Change,
        stamp: Stamp,
        limits: Limits,
        now: Duration,
    ) -> Result<Applied, ChangeError> {
        let context = Context { stamp, limits, now };
        self.check_next_version()?;
        match change {
            Change::Create { path } => self.create(&path, context),
            Change::Mkdir { path } => self.mkdir(&path, context),
            Change::Write { path, at, data } => {
                let change = EntryChange::Write { at, data: Arc::new(data) };
                self.change_at(&path, change, context)
            }
            Change::Truncate { path, size } => self.change_at(&path, EntryChange::Truncate { size }, context),
            Change::Delete { path } => self.delete(&path, context),
            Change::Rename { from, to } => self.rename(&from, &to, context),
            Change::SetMtime { path, mtime } => {
                self.change_at(&path, EntryChange::SetMtime { mtime }, context)
            }
            Change::Unlock { path, checksum } => self.unlock(&path, &checksum, context),
            Change::Entry { inode, place, change } => {
                let path = self.place_of(inode, place)?;
                self.change_of(inode, &path, change, context)
            }
        }
    }

    fn change_at(
        &mut self,
        path: &TreePath,
        change: EntryChange,
        context: Context,
    ) -> Result<Applied, ChangeError> {
        let inode = self.existing(path)?.inode;
        self.change_of(inode, path, change, context)
    }

    /// Changes the entry with this inode, which is at `path`.
    fn change_of(
        &mut self,
        inode: Inode,
        path: &TreePath,
        change: EntryChange,
        context: Context,
    ) -> Result<Applied, ChangeError> {
        match change {
            EntryChange::Write { at, data } => self.write(inode, path, (at, data), false, context),
            EntryChange::Truncate { size } => {
                self.write(inode, path, (WriteAt::Offset(size), Arc::default()), true, context)
            }
            EntryChange::SetMtime { mtime } => self.set_mtime(inode, path, mtime, context),
        }
    }

    fn create(&mut self, path: &TreePath, context: Context) -> Result<Applied, ChangeError> {
        let (parent, name) = self.parent_and_name(path)?;
        let guest = path.guest_config();
        if self.lookup(parent, &name).is_some() {
            return Err(ChangeError::Exists { path: path.clone() });
        }
        self.check_guest(path, guest.as_ref())?;
        self.check_inodes(path, context.limits)?;

        let applied = self.insert_new(parent, name, Node::file(), context.stamp);
        self.versions.count(path);
        if let Some(config) = guest {
            self.guests.register(&config, applied.inode);
        }
        Ok(applied)
    }

    fn mkdir(&mut self, path: &TreePath, context: Context) -> Result<Applied, ChangeError> {
        let (parent, name) = self.parent_and_name(path)?;
        if self.lookup(parent, &name).is_some() {
            return Err(ChangeError::Exists { path: path.clone() });
        }
        self.check_inodes(path, context.limits)?;

        let applied = self.insert_new(parent, name, Node::directory(), context.stamp);
        if path.lock_name().is_some() {
            self.restart_lock(applied.inode, context.now);
        }
        Ok(applied)
    }

    /// A write of `data`; with `cut` the file ends where the write does.
    fn write(
        &mut self,
        inode: Inode,
        path: &TreePath,
        (at, data): (WriteAt, Arc<Vec<u8>>),
        cut: bool,
        context: Context,
    ) -> Result<Applied, ChangeError> {
        let entry = self.get(inode).ok_or(ChangeError::Replaced { inode })?;
        let old_size = entry.size();
        if entry.is_dir() {
            return Err(ChangeError::IsDirectory { path: path.clone() });
        }
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => old_size,
        };
        let written = data.len() as u64;
        let end = offset.saturating_add(written);
        if end > MAX_FILE_SIZE {
            return Err(ChangeError::TooLarge { path: path.clone(), end });
        }
        let guest = path.guest_config();
        self.check_guest(path, guest.as_ref())?;
        let new_size = if cut { end } else { end.max(old_size) };
        self.check_space(path, old_size, new_size, context.limits)?;

        let entry = self.change_entry(inode, context.stamp.writer, context.stamp.time);
        if let Node::File(content) = &mut entry.node {
            put_bytes(content, data, offset as usize, new_size as usize);
        }
        self.bytes = self.bytes - old_size + new_size;
        self.versions.count(path);
        if let Some(config) = guest {
            self.guests.register(&config, inode);
        }
        let range = ByteRange::of_write(offset, written, old_size, new_size);
        Ok(Applied { inode, offset, invalidations: vec![Invalidation::Content { inode, range }] })
    }

    fn delete(&mut self, path: &TreePath, context: Context) -> Result<Applied, ChangeError> {
        let entry = self.existing_or_root(path)?;
        if entry.inode == ROOT {
            return Err(ChangeError::Root);
        }
        if entry.is_filled_dir() {
            return Err(ChangeError::NotEmpty { path: path.clone() });
        }
        let (inode, parent, name) = (entry.inode, entry.parent, entry.name.clone());

        self.begin(context.stamp.writer, context.stamp.time);
        let removed = self.remove(inode, path.guest_config(), Removal::Deleted);
        self.versions.count(path);
        Ok(Applied { inode, offset: 0, invalidations: vec![Invalidation::Entry { parent, name }, removed] })
    }

    fn rename(&mut self, from: &TreePath, to: &TreePath, context: Context) -> Result<Applied, ChangeError> {
        let (source, target) = (from.guest_config(), to.guest_config());
        let entry = self.existing_or_root(from)?;
        let (inode, is_dir) = (entry.inode, entry.is_dir());
        if inode == ROOT {
            return Err(ChangeError::Root);
        }
        if is_dir && from.is_below_lock_dir() {
            return Err(ChangeError::LockMoved { path: from.clone() });
        }
        let same_guest = source.map(|config| config.vmid) == target.map(|config| config.vmid);
        if !is_dir && !same_guest {
            self.check_guest(to, target.as_ref())?;
        }
        let replaced = self.check_target(inode, from, to)?;
        if replaced == Some(inode) {
            return Ok(Applied::nothing(inode));
        }
        let (to_parent, to_name) = self.parent_and_name(to)?;
        if entry.is_filled_dir() {
            return Err(ChangeError::NotEmpty { path: from.clone() });
        }

        let from_place = Invalidation::Entry { parent: entry.parent, name: entry.name.clone() };
        let to_place = Invalidation::Entry { parent: to_parent, name: to_name.clone() };
        let mut invalidations = vec![from_place, to_place, Invalidation::Attributes { inode }];
        if let Some(replaced) = replaced {
            invalidations.push(self.remove(replaced, None, Removal::Replaced));
        }
        self.relink(inode, to_parent, to_name, context.stamp);
        self.versions.count(from);
        self.versions.count(to);
        self.move_guest(inode, is_dir, source, target);
        Ok(Applied { inode, offset: 0, invalidations })
    }

    fn set_mtime(
        &mut self,
        inode: Inode,
        path: &TreePath,
        mtime: u32,
        context: Context,
    ) -> Result<Applied, ChangeError> {
        let entry = self.get(inode).ok_or(ChangeError::Replaced { inode })?;
        let is_lock = entry.is_dir() && path.lock_name().is_some();
        if is_lock && mtime < entry.mtime {
            return Err(ChangeError::LockHeld { path: path.clone() });
        }
        if is_lock && entry.writer != context.stamp.writer {
            return Err(ChangeError::LockForeign { path: path.clone(), holder: entry.writer });
        }

        // As in stock the database's own time becomes the one asked for, too.
        self.change_entry(inode, context.stamp.writer, mtime);
        self.versions.count(path);
        if is_lock {
            self.restart_lock(inode, context.now);
        }
        Ok(Applied { inode, offset: 0, invalidations: vec![Invalidation::Attributes { inode }] })
    }

    fn unlock(
        &mut self,
        path: &TreePath,
        checksum: &[u8; 32],
        context: Context,
    ) -> Result<Applied, ChangeError> {
        let is_it = |entry: &&Entry| entry.is_dir() && index::entry_checksum(entry) == *checksum;
        if !path.is_below_lock_dir() || self.resolve(path.as_bytes()).filter(is_it).is_none() {
            return Err(ChangeError::LockChanged { path: path.clone() });
        }
        self.delete(path, context)
    }
}
