//! What is open: how often each file is, the contents of files that were removed while open, the
//! texts of opened generated files, and the listings of opened directories.
//!
//! Contents of database files are not here: a read takes them from the tree by number. Only when an
//! entry leaves the tree while it is open do its last contents move here, until the last close.
//! Each lock is held for a look into a map, and never while another is taken; whoever holds the
//! tree's lock may take them, never the other way round.

use super::mode::Class;
use crate::clock::UnixTime;
use crate::memdb::{Inode, Name, Touched};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that is open.
#[derive(Debug)]
struct OpenFile {
    /// Invariant: at least 1.
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
}

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

    /// Notes that a file is closed.
    pub(crate) fn close(&self, inode: Inode) {
        let mut files = lock(&self.files);
        if let Some(file) = files.get_mut(&inode) {
            file.opens -= 1;
            if file.opens == 0 {
                files.remove(&inode);
            }
        }
    }

    /// Keeps the contents of what was removed, if it is open. To be called under the lock of the
    /// removal, so that no reader falls between the two.
    pub(crate) fn keep_removed(&self, touched: &[Touched]) {
        for touched in touched {
            let Touched::Removed { inode, content: Some(content), mtime } = touched else { continue };
            if let Some(file) = lock(&self.files).get_mut(inode) {
                file.removed = Some(Removed { content: Arc::clone(content), mtime: *mtime });
            }
        }
    }

    /// The last state of a file that was removed while open.
    pub(crate) fn removed(&self, inode: Inode) -> Option<(Removed, Class)> {
        let files = lock(&self.files);
        let file = files.get(&inode)?;
        file.removed.clone().map(|removed| (removed, file.class))
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

    #[test]
    fn contents_are_kept_from_removal_to_the_last_close() {
        let handles = Handles::default();
        let class = Class { private: true, script: false };
        handles.open(5, class);
        handles.open(5, class);
        assert_eq!(handles.removed(5), None, "still in the tree");
        handles.keep_removed(&[Touched::Data { inode: 5 }, removal(6), removal(5)]);
        let kept = Removed { content: Arc::new(b"last".to_vec()), mtime: 7 };
        assert_eq!(handles.removed(5), Some((kept.clone(), class)));
        assert_eq!(handles.removed(6), None, "nobody had it open");
        handles.close(5);
        assert_eq!(handles.removed(5), Some((kept, class)));
        handles.close(5);
        assert_eq!(handles.removed(5), None);
        assert!(super::lock(&handles.files).is_empty());
    }

    #[test]
    fn a_close_too_many_does_nothing() {
        let handles = Handles::default();
        handles.close(9);
        handles.open(9, Class::default());
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
