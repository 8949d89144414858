//! The invariants of the tree, recomputed from scratch. For tests and for checking a database; the
//! daemon's own work never needs it.

use super::guests::Guests;
use super::{Entry, Inode, MemDb, ROOT, Row, check_entry};
use std::sync::Arc;

impl MemDb {
    /// Checks every invariant; the error says which one is broken, and where.
    pub fn verify(&self) -> Result<(), String> {
        self.all_entries().try_for_each(|entry| self.verify_entry(entry))?;
        let listed: usize = self.all_entries().filter_map(Entry::directory).map(|dir| dir.len()).sum();
        check(listed == self.entries.len(), || {
            format!("{listed} of {} entries are listed", self.entries.len())
        })?;
        let bytes: u64 = self.entries.values().map(Entry::size).sum();
        check(bytes == self.bytes, || format!("{bytes} bytes are counted as {}", self.bytes))?;
        self.verify_guests()?;
        self.verify_dirty()?;
        self.locks.known().try_for_each(|inode| {
            let is_lock = self.path_of(inode).is_some_and(|path| path.is_below_lock_dir());
            check(is_lock, || format!("an age is kept for inode {inode}, which is no lock"))
        })
    }

    fn verify_entry(&self, entry: &Entry) -> Result<(), String> {
        let Entry { inode, parent, .. } = *entry;
        if inode == ROOT {
            check(parent == ROOT && entry.name.is_empty() && entry.is_dir(), || "the root is odd".into())?;
        } else {
            let found = self.lookup(parent, &entry.name).map(|found| found.inode);
            check(found == Some(inode), || format!("inode {inode} is listed in {parent} as {found:?}"))?;
            check_entry(&Row::of(entry)).map_err(|error| error.to_string())?;
            let newest = inode.max(entry.version);
            check(newest <= self.version(), || format!("inode {inode} is ahead of the database"))?;
            let resolved = self.path_of(inode).and_then(|path| Some(self.resolve(path.as_bytes())?.inode));
            check(resolved == Some(inode), || format!("the path of inode {inode} leads to {resolved:?}"))?;
        }
        let private = self.path_of(inode).is_some_and(|path| path.is_private());
        check(private == entry.is_private(), || format!("inode {inode} is private: {}", !private))?;
        let digest = entry.digest.as_deref();
        let stale = digest.is_some_and(|digest| *digest != super::index::index_digest(entry));
        check(!stale, || format!("inode {inode} has an old digest"))
    }

    fn verify_guests(&self) -> Result<(), String> {
        let files = Guests::rebuild(self, &Guests::default(), &mut Err).map_err(|err| err.to_string())?;
        let key =
            |(vmid, guest): (u32, &super::Guest)| (vmid, guest.kind, Arc::clone(&guest.node), guest.config);
        let same = files.iter().map(key).eq(self.guests.iter().map(key));
        check(same, || format!("the guest list is {:?}, the files say {files:?}", self.guests))
    }

    fn verify_dirty(&self) -> Result<(), String> {
        let alive = |inode: &Inode| self.entries.contains_key(inode);
        let gone = self.dirty.changed().find(|inode| !alive(inode));
        check(gone.is_none(), || format!("inode {gone:?} is to be stored but gone"))?;
        let alive = self.dirty.deleted().find(alive);
        check(alive.is_none(), || format!("inode {alive:?} is to be deleted but there"))
    }
}

fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
