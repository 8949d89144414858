//! How often a number came to mean another entry within a mount. A daemon on its own never uses a
//! number twice. A database that is brought up to date by another node's can do so: then the kernel
//! must not take the new entry for the old one, whose pages it may hold.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Counts, by the kernel's numbers. Almost always empty.
#[derive(Debug, Default)]
pub(crate) struct Incarnations {
    counts: RwLock<HashMap<u64, u64>>,
}

impl Incarnations {
    /// Which entry under this number it is: 0 is the first.
    pub(crate) fn of(&self, ino: u64) -> u64 {
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        counts.get(&ino).copied().unwrap_or(0)
    }

    /// From now on the number means another entry.
    pub(crate) fn next(&self, ino: u64) {
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(ino).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::Incarnations;

    #[test]
    fn numbers_count_on_their_own() {
        let incarnations = Incarnations::default();
        assert_eq!(incarnations.of(7), 0);
        incarnations.next(7);
        incarnations.next(7);
        assert_eq!((incarnations.of(7), incarnations.of(8)), (2, 0));
    }
}
