//! Operations that change the tree. Each checks what is not the database's to check, names the paths,
//! and hands a [`Change`] over; whoever finishes it calls `done`.

use super::handles::Handles;
use super::ino::Target;
use super::plug::Plug;
use super::{Attr, Fs, FsError, StalePages, Tail, check_new_name, entry_target, ino};
use crate::engine::EngineError;
use crate::memdb::{Applied, Change, ChangeError, EntryChange, Inode, Invalidation, Name, TreePath, WriteAt};
use std::sync::Arc;

/// What became of an operation.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What the caller gets.
    pub result: Result<T, FsError>,
    /// Invalidations of caches that the kernel does not drop because of the reply.
    pub invalidations: Vec<Invalidation>,
    /// File whose pages must be invalidated before the reply is sent.
    pub stale_pages: Option<StalePages>,
}

impl<T> Outcome<T> {
    fn refused(error: FsError) -> Self {
        Err(error).into()
    }
}

impl<T> From<Result<T, FsError>> for Outcome<T> {
    fn from(result: Result<T, FsError>) -> Self {
        Self { result, invalidations: Vec::new(), stale_pages: None }
    }
}

/// A write to an opened file.
#[derive(Debug)]
pub struct Write {
    /// Where the kernel believes it goes.
    pub offset: u64,
    /// Opened for appending: it goes to the end, wherever that is by now.
    pub append: bool,
    /// What to write.
    pub data: Arc<Vec<u8>>,
}

/// How often a change is sent again because another member moved its entry while it travelled.
const MOVES_MAX: u32 = 8;

impl Fs {
    /// Makes an empty file and opens it.
    pub fn create(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        done: impl FnOnce(Outcome<Attr>) + Send + 'static,
    ) {
        let fs = Arc::clone(self);
        self.make(
            parent,
            name,
            |path| Change::Create { path },
            move |outcome| {
                let open = |attr: Attr| {
                    let opened = fs.open(attr.ino, true);
                    // Another member replaced it at once.
                    let opened = opened.or_else(|error| fs.open_replaced(attr.ino).map_err(|_| error));
                    opened.map(|_| attr)
                };
                let opened = outcome.result.and_then(open);
                done(Outcome { result: opened, invalidations: outcome.invalidations, stale_pages: None });
            },
        );
    }

    /// Makes an empty file.
    pub fn mknod(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        done: impl FnOnce(Outcome<Attr>) + Send + 'static,
    ) {
        self.make(parent, name, |path| Change::Create { path }, done);
    }

    /// Makes an empty directory.
    pub fn mkdir(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        done: impl FnOnce(Outcome<Attr>) + Send + 'static,
    ) {
        self.make(parent, name, |path| Change::Mkdir { path }, done);
    }

    fn make(
        self: &Arc<Self>,
        parent: u64,
        name: &[u8],
        change: impl FnOnce(TreePath) -> Change,
        done: impl FnOnce(Outcome<Attr>) + Send + 'static,
    ) {
        let place = match self.new_place(parent, name) {
            Ok(place) => place,
            Err(error) => return done(Outcome::refused(error)),
        };
        let fs = Arc::clone(self);
        let unsure = place.unsure();
        self.cfs.engine.submit(
            change(place.path),
            Box::new(move |result| {
                let made = |applied: Applied| fs.created_attr(applied.inode).ok_or(FsError::NotFound);
                done(outcome(result, unsure, made));
            }),
        );
    }

    /// Removes a file.
    pub fn unlink(&self, parent: u64, name: &[u8], done: impl FnOnce(Outcome<()>) + Send + 'static) {
        self.remove(parent, name, false, done);
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: u64, name: &[u8], done: impl FnOnce(Outcome<()>) + Send + 'static) {
        self.remove(parent, name, true, done);
    }

    fn remove(
        &self,
        parent: u64,
        name: &[u8],
        directory: bool,
        done: impl FnOnce(Outcome<()>) + Send + 'static,
    ) {
        let place = match self.place(parent, name).and_then(|place| self.check_kind(place, directory)) {
            Ok(place) => place,
            Err(error) => return done(Outcome::refused(error)),
        };
        let unsure = place.unsure();
        let handles = Arc::clone(&self.handles);
        self.cfs.engine.submit(
            Change::Delete { path: place.path },
            Box::new(move |result| {
                settle(&handles, &result);
                done(outcome(result, unsure, |_| Ok(())));
            }),
        );
    }

