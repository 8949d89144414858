//! Who is told of changes while they are made.

use crate::memdb::Touched;
use std::fmt;
use std::sync::{PoisonError, RwLock};

/// Is told what a change touched.
pub type Observer = Box<dyn Fn(&[Touched]) + Send + Sync>;

/// Those who are told.
#[derive(Default)]
pub(super) struct Observers {
    all: RwLock<Vec<Observer>>,
}

impl Observers {
    pub(super) fn add(&self, observer: Observer) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    pub(super) fn tell(&self, touched: &[Touched]) {
        for observer in self.all.read().unwrap_or_else(PoisonError::into_inner).iter() {
            observer(touched);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}
