//! What is open: how often each file is, the contents of files that were removed while open, the
//! texts of opened generated files, and the listings of opened directories.
//!
//! Contents of database files are not here: a read takes them from the tree by number. Only when a
//! file leaves the tree do its last contents move here, until nobody has it open, and a little longer.
//! Each lock is held for a look into a map, and never while another is taken; whoever holds the
//! tree's lock may take them, never the other way round.

use super::listing::Listing;
use super::mode::Class;
use crate::clock::UnixTime;
use crate::memdb::{Inode, Invalidation, Name, Removal, is_openvz_script};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number and bytes of removed files to keep that no descriptor is open of. The kernel forgets most of them soon,
/// and then they are dropped. So only a kernel that is in the middle of so many path walks gets to these limits.
const RECENT_MAX: usize = 4096;
const RECENT_BYTES_MAX: usize = 16 << 20;
/// Number of the latest removed files that are kept although the kernel forgot them: FORGET does not say that it has
/// no reference any more. A path walk drops one reference when it finds that a name means another inode, and takes
/// the next one for the operation that follows.
const FORGOTTEN_KEPT: usize = 64;
/// Number of removed directories to remember.
const RECENT_DIRECTORIES_MAX: usize = 1024;

/// A file that is open, or was removed a short while ago.
#[derive(Debug)]
struct OpenFile {
    opens: u64,
    class: Class,
    /// Set when it left the tree.
    removed: Option<Removed>,
    /// The kernel dropped a reference after the file had left the tree.
    is_forgotten: bool,
}

/// The last state of a file that left the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) content: Arc<Vec<u8>>,
    pub(crate) mtime: UnixTime,
    /// The kernel was not told yet.
    pub(crate) is_leaving: bool,
    /// Open descriptors may go on changing what is kept here, as on any file system: this kernel removed the
    /// file, or it was replaced. A write to a file that another node deleted fails instead, as with stock.
    pub(crate) is_writable: bool,
}

/// Files that are open, and those that were removed a short while ago: who walked a path before a
/// removal may come to open the file after it, and is to find it.
#[derive(Debug, Default)]
struct Files {
    all: HashMap<Inode, OpenFile>,
    /// Removed files, known to the kernel as such, in the order in which nobody had them open any
    /// more, each with its length. A file may be in here although somebody opened it again.
    recent: VecDeque<(Inode, usize)>,
    /// Sum of the lengths in `recent`.
    recent_bytes: usize,
    /// The last removed directories, oldest first, each with its former parent, name and time.
    directories: VecDeque<(Inode, Place)>,
}

/// Former parent, name and time of a directory.
type Place = (Inode, Name, UnixTime);

impl OpenFile {
    /// State that is assumed of a file without open descriptors when it leaves the tree.
    const UNKNOWN: Self =
        Self { opens: 0, class: Class { private: true, script: false }, removed: None, is_forgotten: false };

    fn is_leaving(&self) -> bool {
        self.removed.as_ref().is_some_and(|removed| removed.is_leaving)
    }

    fn settle(&mut self) {
        if let Some(removed) = &mut self.removed {
            removed.is_leaving = false;
        }
    }
}

impl Files {
    fn change(&mut self, inode: Inode, change: impl FnOnce(&mut OpenFile)) {
        let Some(file) = self.all.get_mut(&inode) else { return };
        change(file);
        match &file.removed {
            _ if file.opens > 0 => {}
            None => drop(self.all.remove(&inode)),
            Some(removed) if removed.is_leaving => {}
            Some(removed) => {
                let length = removed.content.len();
                self.recent_bytes += length;
                self.recent.push_back((inode, length));
                self.forget_oldest();
                if let Some(index) = self.recent.len().checked_sub(FORGOTTEN_KEPT + 1) {
                    self.drop_forgotten(index);
                }
            }
        }
    }