    /// The kernel compared with what it knew, which another node may have replaced since.
    fn check_kind(&self, place: Place, directory: bool) -> Result<Place, FsError> {
        let tree = self.cfs.engine.read();
        match tree.lookup(place.parent, &place.name) {
            Some(entry) if entry.is_dir() && !directory => Err(FsError::IsDirectory),
            Some(entry) if !entry.is_dir() && directory => Err(FsError::NotDirectory),
            // A missing one is the database's to report, in its order of checks.
            Some(_) | None => Ok(place),
        }
    }

    /// Moves an entry, replacing a file or an empty directory at the new place.
    pub fn rename(
        &self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        done: impl FnOnce(Outcome<()>) + Send + 'static,
    ) {
        let places = self.place(from.0, from.1).and_then(|from| Ok((from, self.new_place(to.0, to.1)?)));
        let (from, to) = match places {
            Ok(places) => places,
            Err(error) => return done(Outcome::refused(error)),
        };
        let unsure = [from.unsure(), to.unsure()].concat();
        let handles = Arc::clone(&self.handles);
        self.cfs.engine.submit(
            Change::Rename { from: from.path, to: to.path },
            Box::new(move |result| {
                // The kernel moves the names itself; it does not know that the mode follows the path.
                let moved = result.as_ref().map(|applied| applied.inode).ok();
                settle(&handles, &result);
                let mut outcome = outcome(result, unsure, |_| Ok(()));
                outcome.invalidations.extend(moved.map(|inode| Invalidation::Attributes { inode }));
                done(outcome);
            }),
        );
    }

    /// Writes to an opened file; answers how many bytes were taken.
    pub fn write(
        self: &Arc<Self>,
        ino: u64,
        write: Write,
        done: impl FnOnce(Outcome<usize>) + Send + 'static,
    ) {
        let inode = match ino::target(ino) {
            Target::Entry(inode) => inode,
            Target::Generated(index) => {
                let taken = |plug: &Plug| plug.write(write.offset, &write.data, &self.cfs);
                return done(self.plug(index).and_then(taken).into());
            }
        };
        let at = if write.append { WriteAt::End } else { WriteAt::Offset(write.offset) };
        let change = EntryChange::Write { at, data: Arc::clone(&write.data) };
        let fs = Arc::clone(self);
        self.submit_entry(inode, change, move |result| done(fs.written(inode, &write, result)));
    }

    /// Outcome of a write: to a file in the tree, or to one that left it before the write was applied.
    fn written(&self, inode: Inode, write: &Write, result: Result<Applied, FsError>) -> Outcome<usize> {
        let Write { offset, data, .. } = write;
        let result = match result {
            Err(FsError::NotFound) => self.write_removed(inode, write),
            result => result.map(|applied| applied.offset),
        };
        let landed = *result.as_ref().unwrap_or(offset);
        let tail = self.rules.tail(*offset, landed, data.len(), data.last().copied());
        Outcome {
            result: result.map(|_| data.len()),
            invalidations: self.rules.after_write(inode, *offset, landed),
            stale_pages: self.stale_pages(inode, tail),
        }
    }

    /// Submits a change of the entry with this inode, wherever it is. Calls `done` with `NotFound` if the entry
    /// is not in the tree any more.
    pub(super) fn submit_entry(
        self: &Arc<Self>,
        inode: Inode,
        change: EntryChange,
        done: impl FnOnce(Result<Applied, FsError>) + Send + 'static,
    ) {
        match self.check_quorum() {
            Ok(()) => self.submit_entry_within(MOVES_MAX, inode, change, Box::new(done)),
            Err(error) => done(Err(error)),
        }
    }

