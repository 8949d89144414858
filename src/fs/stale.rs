//! What of the kernel's knowledge is no longer true after a change that it did not make: changes in
//! the database's terms are turned into the kernel's numbers. Nobody is told from here.

use super::{Fs, ROOT_INO, entry_target, ino};
use crate::memdb::{self, Inode, Invalidation, Name, ROOT};
use std::collections::BTreeMap;

/// One thing that the kernel must not rely on any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stale {
    /// The meaning of a name in a directory.
    Name {
        /// The directory.
        parent: u64,
        /// The name in it.
        name: Name,
    },
    /// The pages of a file, with its attributes. `parent` is its directory, if it is in one.
    Content {
        /// The directory.
        parent: Option<u64>,
        /// The file.
        ino: u64,
    },
    /// The attributes of a node.
    Attributes {
        /// The directory.
        parent: Option<u64>,
        /// The node.
        ino: u64,
    },
    /// A node was removed, except for open descriptors. `directory` is the parent of the name that led to it,
    /// or of the entry that reuses its number. That name is invalidated first.
    Removed {
        /// The directory.
        directory: Option<u64>,
        /// The node.
        ino: u64,
    },
}

impl Fs {
    /// What the kernel must forget after changes that it did not make, as far as it may know it.
    pub fn stale(&self, invalidations: &[Invalidation]) -> Vec<Stale> {
        let mut named_in = None;
        let stale = |invalidation: &Invalidation| {
            let stale = self.stale_by(&invalidation.stale, named_in);
            if let Some(Stale::Name { parent, .. }) = &stale {
                named_in = Some(*parent);
            }
            stale
        };
        invalidations.iter().filter_map(stale).collect()
    }

    /// `named_in` is the directory of the last stale name before this one. A removal always follows its name.
    fn stale_by(&self, stale: &memdb::Stale, named_in: Option<u64>) -> Option<Stale> {
        Some(match stale {
            memdb::Stale::Entry { parent, name } => {
                let parent = ino::of_entry(*parent);
                if !self.known.has_name(parent, name) {
                    return None;
                }
                Stale::Name { parent, name: name.clone() }
            }
            memdb::Stale::Content { inode, .. } => {
                let ino = self.known_node(*inode)?;
                Stale::Content { parent: self.parent_ino(*inode), ino }
            }
            memdb::Stale::Attributes { inode } => {
                let ino = self.known_node(*inode)?;
                Stale::Attributes { parent: self.parent_ino(*inode), ino }
            }
            memdb::Stale::Removed { inode, .. } => {
                let ino = ino::of_entry(*inode);
                let parent = self.parent_ino(*inode);
                if parent.is_some() {
                    // Another entry came under the number of one that left.
                    self.incarnations.next(ino);
                }
                Stale::Removed { directory: parent.or(named_in), ino }
            }
        })
    }

    fn known_node(&self, inode: Inode) -> Option<u64> {
        Some(ino::of_entry(inode)).filter(|ino| self.known.has_node(*ino))
    }

    /// To be called when the kernel was told of [`Stale::Removed`].
    pub fn settle(&self, ino: u64) {
        if let Some(inode) = entry_target(ino) {
            self.handles.settle(inode);
        }
    }

    fn parent_ino(&self, inode: Inode) -> Option<u64> {
        Some(ino::of_entry(self.cfs.engine.read().get(inode)?.parent))
    }

