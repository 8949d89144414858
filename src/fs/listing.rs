//! Listings of directories. The names are taken once, when a listing is read from its start, so that
//! whoever removes files while listing them misses none; attributes are those of the moment.

use super::handles::Listing;
use super::ino::Target;
use super::{Attr, Fs, FsError, entry_target, ino, mode};
use crate::memdb::{Inode, MemDb, Name, ROOT};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One line of a listing.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What it names.
    pub attr: Attr,
    /// Where the listing goes on after it.
    pub next: u64,
}

/// Lines before the first name: `.` and `..`.
const DOTS: u64 = 2;

impl Fs {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn opendir(&self, ino: u64) -> Result<u64, FsError> {
        let inode = entry_target(ino).ok_or(FsError::NotDirectory)?;
        // Not as with a file, which is another one from one moment to the next: a directory was not there
        // in between.
        let is_dir = self.cfs.engine.read().get(inode).ok_or(FsError::NotFound)?.is_dir();
        if is_dir { Ok(self.handles.number()) } else { Err(FsError::NotDirectory) }
    }

    /// Closes what [`Fs::opendir`] opened.
    pub fn releasedir(&self, handle: u64) {
        self.handles.remove_listing(handle);
    }

    /// Lists a directory from `offset` on (0, or a [`DirEntry::next`]), until `add` says that there
    /// is no room: that line was not taken then.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn readdir(
        &self,
        ino: u64,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let inode = entry_target(ino).ok_or(FsError::NotDirectory)?;
        let listing = self.listing(inode, handle, offset)?;
        if offset == 0 && add(DirEntry { name: b".", attr: self.getattr(ino)?, next: 1 }) {
            return Ok(());
        }
        if offset <= 1 && add(DirEntry { name: b"..", attr: self.parent_attr(inode)?, next: DOTS }) {
            return Ok(());
        }
        let start = usize::try_from(offset.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let (mut tree, mut is_empty) = (None, offset > 1);
        for (index, (name, ino)) in listing.names.iter().enumerate().skip(start) {
            let attr = match ino::target(*ino) {
                Target::Entry(child) => {
                    let tree = tree.get_or_insert_with(|| self.cfs.engine.read());
                    self.listed_attr(tree, inode, name, child)
                }
                Target::Generated(index) => {
                    // Its text is made from the tree, by whoever takes that lock.
                    tree = None;
                    self.plugs.get(index).map(|plug| plug.attr(*ino, &self.cfs))
                }
            };
            let Some(attr) = attr else { continue };
            let is_full = add(DirEntry { name, attr, next: DOTS + index as u64 + 1 });
            if is_full && !is_empty {
                break;
            }
            // A line that does not fit into an empty reply is left out: an empty reply would end the listing.
            is_empty &= is_full;
        }
        Ok(())
    }

    /// The names of a directory as they were when this handle began to list it.
    fn listing(&self, inode: Inode, handle: u64, offset: u64) -> Result<Arc<Listing>, FsError> {
        if offset > 0 {
            if let Some(listing) = self.handles.listing(handle) {
                return Ok(listing);
            }
        }
        let listing = {
            let tree = self.cfs.engine.read();
            let directory = ino::of_entry(inode);
            self.known.note_listing(directory);
            let children = tree.get(inode).ok_or(FsError::NotFound)?;
            let children = children.children().ok_or(FsError::NotDirectory)?;
            let name_bytes_max = self.name_bytes_max.load(Ordering::Relaxed);
            let children = children.filter(|(name, _)| name.len() <= name_bytes_max);
            let children = children.map(|(name, inode)| (name.clone(), ino::of_entry(inode)));
            let names = if inode == ROOT {
                let hidden = |name: &Name| self.plugs.find(name).is_some();
                self.generated_names().chain(children.filter(|(name, _)| !hidden(name))).collect()
            } else {
                children.collect()
            };
            Arc::new(Listing { names })
        };
        self.handles.set_listing(handle, Arc::clone(&listing));
        Ok(listing)
    }

    fn generated_names(&self) -> impl Iterator<Item = (Name, u64)> + '_ {
        let numbered = self.plugs.names().enumerate();
        numbered.filter_map(|(index, name)| Some((Name::new(name.as_bytes())?, ino::of_generated(index))))
    }

    /// The attributes of a listed entry; None when it is not there any more.
    fn listed_attr(&self, tree: &MemDb, dir: Inode, name: &Name, inode: Inode) -> Option<Attr> {
        let entry = tree.get(inode)?;
        let same = entry.parent == dir && entry.name == *name;
        same.then(|| {
            self.known.note_name(ino::of_entry(dir), name);
            self.attr_of(entry, mode::class_of(tree, entry))
        })
    }

    fn parent_attr(&self, inode: Inode) -> Result<Attr, FsError> {
        let parent = self.cfs.engine.read().get(inode).ok_or(FsError::NotFound)?.parent;
        self.entry_attr(parent).ok_or(FsError::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use crate::fs::fixture::Fixture;
    use crate::fs::{Fs, ROOT_INO};

    /// Reads a listing in answers of `room` lines each.
    fn list(fs: &Fs, ino: u64, room: usize) -> Vec<String> {
        let handle = fs.opendir(ino).expect("a directory");
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let mut taken = 0;
            let read = fs.readdir(ino, handle, offset, |entry| {
                if taken == room {
                    return true;
                }
                taken += 1;
                offset = entry.next;
                names.push(String::from_utf8_lossy(entry.name).into_owned());
                false
            });
            read.expect("listed");
            if taken == 0 {
                fs.releasedir(handle);
                return names;
            }
        }
    }

    #[test]
    fn every_name_once_however_little_room_there_is() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        let mut expected = vec![".".to_owned(), "..".to_owned()];
        for number in 0..25 {
            let name = format!("f{number:02}");
            tree.make(&format!("d/{name}"));
            expected.push(name);
        }
        for room in [1, 2, 3, 10, 100] {
            assert_eq!(list(&tree.fs, dir, room), expected, "{room} a time");
        }
        assert_eq!(list(&tree.fs, ROOT_INO, 4).len(), 2 + 10 + 1);
    }

    #[test]
    fn what_was_removed_meanwhile_is_left_out_and_what_moved_too() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        for name in ["a", "b", "c", "e"] {
            tree.make(&format!("d/{name}"));
        }
        let handle = tree.fs.opendir(dir).expect("a directory");
        let mut first = 0;
        let start = tree.fs.readdir(dir, handle, 0, |entry| {
            first = entry.next;
            entry.name == b"a"
        });
        start.expect("listed");
        tree.change(crate::memdb::Change::Delete { path: "d/b".into() });
        tree.change(crate::memdb::Change::Rename { from: "d/c".into(), to: "d/x".into() });
        let mut names = Vec::new();
        let rest = tree.fs.readdir(dir, handle, first, |entry| {
            names.push(entry.name.to_vec());
            false
        });
        rest.expect("listed");
        assert_eq!(names, [b"e"]);
    }

    #[test]
    fn names_too_long_for_the_kernel_do_not_end_a_listing() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        for name in ["a".to_owned(), "b".repeat(1025), "c".repeat(1024)] {
            tree.make(&format!("d/{name}"));
        }
        assert_eq!(list(&tree.fs, dir, 100), [".", "..", "a", &"c".repeat(1024)]);
    }
}