    fn submit_entry_within(
        self: &Arc<Self>,
        moves: u32,
        inode: Inode,
        change: EntryChange,
        done: Box<dyn FnOnce(Result<Applied, FsError>) + Send>,
    ) {
        if self.cfs.engine.read().get(inode).is_none() {
            return done(Err(FsError::NotFound));
        }
        let (fs, again) = (Arc::clone(self), change.clone());
        let submitted = Change::Entry { inode, place: None, change };
        self.cfs.engine.submit(
            submitted,
            Box::new(move |result| match result {
                // Another member moved or removed the entry before this change was delivered.
                Err(EngineError::Change(ChangeError::Replaced { .. })) if moves > 0 => {
                    fs.submit_entry_within(moves - 1, inode, again, done);
                }
                // `NotFound` comes from a group with a stock member, where changes name a path.
                Err(EngineError::Change(ChangeError::Replaced { .. } | ChangeError::NotFound { .. })) => {
                    done(Err(FsError::NotFound));
                }
                result => done(result.map_err(FsError::from)),
            }),
        );
    }

    /// The file, if its pages must be invalidated before the reply to a change of its contents.
    pub(super) fn stale_pages(&self, inode: Inode, tail: Option<Tail>) -> Option<StalePages> {
        let ino = ino::of_entry(inode);
        let may_have_pages = self.rules.pages_before_reply && self.known.has_pages(ino);
        (may_have_pages || tail.is_some()).then_some(StalePages { ino, tail })
    }

    /// Answers when all changes of a file are on disk; at once when they are.
    pub fn flush(&self, ino: u64, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        match entry_target(ino) {
            Some(inode) => {
                self.cfs
                    .engine
                    .sync_entry(inode, Box::new(move |result| done(result.map_err(FsError::from))));
            }
            // Generated.
            None => done(Ok(())),
        }
    }

    /// As [`Fs::flush`], but calls `done` once the file also survives a power failure.
    pub fn fsync(&self, ino: u64, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        match entry_target(ino) {
            Some(inode) => {
                let done = move |result: Result<(), EngineError>| done(result.map_err(FsError::from));
                self.cfs.engine.fsync_entry(inode, Box::new(done));
            }
            // Generated.
            None => done(Ok(())),
        }
    }

    /// As [`Fs::fsync`], for all changes so far: a directory's fsync covers every name in it.
    pub fn fsync_all(&self, done: impl FnOnce(Result<(), FsError>) + Send + 'static) {
        self.cfs.engine.fsync(Box::new(move |result| done(result.map_err(FsError::from))));
    }

    /// Nothing changes without quorum.
    pub(super) fn check_quorum(&self) -> Result<(), FsError> {
        if self.cfs.is_quorate() { Ok(()) } else { Err(FsError::NoQuorum) }
    }

    /// Where an entry is that is to be changed.
    pub(super) fn path_to_change(&self, inode: Inode) -> Result<TreePath, FsError> {
        self.check_quorum()?;
        self.cfs.engine.read().path_of(inode).ok_or(FsError::NotFound)
    }

    /// The place of a new name.
    fn new_place(&self, parent: u64, name: &[u8]) -> Result<Place, FsError> {
        let place = self.place(parent, name)?;
        check_new_name(name).map(|()| place)
    }

    /// The place of a name that is to be changed.
    fn place(&self, parent: u64, name: &[u8]) -> Result<Place, FsError> {
        if self.generated(parent, name).is_some() {
            return Err(FsError::Generated);
        }
        let parent = entry_target(parent).ok_or(FsError::NotDirectory)?;
        let directory = self.path_to_change(parent).map_err(|error| match error {
            FsError::NotFound => FsError::Stale,
            error => error,
        });
        let path = directory?.join(name);
        // The kernel sends no such names.
        let name = Name::new(name).ok_or(FsError::Generated)?;
        Ok(Place { parent, name, path })
    }
}

/// A name in a directory, and its path.
struct Place {
    parent: Inode,
    name: Name,
    path: TreePath,
}

impl Place {
    /// What to tell the kernel when it is not certain what became of the name.
    fn unsure(&self) -> Vec<Invalidation> {
        let name = self.name.clone();
        vec![Invalidation::Entry { parent: self.parent, name }]
    }
}

/// The kernel is about to be answered: what its request removed is only for who has it open.
fn settle(handles: &Handles, result: &Result<Applied, EngineError>) {
    match result {
        Ok(applied) => applied.invalidations.iter().for_each(|invalidation| {
            if let Invalidation::Removed { inode, .. } = invalidation {
                handles.settle_removed_here(*inode);
            }
        }),
        Err(EngineError::Change(_) | EngineError::Refused(_)) => {}
        // It may have been removed before the commit failed, or may still be removed, or be back.
        Err(
            EngineError::Storage
            | EngineError::NoSpace
            | EngineError::Closed
            | EngineError::Send(_)
            | EngineError::TimedOut
            | EngineError::TreeReplaced,
        ) => {
            handles.settle_all();
        }
    }
}

