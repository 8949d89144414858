//! Where a repair puts what cannot stay: `priv/lost+found`. Below `priv` because only root may read what is
//! there, and nobody knows what was lost.

use super::plan::Plan;
use crate::memdb::{Inode, KIND_DIRECTORY, KIND_FILE, MAX_FILE_SIZE, ROOT};
use std::collections::BTreeSet;
use std::sync::Arc;

const PRIVATE: &[u8] = b"priv";
const LOST: &[u8] = b"lost+found";

/// So much of a name is kept behind the number.
const NAME_BYTES_MAX: usize = 200;

impl Plan {
    /// Moves an entry, with all that is in it, to the lost.
    pub(super) fn lose(&mut self, inode: Inode, why: &str) {
        let Some(row) = self.rows.get(&inode) else { return };
        let (name, from) = (lost_name(inode, &row.name), self.shown(inode));
        let lost = self.lost_directory(inode);
        let name = self.free_name(lost, name);
        self.change(inode, |row| {
            row.parent = lost;
            row.name = name.into();
        });
        let what = format!("'{from}' (inode {inode}) is moved to '{}'", self.shown(inode));
        self.step(inode, what, why);
    }

    /// Puts bytes that were in `inode` and cannot stay there into files of their own.
    pub(super) fn lose_bytes(&mut self, inode: Inode, bytes: &[u8], why: &str) {
        let Some(row) = self.rows.get(&inode) else { return };
        let (writer, mtime, name) = (row.writer, row.mtime, lost_name(inode, &row.name));
        for piece in bytes.chunks(MAX_FILE_SIZE as usize) {
            let lost = self.lost_directory(inode);
            let name = self.free_name(lost, name.clone());
            let number = self.next_version();
            self.make(number, lost, &name, KIND_FILE);
            self.change(number, |row| {
                (row.writer, row.mtime) = (writer, mtime);
                row.data = Some(Arc::new(piece.to_vec()));
            });
            let (from, to, size) = (self.shown(inode), self.shown(number), piece.len());
            self.step(inode, format!("{size} bytes of '{from}' (inode {inode}) are moved to '{to}'"), why);
        }
    }

    /// Makes a directory that is gone again, for what was in it.
    pub(super) fn find_directory(&mut self, inode: Inode) {
        let lost = self.lost_directory(inode);
        let name = self.free_name(lost, lost_name(inode, b"directory"));
        self.make(inode, lost, &name, KIND_DIRECTORY);
        // A number of old: it is given a version like everything that changed.
        self.change(inode, |row| row.version = 0);
        let number = self.children.get(&inode).map_or(0, BTreeSet::len);
        let what = format!("directory inode {inode} is made again as '{}'", self.shown(inode));
        self.step(
            inode,
            what,
            &format!("it is gone, and nothing says where it was; its entries ({number}) stay in it"),
        );
    }

    /// The directory for the lost, made when missing. It is never `moving` or inside of it.
    fn lost_directory(&mut self, moving: Inode) -> Inode {
        let is_usable = |plan: &Self, lost: Inode| {
            let parent = plan.rows.get(&lost).map_or(ROOT, |row| row.parent);
            moving != lost && moving != parent
        };
        if let Some(lost) = self.lost.filter(|&lost| is_usable(self, lost)) {
            return lost;
        }
        let private = self.directory_in(ROOT, PRIVATE, moving);
        let lost = self.directory_in(private, LOST, moving);
        self.lost = Some(lost);
        lost
    }

    /// The directory called `name` in `parent`, made when missing; of two that which stays.
    fn directory_in(&mut self, parent: Inode, name: &[u8], not: Inode) -> Inode {
        let children = self.children.get(&parent).into_iter().flatten().copied();
        let is_it = |inode: &Inode| {
            let row = self.rows.get(inode);
            *inode != not && row.is_some_and(|row| row.kind == KIND_DIRECTORY && *row.name == *name)
        };
        let found = children.filter(is_it).max_by_key(|&inode| (self.last_change(inode), inode));
        found.unwrap_or_else(|| {
            let number = self.next_version();
            self.make(number, parent, name, KIND_DIRECTORY);
            let what = format!("directory '{}' is made", self.shown(number));
            self.step(number, what, "for what cannot stay where it is");
            number
        })
    }

    /// `name`, or with a number behind it when that is taken. From now on it is.
    fn free_name(&mut self, dir: Inode, name: Vec<u8>) -> Vec<u8> {
        // Nothing ever goes to the root by this, so its number is that of no directory yet.
        if self.taken.0 != dir {
            let children = self.children.get(&dir).into_iter().flatten();
            let names = children.filter_map(|inode| self.rows.get(inode)).map(|row| row.name.to_vec());
            self.taken = (dir, names.collect());
        }
        let numbered = |number: u32| [&name[..], format!(".{number}").as_bytes()].concat();
        let mut names = std::iter::once(name.clone()).chain((2..).map(numbered));
        let free = names.find(|name| !self.taken.1.contains(name)).unwrap_or(name);
        self.taken.1.insert(free.clone());
        free
    }
}

/// The number of an entry and its name, as far as that can be one.
fn lost_name(inode: Inode, name: &[u8]) -> Vec<u8> {
    let kept = name.iter().take(NAME_BYTES_MAX);
    let kept = kept.map(|&byte| if matches!(byte, 0 | b'/') { b'_' } else { byte });
    let number = format!("{inode}-");
    if name.is_empty() { format!("{inode}").into_bytes() } else { number.bytes().chain(kept).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_lost() {
        assert_eq!(lost_name(7, b"100.conf"), b"7-100.conf");
        assert_eq!(lost_name(7, b""), b"7");
        assert_eq!(lost_name(7, b".."), b"7-..");
        assert_eq!(lost_name(7, b"a/b\0"), b"7-a_b_");
        assert_eq!(lost_name(7, &[b'x'; 999]).len(), 202);
    }
}