    /// Drops the file at this index of `recent`, if the kernel forgot it and no descriptor is open of it.
    fn drop_forgotten(&mut self, index: usize) {
        let Some((inode, _)) = self.recent.get(index).copied() else { return };
        if !self.all.get(&inode).is_some_and(|file| file.opens == 0 && file.is_forgotten) {
            return;
        }
        self.all.remove(&inode);
        let Self { recent, recent_bytes, .. } = self;
        recent.retain(|(other, length)| {
            *recent_bytes -= if *other == inode { *length } else { 0 };
            *other != inode
        });
    }

    fn forget_oldest(&mut self) {
        while self.recent.len() > RECENT_MAX || self.recent_bytes > RECENT_BYTES_MAX {
            let Some((inode, length)) = self.recent.pop_front() else { return };
            self.recent_bytes -= length;
            // If it was closed more than once, it is in the queue once more.
            let is_last = self.recent.iter().all(|(other, _)| *other != inode);
            if is_last && self.all.get(&inode).is_some_and(|file| file.opens == 0) {
                self.all.remove(&inode);
            }
        }
    }
}

/// Everything that is open.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    last: AtomicU64,
    files: Mutex<Files>,
    texts: Mutex<HashMap<u64, Arc<[u8]>>>,
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
}

/// The maps hold no invariant across a panic, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handles {
    /// A number that no other handle of this mount has or had. Never 0.
    pub(crate) fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that a file is opened. From now on its contents are kept when it is removed. To be
    /// called under the tree's lock, which is when it is certain that the file is there.
    pub(crate) fn open(&self, inode: Inode, class: Class) {
        let mut files = lock(&self.files);
        let file = files.all.entry(inode).or_insert(OpenFile { class, ..OpenFile::UNKNOWN });
        file.opens += 1;
        file.class = class;
        file.removed = None;
        file.is_forgotten = false;
    }

    /// Notes that a file which left the tree is opened, by who found it before or has it open. Says
    /// whether that is possible.
    pub(crate) fn open_removed(&self, inode: Inode) -> bool {
        match lock(&self.files).all.get_mut(&inode) {
            Some(file) if file.removed.is_some() => {
                file.opens += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Opens a removed file that descriptors may still change. Returns false if there is no such file.
    pub(crate) fn open_replaced(&self, inode: Inode) -> bool {
        let mut files = lock(&self.files);
        let file = files.all.get_mut(&inode);
        let file = file.filter(|file| file.removed.as_ref().is_some_and(|removed| removed.is_writable));
        file.map(|file| file.opens += 1).is_some()
    }

    /// Whether a file is open.
    pub(crate) fn is_open(&self, inode: Inode) -> bool {
        lock(&self.files).all.get(&inode).is_some_and(|file| file.opens > 0)
    }

    /// Notes that a file is closed.
    pub(crate) fn close(&self, inode: Inode) {
        let mut files = lock(&self.files);
        if files.all.get(&inode).is_some_and(|file| file.opens > 0) {
            files.change(inode, |file| file.opens -= 1);
        }
    }

    /// Keeps the contents of what was removed, at least until [`Handles::settle`]. To be called under
    /// the lock of the removal, so that no reader falls between the two.
    pub(crate) fn keep_removed(&self, invalidations: &[Invalidation]) {
        let mut place = None;
        for invalidation in invalidations {
            if let Invalidation::Entry { parent, name } = invalidation {
                // The invalidation of a removed name comes before that of its inode.
                place = Some((*parent, name));
            }
            let Invalidation::Removed { inode, content, mtime, private, removal } = invalidation else {
                continue;
            };
            let mut files = lock(&self.files);
            let Some(content) = content else {
                let place = place.map(|(parent, name)| (*inode, (parent, name.clone(), *mtime)));
                files.directories.extend(place);
                if files.directories.len() > RECENT_DIRECTORIES_MAX {
                    files.directories.pop_front();
                }
                continue;
            };
            let file = files.all.entry(*inode).or_insert(OpenFile::UNKNOWN);
            let (content, mtime) = (Arc::clone(content), *mtime);
            let is_writable = *removal == Removal::Replaced;
            let script = place.is_some_and(|(_, name)| is_openvz_script(name));
            file.class = Class { private: *private, script };
            file.removed = Some(Removed { content, mtime, is_leaving: true, is_writable });
        }
    }

    /// The kernel knows, or is about to know, that a file left the tree.
    pub(crate) fn settle(&self, inode: Inode) {
        let mut files = lock(&self.files);
        if files.all.get(&inode).is_some_and(OpenFile::is_leaving) {
            files.change(inode, OpenFile::settle);
        }
    }

    /// As [`Handles::settle`], of a file that the kernel itself had removed.
    pub(crate) fn settle_removed_here(&self, inode: Inode) {
        let mut files = lock(&self.files);
        if let Some(removed) = files.all.get_mut(&inode).and_then(|file| file.removed.as_mut()) {
            removed.is_writable = true;
        }
        drop(files);
        self.settle(inode);
    }

    /// Changes the kept contents of a removed file. `None` if the file is not open, or must not be changed any
    /// more.
    pub(crate) fn change_removed<T>(
        &self,
        inode: Inode,
        change: impl FnOnce(&mut Removed) -> T,
    ) -> Option<T> {
        let mut files = lock(&self.files);
        let file = files.all.get_mut(&inode).filter(|file| file.opens > 0)?;
        file.removed.as_mut().filter(|removed| removed.is_writable).map(change)
    }

    /// As [`Handles::settle`], for all of them: the removal that failed last does not say which.
    pub(crate) fn settle_all(&self) {
        let mut files = lock(&self.files);
        let leaving = files.all.iter().filter(|(_, file)| file.is_leaving());
        let leaving: Vec<Inode> = leaving.map(|(inode, _)| *inode).collect();
        for inode in leaving {
            files.change(inode, OpenFile::settle);
        }
    }

    /// The last state of a file that was removed.
    pub(crate) fn removed(&self, inode: Inode) -> Option<(Removed, Class)> {
        let files = lock(&self.files);
        let file = files.all.get(&inode)?;
        file.removed.clone().map(|removed| (removed, file.class))
    }

    /// Former parent, name and time of a directory that was removed recently.
    pub(crate) fn removed_directory(&self, inode: Inode) -> Option<Place> {
        let files = lock(&self.files);
        let (_, place) = files.directories.iter().rev().find(|(removed, _)| *removed == inode)?;
        Some(place.clone())
    }

    /// Notes that the kernel dropped a reference. A removed file is dropped if it is not one of the latest
    /// [`FORGOTTEN_KEPT`], or as soon as it is none of them.
    pub(crate) fn forget(&self, inode: Inode) {
        let mut files = lock(&self.files);
        let Some(file) = files.all.get_mut(&inode).filter(|file| file.removed.is_some()) else { return };
        file.is_forgotten = true;
        let index = files.recent.iter().position(|(other, _)| *other == inode);
        if let Some(index) = index.filter(|index| index + FORGOTTEN_KEPT < files.recent.len()) {
            files.drop_forgotten(index);
        }
    }

    /// Keeps a text for a handle.
    pub(crate) fn add_text(&self, text: Arc<[u8]>) -> u64 {
        let handle = self.number();
        lock(&self.texts).insert(handle, text);
        handle
    }

    /// The text of a handle.
    pub(crate) fn text(&self, handle: u64) -> Option<Arc<[u8]>> {
        lock(&self.texts).get(&handle).cloned()
    }

    /// Forgets the text of a handle.
    pub(crate) fn remove_text(&self, handle: u64) {
        lock(&self.texts).remove(&handle);
    }

    /// Keeps the listing of a handle, in place of an earlier one.
    pub(crate) fn set_listing(&self, handle: u64, listing: Arc<Listing>) {
        lock(&self.listings).insert(handle, listing);
    }

    /// The listing of a handle, if it was read before.
    pub(crate) fn listing(&self, handle: u64) -> Option<Arc<Listing>> {
        lock(&self.listings).get(&handle).cloned()
    }

    /// Forgets the listing of a handle.
    pub(crate) fn remove_listing(&self, handle: u64) {
        lock(&self.listings).remove(&handle);
    }
}

#[cfg(test)]
mod tests {
    use super::{Handles, RECENT_BYTES_MAX, RECENT_DIRECTORIES_MAX, RECENT_MAX, Removed};
    use crate::fs::mode::Class;
    use crate::memdb::{ByteRange, Invalidation, Name, Removal};
    use std::sync::Arc;

    fn removal(inode: u64) -> Invalidation {
        let content = Some(Arc::new(b"last".to_vec()));
        Invalidation::Removed { inode, content, mtime: 7, private: false, removal: Removal::Deleted }
    }

    fn removed(is_leaving: bool) -> Removed {
        Removed { content: Arc::new(b"last".to_vec()), mtime: 7, is_leaving, is_writable: false }
    }

    /// Removes so many other files that none of before is kept for being recent.
    fn pass(handles: &Handles) {
        for inode in 1000..1000 + RECENT_MAX as u64 {
            handles.keep_removed(&[removal(inode)]);
            handles.settle(inode);
        }
    }

    #[test]
    fn contents_are_kept_from_removal_to_the_last_close() {
        let handles = Handles::default();
        let class = Class { private: false, script: true };
        handles.open(5, Class::default());
        handles.open(5, Class::default());
        assert_eq!(handles.removed(5), None, "still in the tree");
        let content = Invalidation::Content { inode: 5, range: ByteRange::ALL };
        // The class follows from the last name.
        let name = Invalidation::Entry { parent: 1, name: Name::new(b"vps.mount").expect("a name") };
        handles.keep_removed(&[content, name, removal(5)]);
        assert_eq!(handles.removed(5), Some((removed(true), class)));
        handles.settle(5);
        handles.close(5);
        pass(&handles);
        assert_eq!(handles.removed(5), Some((removed(false), class)));
        assert!(handles.open_removed(5), "by the handle that is left");
        handles.close(5);
        handles.close(5);
        assert!(handles.open_removed(5), "by who found the path before");
        handles.close(5);
        pass(&handles);
        assert_eq!(handles.removed(5), None);
    }

    #[test]
    fn only_what_the_kernel_removed_is_changed_and_only_while_it_is_open() {
        let handles = Handles::default();
        let cut = |inode| handles.change_removed(inode, |removed| removed.content = Arc::default());
        for inode in [5, 6, 7] {
            handles.open(inode, Class::default());
            assert_eq!(cut(inode), None, "in the tree");
            handles.keep_removed(&[removal(inode)]);
            assert_eq!(cut(inode), None, "leaving");
        }
        handles.settle(5);
        handles.settle_removed_here(6);
        handles.settle_removed_here(7);
        handles.close(7);
        assert_eq!((cut(5), cut(6), cut(7)), (None, Some(()), None));
        let length = |inode| handles.removed(inode).map(|(removed, _)| removed.content.len());
        assert_eq!((length(5), length(6), length(7)), (Some(4), Some(0), Some(4)));
    }

    #[test]
    fn replaced_file_stays_writable_for_descriptors() {
        let handles = Handles::default();
        let write = |inode| handles.change_removed(inode, |removed| removed.mtime = 9);
        for (inode, removal) in [(5, Removal::Replaced), (6, Removal::Deleted)] {
            handles.open(inode, Class::default());
            let removed = Invalidation::Removed {
                inode,
                content: Some(Arc::default()),
                mtime: 7,
                private: false,
                removal,
            };
            handles.keep_removed(&[removed]);
        }
        assert_eq!((write(5), write(6)), (Some(()), None));
        handles.close(5);
        assert_eq!(write(5), None, "no descriptor is left");
    }

    #[test]
    fn contents_are_kept_until_the_kernel_knows() {
        let handles = Handles::default();
        handles.keep_removed(&[removal(6), removal(7)]);
        pass(&handles);
        assert_eq!(handles.removed(6).map(|(removed, _)| removed), Some(removed(true)));
        assert!(handles.open_removed(6));
        handles.close(6);
        handles.settle(6);
        handles.settle(6);
        assert_eq!(handles.removed(6).map(|(removed, _)| removed), Some(removed(false)));
        handles.settle_all();
        pass(&handles);
        assert_eq!((handles.removed(6), handles.removed(7)), (None, None));
    }

    #[test]
    fn forgotten_file_is_dropped_later_unless_open() {
        let handles = Handles::default();
        let kept = |inode| handles.removed(inode).is_some();
        handles.open(5, Class::default());
        handles.keep_removed(&[removal(5), removal(6), removal(7), removal(8)]);
        for inode in [5, 6, 8] {
            handles.settle(inode);
        }
        for inode in [5, 6, 7, 9] {
            handles.forget(inode);
        }
        assert!([5, 6, 7, 8].into_iter().all(kept), "a walk may have found them");
        for inode in 100..100 + super::FORGOTTEN_KEPT as u64 {
            handles.keep_removed(&[removal(inode)]);
            handles.settle(inode);
        }
        assert_eq!(
            [5, 6, 7, 8].map(kept),
            [true, false, true, true],
            "5 is open, 7 is leaving, 8 not forgotten"
        );
        handles.forget(8);
        assert!(!kept(8), "it is old");
        let files = super::lock(&handles.files);
        let bytes: usize = files.recent.iter().map(|(_, length)| length).sum();
        assert_eq!((files.recent.len(), files.recent_bytes), (super::FORGOTTEN_KEPT, bytes));
    }

    #[test]
    fn removed_directories_are_remembered_within_a_bound() {
        let handles = Handles::default();
        let name = Name::new(b"d").expect("a name");
        let place = |inode| handles.removed_directory(inode);
        for inode in 0..=RECENT_DIRECTORIES_MAX as u64 {
            let named = Invalidation::Entry { parent: inode + 1, name: name.clone() };
            let removed = Invalidation::Removed {
                inode,
                content: None,
                mtime: 7,
                private: false,
                removal: Removal::Deleted,
            };
            handles.keep_removed(&[named, removed]);
            assert_eq!(place(inode), Some((inode + 1, name.clone(), 7)));
        }
        assert_eq!((place(0), place(1)), (None, Some((2, name.clone(), 7))));
        assert_eq!(handles.removed(1), None);
    }

    #[test]
    fn recent_removals_are_bounded_in_number_and_bytes() {
        let handles = Handles::default();
        let large = Arc::new(vec![0; 1 << 20]);
        for inode in 0..200 {
            let content = if inode % 2 == 0 { Some(Arc::clone(&large)) } else { Some(Arc::default()) };
            let removed =
                Invalidation::Removed { inode, content, mtime: 0, private: false, removal: Removal::Deleted };
            handles.keep_removed(&[removed]);
            handles.settle(inode);
            let files = super::lock(&handles.files);
            let bytes: usize =
                files.all.values().filter_map(|file| Some(file.removed.as_ref()?.content.len())).sum();
            assert_eq!(bytes, files.recent_bytes);
            assert!(bytes <= RECENT_BYTES_MAX && files.all.len() <= RECENT_MAX, "{inode}");
        }
        assert!(handles.removed(199).is_some() && handles.removed(198).is_some());
    }

    #[test]
    fn a_close_too_many_does_nothing() {
        let handles = Handles::default();
        handles.close(9);
        handles.open(9, Class::default());
        assert!(!handles.open_removed(9), "it is in the tree");
        handles.close(9);
        handles.close(9);
        assert!(super::lock(&handles.files).all.is_empty());
    }

    #[test]
    fn texts_and_listings_belong_to_their_handle() {
        let handles = Handles::default();
        let (one, two) = (handles.add_text(b"1".to_vec().into()), handles.add_text(b"2".to_vec().into()));
        assert_ne!(one, two);
        assert_eq!(handles.text(one).as_deref(), Some(&b"1"[..]));
        handles.remove_text(one);
        assert_eq!(handles.text(one), None);
        assert_eq!(handles.text(two).as_deref(), Some(&b"2"[..]));
        let listing = Arc::default();
        handles.set_listing(one, Arc::clone(&listing));
        assert_eq!(handles.listing(one), Some(listing));
        handles.remove_listing(one);
        assert_eq!(handles.listing(one), None);
    }
}