    /// Every node whose mode depends on quorum, by its directory.
    pub fn nodes_by_directory(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut nodes = BTreeMap::<u64, Vec<u64>>::new();
        let generated = (0..self.plugs.names().count()).map(ino::of_generated);
        nodes.entry(ROOT_INO).or_default().extend(generated);
        for entry in self.cfs.engine.read().all_entries().filter(|entry| entry.inode != ROOT) {
            let directory = nodes.entry(ino::of_entry(entry.parent)).or_default();
            directory.push(ino::of_entry(entry.inode));
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOT_INO, Stale};
    use crate::fs::fixture::Fixture;
    use crate::fs::ino;
    use crate::memdb::{self, ByteRange, Invalidation, Name};

    fn removed(inode: u64) -> Invalidation {
        Invalidation::of_reply(memdb::Stale::Removed { inode, content: None, mtime: 0 })
    }

    fn content(inode: u64) -> Invalidation {
        Invalidation::of_reply(memdb::Stale::Content { inode, range: ByteRange::ALL })
    }

    fn attributes(inode: u64) -> Invalidation {
        Invalidation::of_reply(memdb::Stale::Attributes { inode })
    }

    fn entry(parent: u64, name: &[u8]) -> Invalidation {
        let name = Name::new(name).expect("a name");
        Invalidation::of_reply(memdb::Stale::Entry { parent, name })
    }

    #[test]
    fn changes_in_the_kernels_numbers() {
        let tree = Fixture::new();
        let (dir, file) = (tree.make("d/"), tree.make("d/f"));
        let name = Name::new(b"f").expect("a name");
        tree.fs.lookup(ROOT_INO, b"d").expect("there");
        tree.fs.lookup(dir, b"f").expect("there");
        tree.fs.known.note_node(999);
        let invalidations = [entry(dir, b"f"), content(file), attributes(dir), content(999), removed(999)];
        let expected = [
            Stale::Name { parent: dir, name },
            Stale::Content { parent: Some(dir), ino: file },
            Stale::Attributes { parent: Some(ROOT_INO), ino: dir },
            Stale::Content { parent: None, ino: 999 },
            Stale::Removed { directory: Some(dir), ino: 999 },
        ];
        assert_eq!(tree.fs.stale(&invalidations), expected);
    }

    #[test]
    fn what_the_kernel_was_never_told_it_need_not_forget() {
        let tree = Fixture::new();
        let (dir, file) = (tree.make("d/"), tree.make("d/f"));
        let named = |name: &[u8]| entry(dir, name);
        let invalidations = [named(b"f"), named(b"new"), content(file), attributes(file)];
        assert_eq!(tree.fs.stale(&invalidations), []);
        // A name that is not there is something to know, too.
        tree.fs.lookup(dir, b"new").expect_err("not there");
        let name = Name::new(b"new").expect("a name");
        assert_eq!(tree.fs.stale(&invalidations), [Stale::Name { parent: dir, name }]);
        // A listing caches the nodes of its names, and no others.
        let handle = tree.fs.opendir(dir).expect("there");
        tree.fs.readdir(dir, handle, 0, |_| false).expect("listed");
        assert_eq!(tree.fs.stale(&invalidations).len(), invalidations.len());
        assert_eq!(tree.fs.stale(&[named(b"other")]), []);
        // What was removed is told always: somebody may wait for it here.
        assert_eq!(tree.fs.stale(&[removed(777)]).len(), 1);
    }

    #[test]
    fn a_number_that_came_to_mean_another_entry_is_another_incarnation() {
        let tree = Fixture::new();
        let (file, other) = (tree.make("f"), tree.make("g"));
        let incarnation = |ino| tree.fs.getattr(ino).expect("there").incarnation;
        assert_eq!((incarnation(file), incarnation(other)), (0, 0));
        tree.fs.stale(&[removed(file), removed(999)]);
        assert_eq!((incarnation(file), incarnation(other)), (1, 0));
    }

    #[test]
    fn every_node_is_listed_once() {
        let tree = Fixture::new();
        let (dir, file) = (tree.make("d/"), tree.make("d/f"));
        let nodes = tree.fs.nodes_by_directory();
        assert_eq!(nodes.get(&dir), Some(&vec![file]));
        let root = nodes.get(&ROOT_INO).expect("not empty");
        assert!(root.contains(&dir) && root.contains(&ino::of_generated(9)) && root.len() == 11);
    }
}
