//! The naive model: what the tree's rules say, in the plainest form, slow and without cleverness.
//! It shares nothing with the real tree but the values that go in.

use libc::{EACCES, EEXIST, EFBIG, EINVAL, ENOENT, ENOTDIR, ENOTEMPTY};
use pmxcfs::memdb::{Change, EntryChange, Stamp, TreePath, WriteAt};
use std::collections::BTreeMap;

pub type Path = Vec<u8>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub inode: u64,
    pub version: u64,
    pub writer: u32,
    pub mtime: u32,
    /// None for a directory.
    pub content: Option<Vec<u8>>,
}

/// What is known of a lock: the item it was, and since when.
#[derive(Debug, Clone)]
struct Seen {
    inode: u64,
    version: u64,
    since: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub version: u64,
    pub writer: u32,
    pub mtime: u32,
    pub items: BTreeMap<Path, Item>,
    /// VMID to kind, node and version.
    pub guests: BTreeMap<u32, (String, String, u32)>,
    pub guest_changes: u64,
    last_guest_version: u32,
    /// How often each path changed, for those that are watched.
    pub changes: BTreeMap<Path, u64>,
    locks: BTreeMap<Path, Seen>,
}

/// Kind, node and VMID in the path of a guest's configuration.
pub fn guest(path: &[u8]) -> Option<(String, String, u32)> {
    let text = std::str::from_utf8(path).ok()?;
    let [nodes, node, dir, file] = text.split('/').collect::<Vec<_>>()[..] else { return None };
    let kind = match dir {
        "qemu-server" => "qemu",
        "openvz" => "openvz",
        "lxc" => "lxc",
        _ => return None,
    };
    let node_ok = !node.is_empty()
        && !node.starts_with('-')
        && !node.ends_with('-')
        && node.chars().all(|c| c == '-' || c.is_ascii_alphanumeric());
    let vmid: u32 = file.strip_suffix(".conf")?.parse().ok()?;
    let canonical = format!("{vmid}.conf") == file && vmid > 0;
    (nodes == "nodes" && node_ok && canonical).then(|| (kind.into(), node.into(), vmid))
}

fn split(path: &[u8]) -> (Path, Path) {
    let mut parts: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
    let name = parts.pop().unwrap_or_default().to_vec();
    (parts.join(&b'/'), name)
}

fn is_below_locks(path: &[u8]) -> bool {
    path.starts_with(b"priv/lock/")
}

fn is_lock_place(path: &[u8]) -> bool {
    split(path).0 == b"priv/lock"
}

impl Model {
    pub fn new() -> Self {
        Self { version: 1, ..Self::default() }
    }

    fn is_root(&self, path: &[u8]) -> bool {
        path.is_empty() || path == b"."
    }

    fn exists(&self, path: &[u8]) -> bool {
        self.is_root(path) || self.items.contains_key(path)
    }

    fn is_dir(&self, path: &[u8]) -> bool {
        self.is_root(path) || self.items.get(path).is_some_and(|item| item.content.is_none())
    }

    fn is_filled(&self, path: &[u8]) -> bool {
        self.items.keys().any(|other| split(other).0 == path)
    }

    /// Where the entry is or would be, or why nothing can be there.
    fn place(&self, path: &[u8]) -> Result<Path, i32> {
        if path.is_empty() {
            return Err(EACCES);
        }
        let (dir, name) = split(path);
        if dir == b"." || !self.exists(&dir) {
            return Err(ENOENT);
        }
        if !self.is_dir(&dir) {
            return Err(ENOTDIR);
        }
        if name == b"." || name == b".." || name.contains(&0) {
            return Err(EACCES);
        }
        Ok(path.to_vec())
    }

    fn guest_elsewhere(&self, path: &[u8]) -> bool {
        let Some((kind, node, vmid)) = guest(path) else { return false };
        self.guests.get(&vmid).is_some_and(|(kind2, node2, _)| (kind, node) != (kind2.clone(), node2.clone()))
    }

    fn register(&mut self, path: &[u8]) {
        if let Some((kind, node, vmid)) = guest(path) {
            self.guest_changes += 1;
            self.last_guest_version += 1;
            self.guests.insert(vmid, (kind, node, self.last_guest_version));
        }
    }

