//! Listeners that are notified of each change under the tree's lock.

use crate::memdb::Invalidation;
use std::fmt;
use std::sync::{PoisonError, RwLock};

/// Called with the effects of each change, under the tree's write lock.
pub type ChangeListener = Box<dyn Fn(&[Invalidation]) + Send + Sync>;

/// All listeners.
#[derive(Default)]
pub(super) struct ChangeListeners {
    all: RwLock<Vec<ChangeListener>>,
}

impl ChangeListeners {
    pub(super) fn add(&self, observer: ChangeListener) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    pub(super) fn notify(&self, invalidations: &[Invalidation]) {
        for observer in self.all.read().unwrap_or_else(PoisonError::into_inner).iter() {
            observer(invalidations);
        }
    }
}

impl fmt::Debug for ChangeListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeListeners")
    }
}
