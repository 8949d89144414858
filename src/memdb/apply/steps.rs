//! The steps that a change consists of. None of them can fail: all was checked before.

use crate::memdb::path::GuestConfig;
use crate::memdb::{Applied, Entry, Inode, Invalidation, MemDb, Name, Node, ROOT, Removal, Stamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Why a change that passed its checks may rely on an entry.
const CHECKED: &str = "the entry was looked up before";

impl MemDb {
    /// Starts the next version of the database.
    pub(super) fn begin(&mut self, writer: u32, mtime: u32) -> u64 {
        let version = self.root.version + 1;
        self.root.stamp(version, writer, mtime);
        self.dirty.new_version();
        version
    }

    /// Starts the next version with a change of this entry.
    pub(super) fn change_entry(&mut self, inode: Inode, writer: u32, mtime: u32) -> &mut Entry {
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

    fn is_private_at(&self, parent: Inode, name: &Name) -> bool {
        self.get(parent).is_none_or(|dir| self.is_private_in(dir, name))
    }

    pub(super) fn insert_new(&mut self, parent: Inode, name: Name, node: Node, stamp: Stamp) -> Applied {
        let inode = self.begin(stamp.writer, stamp.time);
        let (writer, mtime) = (stamp.writer, stamp.time);
        let private = self.is_private_at(parent, &name);
        let entry = Entry {
            inode,
            parent,
            version: inode,
            writer,
            mtime,
            name: name.clone(),
            node,
            private,
            digest: None,
        };
        self.entries.insert(inode, entry);
        self.directory_mut(parent).insert(name.clone(), inode);
        self.dirty.change(inode);
        Applied { inode, offset: 0, invalidations: vec![Invalidation::Entry { parent, name }] }
    }

    /// Takes an entry out of the tree. Unlike stock, only a file that is a guest's configuration
    /// takes the guest out of the list, not a directory of such a name.
    pub(super) fn remove(
        &mut self,
        inode: Inode,
        guest: Option<GuestConfig<'_>>,
        removal: Removal,
    ) -> Invalidation {
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
        Invalidation::Removed { inode, content, mtime, private: entry.private, removal }
    }

    /// Moves an entry to another place, which is free.
    pub(super) fn relink(&mut self, inode: Inode, parent: Inode, name: Name, stamp: Stamp) {
        let private = self.is_private_at(parent, &name);
        let entry = self.change_entry(inode, stamp.writer, stamp.time);
        // A directory is moved only if it is empty, so nothing else changes.
        entry.private = private;
        let old_parent = std::mem::replace(&mut entry.parent, parent);
        let old_name = std::mem::replace(&mut entry.name, name.clone());
        self.directory_mut(old_parent).remove(&old_name);
        self.directory_mut(parent).insert(name, inode);
    }

    /// Follows a rename in the guest list.
    pub(super) fn move_guest(
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

    pub(super) fn restart_lock(&mut self, inode: Inode, now: Duration) {
        if let Some(checksum) = self.entry_checksum(inode) {
            self.locks.restart(inode, checksum, now);
        }
    }
}

/// Puts `data` at `offset` into bytes that will be `new_size` long, zero-filling a gap. In place
/// when nobody else holds the bytes.
pub(super) fn put_bytes(content: &mut Arc<Vec<u8>>, data: Arc<Vec<u8>>, offset: usize, new_size: usize) {
    if offset == 0 && data.len() == new_size {
        *content = data;
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