    fn unregister(&mut self, path: &[u8]) {
        if let Some((_, _, vmid)) = guest(path) {
            self.guest_changes += 1;
            self.guests.remove(&vmid);
        }
    }

    fn step(&mut self, stamp: Stamp, changed: &[&[u8]]) {
        self.version += 1;
        self.writer = stamp.writer;
        self.mtime = stamp.time;
        for path in changed {
            *self.changes.entry(path.to_vec()).or_default() += 1;
        }
    }

    fn saw_lock(&mut self, path: &[u8], now: u64) {
        let Item { inode, version, .. } = self.items[path];
        self.locks.insert(path.to_vec(), Seen { inode, version, since: now });
    }

    /// Whether the lock is older than 120 seconds, as far as was seen.
    pub fn lock_expired(&mut self, path: &[u8], now: u64) -> bool {
        if !self.is_dir(path) || !is_below_locks(path) {
            return false;
        }
        let item = &self.items[path];
        match self.locks.get(path) {
            Some(seen) if (seen.inode, seen.version) == (item.inode, item.version) => now - seen.since > 120,
            _ => {
                self.saw_lock(path, now);
                false
            }
        }
    }

    /// `right_lock` is whether an unlock names the checksum that the entry has.
    pub fn apply(&mut self, change: &Change, stamp: Stamp, now: u64, right_lock: bool) -> Result<(), i32> {
        match change {
            Change::Create { path } => self.make(path.as_bytes(), Some(Vec::new()), stamp, now),
            Change::Mkdir { path } => self.make(path.as_bytes(), None, stamp, now),
            Change::Write { path, at, data } => self.write(path.as_bytes(), Some(*at), data, stamp),
            Change::Truncate { path, size } => self.truncate(path.as_bytes(), *size, stamp),
            Change::Delete { path } => self.delete(path.as_bytes(), stamp),
            Change::Rename { from, to } => self.rename(from.as_bytes(), to.as_bytes(), stamp),
            Change::SetMtime { path, mtime } => self.set_mtime(path.as_bytes(), *mtime, stamp, now),
            Change::Unlock { path, .. } => {
                let path = path.as_bytes();
                if right_lock && self.is_dir(path) && is_below_locks(path) {
                    self.delete(path, stamp)
                } else {
                    Err(EACCES)
                }
            }
            Change::Entry { inode: 0, .. } => Err(EACCES),
            Change::Entry { inode, place, change } => {
                let is_it = |(_, item): &(&Path, &Item)| item.inode == *inode;
                let path = self.items.iter().find(is_it).map(|(path, _)| path.clone()).ok_or(ENOENT)?;
                if place.as_ref().is_some_and(|place| place.as_bytes() != path) {
                    return Err(ENOENT);
                }
                let change = EntryChange::clone(change).at_path(TreePath::new(&path));
                self.apply(&change, stamp, now, right_lock)
            }
        }
    }

    fn make(&mut self, path: &[u8], content: Option<Vec<u8>>, stamp: Stamp, now: u64) -> Result<(), i32> {
        let place = self.place(path)?;
        let is_file = content.is_some();
        if self.exists(&place) || (is_file && self.guest_elsewhere(path)) {
            return Err(EEXIST);
        }
        self.step(stamp, &[path][..usize::from(is_file)]);
        let (version, writer, mtime) = (self.version, stamp.writer, stamp.time);
        self.items.insert(place.clone(), Item { inode: version, version, writer, mtime, content });
        if is_file {
            self.register(path);
        } else if is_lock_place(&place) {
            self.saw_lock(&place, now);
        }
        Ok(())
    }

