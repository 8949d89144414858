//! Directory of the pairs, with a reader of one of its files, and a comparison of all that programs can see
//! with the tree.

use crate::fixture::Tree;
use crate::operations::SIZE;
use crate::views::{by_path, mapped, show, truth, whole};
use pmxcfs::fuse::{CacheRules, Hooks, Options};
use pmxcfs::memdb::{Change, WriteAt};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Outcome of a comparison: the error names the view that differs.
pub type Verdict = Result<(), String>;

/// A mounted tree with the directory `d`, all of it cached, and a reader of `d/f`.
pub struct Scene {
    /// Declared before the tree: closed first, so that the tree can be unmounted.
    pub reader: File,
    pub tree: Tree,
}

impl Scene {
    pub fn new(rules: CacheRules) -> Self {
        let tree = Tree::with_options(Options { rules, ..Options::default() });
        tree.mkdir("d/s");
        tree.write("d/f", vec![b'.'; SIZE]);
        tree.write("d/g", "the other file");
        let reader = File::open(tree.path("d/f")).expect("there");
        let scene = Self { tree, reader };
        scene.fill();
        by_path(&scene.tree).expect("readable");
        scene.tree.list("d");
        scene
    }

    /// The same directory, made without this kernel, which knows only `d` itself.
    pub fn unseen(hooks: Hooks) -> Tree {
        let rules = CacheRules::GROUP;
        let tree = Tree::with_options(Options { rules, hooks, loops: 4, ..Options::default() });
        let make = |change| drop(tree.cfs.engine.submit_wait(change).expect("made"));
        make(Change::Mkdir { path: "d".into() });
        make(Change::Mkdir { path: "d/s".into() });
        for (path, data) in [("d/f", vec![b'.'; SIZE]), ("d/g", b"the other file".to_vec())] {
            make(Change::Create { path: path.into() });
            make(Change::Write { path: path.into(), at: WriteAt::End, data });
        }
        assert!(tree.path("d").is_dir(), "the kernel knows the directory");
        tree
    }

    /// Lets the reader fill the page cache and the attributes. This takes no lock of a directory, so a local
    /// operation never blocks it.
    pub fn fill(&self) {
        let bytes = whole(&self.reader).expect("an open file can be read");
        mapped(&self.reader, bytes.len());
        self.reader.metadata().expect("an open file has attributes");
    }

    /// Compares the reader's view of its file with the tree, unless the file was removed.
    pub fn check_content(&self, when: &str) -> Verdict {
        check_open(&self.tree, &self.reader, when)
    }

    /// Compares all views with the tree, after all invalidations were sent.
    pub fn check(&self) -> Verdict {
        self.tree.drain();
        self.check_content("in the end")?;
        check_paths(&self.tree)
    }
}

/// Compares the views by paths with the tree.
pub fn check_paths(tree: &Tree) -> Verdict {
    let (truth, seen) = (truth(tree), by_path(tree)?);
    same("names", &seen.keys().collect::<Vec<_>>(), &truth.keys().collect::<Vec<_>>())?;
    for (name, node) in &truth {
        same(name, &seen[name].to_string(), &node.to_string())?;
    }
    same("listing", &tree.list("d"), &truth.into_keys().collect::<Vec<_>>())
}

/// Compares the view by an open file with the tree, unless the file was removed.
pub fn check_open(tree: &Tree, file: &File, when: &str) -> Verdict {
    let meta = file.metadata().map_err(|error| format!("{when}: fstat: {error}"))?;
    let content = tree.cfs.engine.read().get(meta.ino()).and_then(|entry| entry.content().cloned());
    let Some(content) = content else { return Ok(()) };
    let read = whole(file).map_err(|error| format!("{when}: read: {error}"))?;
    same(&format!("{when}: read of an open file"), &show(&read), &show(&content))?;
    let pages = mapped(file, read.len());
    same(&format!("{when}: mapping of an open file"), &show(&pages), &show(&content))?;
    let meta = file.metadata().map_err(|error| format!("{when}: fstat: {error}"))?;
    same(&format!("{when}: size of an open file"), &meta.size(), &(content.len() as u64))
}

/// Compares the attributes of an open file with the tree, unless the file was removed. A read would let the kernel
/// fetch them again.
pub fn check_attributes(tree: &Tree, file: &File) -> Verdict {
    let meta = file.metadata().map_err(|error| format!("fstat: {error}"))?;
    let tree = tree.cfs.engine.read();
    let Some(entry) = tree.get(meta.ino()) else { return Ok(()) };
    same(
        "size and time of an open file",
        &(meta.size(), meta.mtime()),
        &(entry.size(), i64::from(entry.mtime)),
    )
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, truth: &T) -> Verdict {
    if seen == truth { Ok(()) } else { Err(format!("{what}: seen {seen:?}, in the tree {truth:?}")) }
}