/// Makes an outcome of the database's answer. `unsure` is what the kernel must forget when the
/// change was refused to it but may be in the tree: its commit failed.
pub(super) fn outcome<T>(
    result: Result<Applied, EngineError>,
    unsure: Vec<Invalidation>,
    value: impl FnOnce(Applied) -> Result<T, FsError>,
) -> Outcome<T> {
    match result {
        Ok(applied) => value(applied).into(),
        Err(error @ (EngineError::Change(_) | EngineError::Refused(_))) => Outcome::refused(error.into()),
        Err(error) => Outcome { result: Err(error.into()), invalidations: unsure, stale_pages: None },
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Write};
    use crate::fs::fixture::Fixture;
    use crate::fs::{FsError, ROOT_INO};
    use crate::memdb::{ByteRange, Invalidation, Name};
    use std::fmt::Debug;
    use std::sync::{Arc, mpsc};

    /// Runs an operation and waits for its outcome.
    fn outcome<T: Debug + Send + 'static>(
        act: impl FnOnce(Box<dyn FnOnce(Outcome<T>) + Send>),
    ) -> Outcome<T> {
        let (sender, receiver) = mpsc::channel();
        act(Box::new(move |outcome| sender.send(outcome).expect("heard")));
        receiver.recv().expect("answered")
    }

    #[test]
    fn a_failed_commit_leaves_the_kernel_unsure_of_the_names() {
        let tree = Fixture::new();
        tree.make("f");
        tree.fs.cfs.engine.close().expect("closed");
        let name = |name: &[u8]| {
            let name = Name::new(name).expect("a name");
            Invalidation::Entry { parent: 0, name }
        };
        let removed = outcome(|done| tree.fs.unlink(ROOT_INO, b"f", done));
        assert!(matches!(removed.result, Err(FsError::Engine(_))));
        assert_eq!(removed.invalidations, [name(b"f")]);
        let moved = outcome(|done| tree.fs.rename((ROOT_INO, b"f"), (ROOT_INO, b"g"), done));
        assert!(moved.result.is_err());
        assert_eq!(moved.invalidations, [name(b"f"), name(b"g")]);
        let made = outcome(|done| tree.fs.mkdir(ROOT_INO, b"d", done));
        assert!(made.result.is_err());
        assert_eq!(made.invalidations, [name(b"d")]);
    }

    #[test]
    fn a_refused_change_leaves_nothing_unsure() {
        let tree = Fixture::new();
        tree.make("d/");
        tree.make("d/f");
        let removed = outcome(|done| tree.fs.rmdir(ROOT_INO, b"d", done));
        assert!(removed.result.is_err() && removed.invalidations.is_empty());
        let wrong = outcome(|done| tree.fs.unlink(ROOT_INO, b"d", done));
        assert_eq!(wrong.result, Err(FsError::IsDirectory));
        let wrong = outcome(|done| tree.fs.rename((ROOT_INO, b"d"), (ROOT_INO, b".version"), done));
        assert_eq!(wrong.result, Err(FsError::Generated));
    }

    #[test]
    fn only_an_append_that_landed_elsewhere_is_news_to_the_kernel() {
        let tree = Fixture::new();
        let ino = tree.make("f");
        let write = |offset, append| {
            let write = Write { offset, append, data: Arc::new(b"12345".to_vec()) };
            outcome(|done| tree.fs.write(ino, write, done))
        };
        for (offset, append, news) in
            [(0, false, false), (0, true, true), (10, true, false), (100, false, false), (5, true, true)]
        {
            let written = write(offset, append);
            assert_eq!(written.result, Ok(5));
            let content = Invalidation::Content { inode: ino, range: ByteRange::ALL };
            let expected = if news { vec![content] } else { Vec::new() };
            assert_eq!(written.invalidations, expected, "at {offset}, append {append}");
        }
        assert_eq!(tree.fs.getattr(ino).map(|attr| attr.size), Ok(110));
    }
}
