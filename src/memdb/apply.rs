//! The rules by which the tree changes. Every operation first checks everything, then changes; a
//! refused change leaves no trace. What is accepted must be what a stock node accepts, else nodes
//! drift apart; known exceptions are named where they are.

use super::path::GuestConfig;
use super::{
    Applied, BLOCK_SIZE, BLOCKS, Change, ChangeError, Entry, FILES, Inode, Limits, MAX_FILE_SIZE, MemDb,
    Name, Node, ROOT, Stamp, Touched, TreePath, WriteAt, index,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What all kinds of change need to know beside themselves.
#[derive(Clone, Copy)]
struct Context {
    stamp: Stamp,
    limits: Limits,
    now: Duration,
}

/// Why a change that passed its checks may rely on an entry.
const CHECKED: &str = "the entry was looked up before";

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
            Change::Write { path, at, data } => self.write(&path, at, data, false, context),
            Change::Truncate { path, size } => {
                self.write(&path, WriteAt::Offset(size), Vec::new(), true, context)
            }
            Change::Delete { path } => self.delete(&path, context),
            Change::Rename { from, to } => self.rename(&from, &to, context),
            Change::SetMtime { path, mtime } => self.set_mtime(&path, mtime, context),
            Change::Unlock { path, checksum } => self.unlock(&path, &checksum, context),
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
        path: &TreePath,
        at: WriteAt,
        data: Vec<u8>,
        cut: bool,
        context: Context,
    ) -> Result<Applied, ChangeError> {
        let entry = self.existing(path)?;
        let (inode, old_size) = (entry.inode, entry.size());
        if entry.is_dir() {
            return Err(ChangeError::IsDirectory { path: path.clone() });
        }
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => old_size,
        };
        let end = offset.saturating_add(data.len() as u64);
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
        Ok(Applied { inode, offset, touched: vec![Touched::Data { inode }] })
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
        let removed = self.remove(inode, path.guest_config());
        self.versions.count(path);
        Ok(Applied { inode, offset: 0, touched: vec![Touched::Name { parent, name }, removed] })
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
            return Ok(Applied { inode, offset: 0, touched: Vec::new() });
        }
        let (to_parent, to_name) = self.parent_and_name(to)?;
        if entry.is_filled_dir() {
            return Err(ChangeError::NotEmpty { path: from.clone() });
        }

        let from_place = Touched::Name { parent: entry.parent, name: entry.name.clone() };
        let to_place = Touched::Name { parent: to_parent, name: to_name.clone() };
        let mut touched = vec![from_place, to_place, Touched::Attributes { inode }];
        if let Some(replaced) = replaced {
            touched.push(self.remove(replaced, None));
        }
        self.relink(inode, to_parent, to_name, context.stamp);
        self.versions.count(from);
        self.versions.count(to);
        self.move_guest(inode, is_dir, source, target);
        Ok(Applied { inode, offset: 0, touched })
    }

    fn set_mtime(&mut self, path: &TreePath, mtime: u32, context: Context) -> Result<Applied, ChangeError> {
        let entry = self.existing(path)?;
        let inode = entry.inode;
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
        Ok(Applied { inode, offset: 0, touched: vec![Touched::Attributes { inode }] })
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

/// Checks.
impl MemDb {
    fn check_next_version(&self) -> Result<(), ChangeError> {
        let version = self.root.version;
        match version.checked_add(1) {
            Some(next) if !self.entries.contains_key(&next) => Ok(()),
            next => Err(ChangeError::VersionInUse { version, inode: next.unwrap_or(version) }),
        }
    }

    /// The directory that `path` is in, and the name it has or would have there.
    fn parent_and_name(&self, path: &TreePath) -> Result<(Inode, Name), ChangeError> {
        let (parent, name) = self.place(path)?;
        let name = Name::new(name).ok_or_else(|| ChangeError::BadName { path: path.clone() })?;
        Ok((parent.inode, name))
    }

    /// The entry at `path`, which cannot be the root.
    fn existing(&self, path: &TreePath) -> Result<&Entry, ChangeError> {
        let (parent, name) = self.place(path)?;
        self.child(parent, name).ok_or_else(|| ChangeError::NotFound { path: path.clone() })
    }

    fn existing_or_root(&self, path: &TreePath) -> Result<&Entry, ChangeError> {
        self.resolve(path.as_bytes()).ok_or_else(|| ChangeError::NotFound { path: path.clone() })
    }

    fn place<'p>(&self, path: &'p TreePath) -> Result<(&Entry, &'p [u8]), ChangeError> {
        let (dir, name) = path.split().ok_or_else(|| ChangeError::BadName { path: path.clone() })?;
        let parent = self.resolve(dir).ok_or_else(|| ChangeError::NotFound { path: path.clone() })?;
        if !parent.is_dir() {
            return Err(ChangeError::NotDirectory { path: path.clone() });
        }
        if !Name::is_valid(name) {
            return Err(ChangeError::BadName { path: path.clone() });
        }
        Ok((parent, name))
    }

    /// What a rename to `to` would replace.
    fn check_target(
        &self,
        inode: Inode,
        from: &TreePath,
        to: &TreePath,
    ) -> Result<Option<Inode>, ChangeError> {
        match self.resolve(to.as_bytes()) {
            Some(target) if target.inode == ROOT => Err(ChangeError::Root),
            Some(target) if target.inode == inode => Ok(Some(inode)),
            Some(target) if target.is_filled_dir() => Err(ChangeError::NotEmpty { path: to.clone() }),
            Some(target) => Ok(Some(target.inode)),
            None if self.place(to)?.0.inode == inode => {
                Err(ChangeError::IntoItself { from: from.clone(), to: to.clone() })
            }
            None => Ok(None),
        }
    }

    fn check_guest(&self, path: &TreePath, config: Option<&GuestConfig<'_>>) -> Result<(), ChangeError> {
        let Some(config) = config else { return Ok(()) };
        match self.guests.conflict(config) {
            None => Ok(()),
            Some(guest) => Err(ChangeError::GuestExists {
                path: path.clone(),
                vmid: config.vmid,
                kind: guest.kind,
                node: Arc::clone(&guest.node),
            }),
        }
    }

    fn check_inodes(&self, path: &TreePath, limits: Limits) -> Result<(), ChangeError> {
        if limits == Limits::Enforced && self.usage().entries >= FILES {
            return Err(ChangeError::NoInodes { path: path.clone() });
        }
        Ok(())
    }

    /// What does not grow is always allowed, so that a database over its limit can be cleaned up.
    fn check_space(
        &self,
        path: &TreePath,
        old_size: u64,
        new_size: u64,
        limits: Limits,
    ) -> Result<(), ChangeError> {
        let full = self.bytes - old_size + new_size > BLOCKS * BLOCK_SIZE;
        if limits == Limits::Enforced && new_size > old_size && full {
            return Err(ChangeError::NoSpace { path: path.clone() });
        }
        Ok(())
    }
}