    /// Replaces the contents of a file by what `edit` makes of them.
    fn edit(
        &mut self,
        path: &[u8],
        stamp: Stamp,
        edit: impl FnOnce(&mut Vec<u8>) -> Result<(), i32>,
    ) -> Result<(), i32> {
        let place = self.place(path)?;
        let item = self.items.get(&place).ok_or(ENOENT)?;
        let mut content = item.content.clone().ok_or(ENOTDIR)?;
        edit(&mut content)?;
        if self.guest_elsewhere(path) {
            return Err(EEXIST);
        }
        self.step(stamp, &[path]);
        let (version, writer, mtime, content) = (self.version, stamp.writer, stamp.time, Some(content));
        let inode = self.items[&place].inode;
        self.items.insert(place, Item { inode, version, writer, mtime, content });
        self.register(path);
        Ok(())
    }

    fn write(&mut self, path: &[u8], at: Option<WriteAt>, data: &[u8], stamp: Stamp) -> Result<(), i32> {
        self.edit(path, stamp, |content| {
            let offset = match at {
                Some(WriteAt::Offset(offset)) => usize::try_from(offset).map_err(|_| EFBIG)?,
                _ => content.len(),
            };
            if offset.checked_add(data.len()).is_none_or(|end| end > 1048576) {
                return Err(EFBIG);
            }
            while content.len() < offset + data.len() {
                content.push(0);
            }
            for (i, byte) in data.iter().enumerate() {
                content[offset + i] = *byte;
            }
            Ok(())
        })
    }

    fn truncate(&mut self, path: &[u8], size: u64, stamp: Stamp) -> Result<(), i32> {
        self.edit(path, stamp, |content| {
            if size > 1048576 {
                return Err(EFBIG);
            }
            content.resize(size as usize, 0);
            Ok(())
        })
    }

    fn delete(&mut self, path: &[u8], stamp: Stamp) -> Result<(), i32> {
        if self.is_root(path) {
            return Err(EACCES);
        }
        if !self.exists(path) {
            return Err(ENOENT);
        }
        if self.is_filled(path) {
            return Err(ENOTEMPTY);
        }
        self.step(stamp, &[path]);
        if !self.is_dir(path) {
            self.unregister(path);
        }
        self.items.remove(path);
        self.locks.remove(path);
        Ok(())
    }

    fn rename(&mut self, from: &[u8], to: &[u8], stamp: Stamp) -> Result<(), i32> {
        if self.is_root(from) {
            return Err(EACCES);
        }
        if !self.exists(from) {
            return Err(ENOENT);
        }
        let is_file = !self.is_dir(from);
        if !is_file && is_below_locks(from) {
            return Err(EACCES);
        }
        let vmid = |path| guest(path).map(|(_, _, vmid)| vmid);
        if is_file && self.guest_elsewhere(to) && vmid(from) != vmid(to) {
            return Err(EEXIST);
        }
        if self.is_root(to) {
            return Err(EACCES);
        }
        if self.exists(to) {
            if from == to {
                return Ok(());
            }
            if self.is_filled(to) {
                return Err(ENOTEMPTY);
            }
        } else if split(&self.place(to)?).0 == from {
            return Err(EINVAL);
        }
        let place = self.place(to)?;
        if self.is_filled(from) {
            return Err(ENOTEMPTY);
        }
        self.step(stamp, &[from, to]);
        let (version, writer, mtime) = (self.version, stamp.writer, stamp.time);
        self.locks.remove(&place);
        if is_file {
            self.unregister(from);
            self.register(to);
        } else if self.items.get(&place).is_some_and(|item| item.content.is_some()) {
            self.unregister(to);
        }
        if let Some(item) = self.items.remove(from) {
            self.items.insert(place, Item { version, writer, mtime, ..item });
        }
        Ok(())
    }

    fn set_mtime(&mut self, path: &[u8], mtime: u32, stamp: Stamp, now: u64) -> Result<(), i32> {
        let place = self.place(path)?;
        let item = self.items.get(&place).ok_or(ENOENT)?.clone();
        let is_lock = item.content.is_none() && is_lock_place(path);
        if is_lock && (mtime < item.mtime || item.writer != stamp.writer) {
            return Err(EACCES);
        }
        self.step(Stamp { time: mtime, ..stamp }, &[path]);
        let (version, writer) = (self.version, stamp.writer);
        self.items.insert(place, Item { version, writer, mtime, ..item });
        if is_lock {
            self.saw_lock(path, now);
        }
        Ok(())
    }
}
