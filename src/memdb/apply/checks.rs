//! The checks before a change. None of them changes anything.

use crate::memdb::path::GuestConfig;
use crate::memdb::{
    BLOCK_SIZE, BLOCKS, Change, ChangeError, Entry, EntryChange, FILES, Inode, Limits, MemDb, NAME_BYTES_MAX,
    NUMBER_MAX, Name, ROOT, TreePath, WriteAt,
};
use std::sync::Arc;

impl MemDb {
    pub(super) fn check_next_version(&self) -> Result<(), ChangeError> {
        let version = self.root.version;
        if version < NUMBER_MAX { Ok(()) } else { Err(ChangeError::LastVersion { version }) }
    }

    /// The directory that `path` is in, and the name it has or would have there.
    pub(super) fn parent_and_name(&self, path: &TreePath) -> Result<(Inode, Name), ChangeError> {
        let (parent, name) = self.place(path)?;
        let name = Name::new(name).ok_or_else(|| bad_name(path, name))?;
        Ok((parent.inode, name))
    }

    /// The entry at `path`, which cannot be the root.
    pub(super) fn existing(&self, path: &TreePath) -> Result<&Entry, ChangeError> {
        let (parent, name) = self.place(path)?;
        self.child(parent, name).ok_or_else(|| ChangeError::NotFound { path: path.clone() })
    }

    pub(super) fn existing_or_root(&self, path: &TreePath) -> Result<&Entry, ChangeError> {
        self.resolve(path.as_bytes()).ok_or_else(|| ChangeError::NotFound { path: path.clone() })
    }

    /// Path of the entry with this inode. If `expected` is given, the entry must be there.
    pub(super) fn place_of(&self, inode: Inode, expected: Option<TreePath>) -> Result<TreePath, ChangeError> {
        if inode == ROOT {
            return Err(ChangeError::BadName { path: TreePath::root() });
        }
        let place = self.path_of(inode).ok_or(ChangeError::Replaced { inode })?;
        if expected.is_some_and(|expected| expected != place) {
            return Err(ChangeError::Replaced { inode });
        }
        Ok(place)
    }

    fn place<'p>(&self, path: &'p TreePath) -> Result<(&Entry, &'p [u8]), ChangeError> {
        let (dir, name) = path.split().ok_or_else(|| ChangeError::BadName { path: path.clone() })?;
        let parent = self.walk(dir).ok_or_else(|| ChangeError::NotFound { path: path.clone() })?;
        if !parent.is_dir() {
            return Err(ChangeError::NotDirectory { path: path.clone() });
        }
        if !Name::is_valid(name) {
            return Err(bad_name(path, name));
        }
        Ok((parent, name))
    }

    /// What a rename to `to` would replace.
    pub(super) fn check_target(
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

    pub(super) fn check_guest(
        &self,
        path: &TreePath,
        config: Option<&GuestConfig<'_>>,
    ) -> Result<(), ChangeError> {
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

    /// Whether the limits allow a change of a local caller, before others are asked to make it.
    pub fn check_limits(&self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::Create { path } | Change::Mkdir { path } => self.check_inodes(path, Limits::Enforced),
            Change::Write { path, at, data } => {
                let old_size = self.size_at(path);
                let new_size = size_after(*at, data.len(), old_size);
                self.check_space(path, old_size, new_size, Limits::Enforced)
            }
            Change::Truncate { path, size } => {
                self.check_space(path, self.size_at(path), *size, Limits::Enforced)
            }
            Change::Entry { inode, change, .. } => self.check_entry_limits(*inode, change),
            Change::Delete { .. }
            | Change::Rename { .. }
            | Change::SetMtime { .. }
            | Change::Unlock { .. } => Ok(()),
        }
    }

    fn check_entry_limits(&self, inode: Inode, change: &EntryChange) -> Result<(), ChangeError> {
        let Some(entry) = self.get(inode) else { return Err(ChangeError::Replaced { inode }) };
        let old_size = entry.size();
        let new_size = match change {
            EntryChange::Write { at, data } => size_after(*at, data.len(), old_size),
            EntryChange::Truncate { size } => *size,
            EntryChange::SetMtime { .. } => return Ok(()),
        };
        if new_size <= old_size {
            return Ok(());
        }
        self.check_space(&self.path_of(inode).unwrap_or_default(), old_size, new_size, Limits::Enforced)
    }

    fn size_at(&self, path: &TreePath) -> u64 {
        self.resolve(path.as_bytes()).map_or(0, |entry| entry.size())
    }

    pub(super) fn check_inodes(&self, path: &TreePath, limits: Limits) -> Result<(), ChangeError> {
        if limits == Limits::Enforced && self.usage().entries >= FILES {
            return Err(ChangeError::NoInodes { path: path.clone() });
        }
        Ok(())
    }

    /// What does not grow is always allowed, so that a database over its limit can be cleaned up.
    pub(super) fn check_space(
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

/// Size of a file after a write of `length` bytes.
fn size_after(at: WriteAt, length: usize, old_size: u64) -> u64 {
    let offset = match at {
        WriteAt::Offset(offset) => offset,
        WriteAt::End => old_size,
    };
    offset.saturating_add(length as u64).max(old_size)
}

/// Reason why no entry can have the name at the end of `path`.
fn bad_name(path: &TreePath, name: &[u8]) -> ChangeError {
    match name.len() {
        len if len > NAME_BYTES_MAX => ChangeError::NameTooLong { len },
        _ => ChangeError::BadName { path: path.clone() },
    }
}
