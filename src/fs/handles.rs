//! What is open: how often each file is, the contents of files that were removed while open, the
//! texts of opened generated files, and the listings of opened directories.
//!
//! Contents of database files are not here: a read takes them from the tree by number. Only when a
//! file leaves the tree do its last contents move here, until the kernel knows and nobody has it open.
//! Each lock is held for a look into a map, and never while another is taken; whoever holds the
//! tree's lock may take them, never the other way round.

use super::mode::Class;
use crate::clock::UnixTime;
use crate::memdb::{Inode, Name, Touched};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that is open, or has left the tree just now. Invariant: one of the two.
#[derive(Debug)]
struct OpenFile {
    opens: u64,
    class: Class,
    /// Set when it left the tree.
    removed: Option<Removed>,
}

/// The last state of a file that left the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) content: Arc<Vec<u8>>,
    pub(crate) mtime: UnixTime,
    /// The kernel was not told yet: whoever finds it by a name of before may still open it, instead
    /// of waiting for the removal to reach the disk.
    pub(crate) is_leaving: bool,
}

/// What is assumed of a file that nobody had open when it left.
const UNKNOWN: Class = Class { private: true, script: false };

/// A directory as it was when somebody began to read it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) names: Vec<(Name, Inode)>,
}

/// Everything that is open.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    last: AtomicU64,
    files: Mutex<HashMap<Inode, OpenFile>>,
    texts: Mutex<HashMap<u64, Arc<[u8]>>>,
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
}

/// The maps hold no invariant across a panic, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenFile {
    fn settle(&mut self) {
        if let Some(removed) = &mut self.removed {
            removed.is_leaving = false;
        }
    }

    fn is_kept(&self) -> bool {
        self.opens > 0 || self.removed.as_ref().is_some_and(|removed| removed.is_leaving)
    }
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
        let file = files.entry(inode).or_insert(OpenFile { opens: 0, class, removed: None });
        file.opens += 1;
        file.class = class;
    }

    /// Notes that a file which left the tree is opened, by a name of before or by a handle. Says
    /// whether that is possible.
    pub(crate) fn open_removed(&self, inode: Inode) -> bool {
        match lock(&self.files).get_mut(&inode) {
            Some(file) if file.removed.is_some() => {
                file.opens += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Notes that a file is closed.
    pub(crate) fn close(&self, inode: Inode) {
        self.change(inode, |file| file.opens = file.opens.saturating_sub(1));
    }

    /// Keeps the contents of what was removed, at least until [`Handles::settle`]. To be called under
    /// the lock of the removal, so that no reader falls between the two.
    pub(crate) fn keep_removed(&self, touched: &[Touched]) {
        for touched in touched {
            let Touched::Removed { inode, content: Some(content), mtime } = touched else { continue };
            let mut files = lock(&self.files);
            let file = files.entry(*inode).or_insert(OpenFile { opens: 0, class: UNKNOWN, removed: None });
            file.removed = Some(Removed { content: Arc::clone(content), mtime: *mtime, is_leaving: true });
        }
    }

    /// The kernel knows that a file left the tree: only who has it open can still reach it.
    pub(crate) fn settle(&self, inode: Inode) {
        self.change(inode, OpenFile::settle);
    }

    /// As [`Handles::settle`], for all of them: the removal that failed last does not say which.
    pub(crate) fn settle_all(&self) {
        let mut files = lock(&self.files);
        files.values_mut().for_each(OpenFile::settle);
        files.retain(|_, file| file.is_kept());
    }

    /// The last state of a file that was removed.
    pub(crate) fn removed(&self, inode: Inode) -> Option<(Removed, Class)> {
        let files = lock(&self.files);
        let file = files.get(&inode)?;
        file.removed.clone().map(|removed| (removed, file.class))
    }

    fn change(&self, inode: Inode, change: impl FnOnce(&mut OpenFile)) {
        let mut files = lock(&self.files);
        if let Some(file) = files.get_mut(&inode) {
            change(file);
            if !file.is_kept() {
                files.remove(&inode);
            }
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

    /// The listing of a handle, if it was read from the start.
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
    use super::{Handles, Removed};
    use crate::fs::mode::Class;
    use crate::memdb::Touched;
    use std::sync::Arc;

    fn removal(inode: u64) -> Touched {
        Touched::Removed { inode, content: Some(Arc::new(b"last".to_vec())), mtime: 7 }
    }

    fn removed(is_leaving: bool) -> Removed {
        Removed { content: Arc::new(b"last".to_vec()), mtime: 7, is_leaving }
    }

    #[test]
    fn contents_are_kept_from_removal_to_the_last_close() {
        let handles = Handles::default();
        let class = Class { private: false, script: true };
        handles.open(5, class);
        handles.open(5, class);
        assert_eq!(handles.removed(5), None, "still in the tree");
        handles.keep_removed(&[Touched::Data { inode: 5 }, removal(5)]);
        assert_eq!(handles.removed(5), Some((removed(true), class)));
        handles.settle(5);
        handles.close(5);
        assert_eq!(handles.removed(5), Some((removed(false), class)));
        assert!(handles.open_removed(5), "by the handle that is left");
        handles.close(5);
        handles.close(5);
        assert_eq!(handles.removed(5), None);
        assert!(super::lock(&handles.files).is_empty());
    }

    #[test]
    fn contents_are_kept_until_the_kernel_knows() {
        let handles = Handles::default();
        handles.keep_removed(&[removal(6)]);
        assert_eq!(handles.removed(6).map(|(removed, _)| removed), Some(removed(true)));
        assert!(handles.open_removed(6));
        handles.close(6);
        assert!(handles.removed(6).is_some(), "still leaving");
        handles.settle(6);
        assert!(!handles.open_removed(6));
        handles.keep_removed(&[removal(7), removal(8)]);
        assert!(handles.open_removed(8));
        handles.settle_all();
        assert_eq!((handles.removed(7), handles.removed(8).is_some()), (None, true));
        handles.close(8);
        assert!(super::lock(&handles.files).is_empty());
    }

    #[test]
    fn a_close_too_many_does_nothing() {
        let handles = Handles::default();
        handles.close(9);
        handles.open(9, Class::default());
        assert!(!handles.open_removed(9), "it is in the tree");
        handles.close(9);
        handles.close(9);
        assert!(super::lock(&handles.files).is_empty());
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