/// Steps of a change. None of them can fail: all was checked before.
impl MemDb {
    /// Starts the next version of the database.
    fn begin(&mut self, writer: u32, mtime: u32) -> u64 {
        let version = self.root.version + 1;
        self.root.stamp(version, writer, mtime);
        self.dirty.new_version();
        version
    }

    /// Starts the next version with a change of this entry.
    fn change_entry(&mut self, inode: Inode, writer: u32, mtime: u32) -> &mut Entry {
        let version = self.begin(writer, mtime);
        self.dirty.change(inode);
        let entry = self.entries.get_mut(&inode).expect(CHECKED);
        entry.stamp(version, writer, mtime);
        entry
    }

    fn directory_mut(&mut self, inode: Inode) -> &mut BTreeMap<Name, Inode> {
        let entry = if inode == ROOT { &mut self.root } else { self.entries.get_mut(&inode).expect(CHECKED) };
        entry.children_mut().expect(CHECKED)
    }

    fn insert_new(&mut self, parent: Inode, name: Name, node: Node, stamp: Stamp) -> Applied {
        let inode = self.begin(stamp.writer, stamp.time);
        let (writer, mtime) = (stamp.writer, stamp.time);
        let entry =
            Entry { inode, parent, version: inode, writer, mtime, name: name.clone(), node, digest: None };
        self.entries.insert(inode, entry);
        self.directory_mut(parent).insert(name.clone(), inode);
        self.dirty.change(inode);
        Applied { inode, offset: 0, touched: vec![Touched::Name { parent, name }] }
    }

    /// Takes an entry out of the tree. Unlike stock, only a file that is a guest's configuration
    /// takes the guest out of the list, not a directory of such a name.
    fn remove(&mut self, inode: Inode, guest: Option<GuestConfig<'_>>) -> Touched {
        let entry = self.entries.remove(&inode).expect(CHECKED);
        self.directory_mut(entry.parent).remove(&entry.name);
        self.bytes -= entry.size();
        self.locks.forget(inode);
        self.dirty.delete(inode);
        let mtime = entry.mtime;
        let content = match entry.node {
            Node::File(content) => Some(content),
            Node::Directory(_) => None,
        };
        if let (Some(config), Some(_)) = (guest, &content) {
            self.guests.unregister(config.vmid);
        }
        Touched::Removed { inode, content, mtime }
    }

    /// Moves an entry to another place, which is free.
    fn relink(&mut self, inode: Inode, parent: Inode, name: Name, stamp: Stamp) {
        let entry = self.change_entry(inode, stamp.writer, stamp.time);
        let old_parent = std::mem::replace(&mut entry.parent, parent);
        let old_name = std::mem::replace(&mut entry.name, name.clone());
        self.directory_mut(old_parent).remove(&old_name);
        self.directory_mut(parent).insert(name, inode);
    }

    /// Follows a rename in the guest list.
    fn move_guest(
        &mut self,
        inode: Inode,
        is_dir: bool,
        source: Option<GuestConfig<'_>>,
        target: Option<GuestConfig<'_>>,
    ) {
        match (source, target) {
            (Some(source), _) if !is_dir => self.guests.unregister(source.vmid),
            // A directory took the place of this configuration.
            (_, Some(target)) if is_dir && self.guests.is_at(&target) => self.guests.unregister(target.vmid),
            _ => {}
        }
        if let (false, Some(target)) = (is_dir, target) {
            self.guests.register(&target, inode);
        }
    }

    fn restart_lock(&mut self, inode: Inode, now: Duration) {
        if let Some(checksum) = self.entry_checksum(inode) {
            self.locks.restart(inode, checksum, now);
        }
    }
}

/// Puts `data` at `offset` into bytes that will be `new_size` long, zero-filling a gap. In place
/// when nobody else holds the bytes.
fn put_bytes(content: &mut Arc<Vec<u8>>, data: Vec<u8>, offset: usize, new_size: usize) {
    if offset == 0 && data.len() == new_size {
        *content = Arc::new(data);
        return;
    }
    let bytes = Arc::make_mut(content);
    let end = offset + data.len();
    if offset >= bytes.len() {
        bytes.resize(offset, 0);
        bytes.extend_from_slice(&data);
    } else {
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset..end].copy_from_slice(&data);
    }
    bytes.truncate(new_size);
}
