//! One entry of the tree: a file or a directory, with what the database stores of it. Only
//! `apply.rs` and `load.rs` change entries.

use super::{Inode, Name, ROOT};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A file or directory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number: the database version that made it.
    pub inode: Inode,
    /// The directory it is in; the root is in itself.
    pub parent: Inode,
    /// The database version that changed it last.
    pub version: u64,
    /// Node id of who changed it last; 0 in local mode.
    pub writer: u32,
    /// Seconds since 1970.
    pub mtime: u32,
    /// Its name in `parent`; empty for the root.
    pub name: Name,
    /// What it is.
    pub node: Node,
    /// Whether only root may read it. Invariant: the same as for its path; true for an entry without a path.
    pub(super) private: bool,
    /// The digest of the index, once somebody asked. Invariant: void or that of the fields above.
    pub(super) digest: Option<Box<[u8; 32]>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory and the entries in it.
    Directory(Children),
    /// A file. Who reads it keeps these bytes as they are; a writer changes them in place only
    /// while nobody else holds them.
    File(Arc<Vec<u8>>),
}

/// The entries of a directory, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Children(pub(super) BTreeMap<Name, Inode>);

/// The type of a directory, on disk and on the wire (`DT_DIR`).
pub const KIND_DIRECTORY: u8 = 4;
/// The type of a file, on disk and on the wire (`DT_REG`).
pub const KIND_FILE: u8 = 8;

impl Node {
    /// An empty directory.
    pub(super) fn directory() -> Self {
        Self::Directory(Children::default())
    }

    /// An empty file.
    pub(super) fn file() -> Self {
        Self::File(Arc::default())
    }
}

impl Children {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The inode of the entry called `name`.
    pub fn get(&self, name: &[u8]) -> Option<Inode> {
        self.0.get(name).copied()
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Inode)> {
        self.0.iter().map(|(name, &inode)| (name, inode))
    }

    /// Those whose names sort after `name`, to go on with a listing.
    pub fn after(&self, name: &[u8]) -> impl Iterator<Item = (&Name, Inode)> {
        let range = (Bound::Excluded(name), Bound::Unbounded);
        self.0.range::<[u8], _>(range).map(|(name, &inode)| (name, inode))
    }
}

impl Entry {
    /// The root of a database whose last change this was.
    pub(super) fn root(version: u64, writer: u32, mtime: u32) -> Self {
        let (name, node) = (Name::root(), Node::directory());
        Self { inode: ROOT, parent: ROOT, version, writer, mtime, name, node, private: false, digest: None }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.node, Node::Directory(_))
    }

    /// Whether only root may read it; see [`TreePath::is_private`](super::TreePath::is_private).
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Its length in bytes; 0 for a directory.
    pub fn size(&self) -> u64 {
        self.content().map_or(0, |content| content.len() as u64)
    }

    /// The contents of a file.
    pub fn content(&self) -> Option<&Arc<Vec<u8>>> {
        match &self.node {
            Node::File(content) => Some(content),
            Node::Directory(_) => None,
        }
    }

    /// The entries of a directory, sorted by name.
    pub fn children(&self) -> Option<impl Iterator<Item = (&Name, Inode)>> {
        self.directory().map(Children::iter)
    }

    /// The entries of a directory.
    pub fn directory(&self) -> Option<&Children> {
        match &self.node {
            Node::Directory(children) => Some(children),
            Node::File(_) => None,
        }
    }

    /// The type as the database and the wire know it.
    pub fn kind(&self) -> u8 {
        if self.is_dir() { KIND_DIRECTORY } else { KIND_FILE }
    }

    /// Whether it is a directory with something in it.
    pub(super) fn is_filled_dir(&self) -> bool {
        self.directory().is_some_and(|children| !children.is_empty())
    }

    /// The inode of the entry called `name` in this directory.
    pub(super) fn child_inode(&self, name: &[u8]) -> Option<Inode> {
        self.directory()?.get(name)
    }

    /// The map of a directory's entries, to change it.
    pub(super) fn children_mut(&mut self) -> Option<&mut BTreeMap<Name, Inode>> {
        match &mut self.node {
            Node::Directory(children) => Some(&mut children.0),
            Node::File(_) => None,
        }
    }

    /// The same entry, a directory without its list of entries. A digest that was computed stays:
    /// it does not cover the list.
    pub(super) fn unlinked(&self) -> Self {
        let node = match &self.node {
            Node::Directory(_) => Node::directory(),
            Node::File(content) => Node::File(Arc::clone(content)),
        };
        Self { name: self.name.clone(), node, digest: self.digest.clone(), ..*self }
    }

    /// Notes a change: who, when, and which it was.
    pub(super) fn stamp(&mut self, version: u64, writer: u32, mtime: u32) {
        self.version = version;
        self.writer = writer;
        self.mtime = mtime;
        self.digest = None;
    }
}

/// Equal as the database stores it; a digest that was or was not asked for makes no difference.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let fields = |e: &Self| (e.inode, e.parent, e.version, e.writer, e.mtime);
        fields(self) == fields(other) && self.name == other.name && self.node == other.node
    }
}

impl Eq for Entry {}

// Forty thousand of them must stay light.
const _: () = assert!(size_of::<Entry>() <= 96);
