//! How often clients asked for what.

use super::super::ops::Op;
use crate::counts::Count;

/// Requests since the start.
#[derive(Debug)]
pub(super) struct RequestCounts {
    /// One for each op, in the order of [`Op::ALL`].
    asked: Vec<Count>,
    unknown: Count,
    failed: Count,
}

impl Default for RequestCounts {
    fn default() -> Self {
        let asked = Op::ALL.iter().map(|_| Count::default()).collect();
        Self { asked, unknown: Count::default(), failed: Count::default() }
    }
}

impl RequestCounts {
    /// A client asks for number `id`.
    pub(super) fn asked(&self, id: i32) {
        let place = Op::ALL.iter().position(|op| op.id() == id);
        place.and_then(|place| self.asked.get(place)).unwrap_or(&self.unknown).one();
    }

    /// A request was answered with an error.
    pub(super) fn failed(&self) {
        self.failed.one();
    }

    /// By op, in the order of [`Op::ALL`].
    pub(super) fn by_op(&self) -> impl Iterator<Item = (Op, u64)> {
        Op::ALL.iter().copied().zip(self.asked.iter().map(Count::get))
    }

    /// Requests with numbers that there are not.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown.get()
    }

    /// Answers with an error.
    pub(super) fn failures(&self) -> u64 {
        self.failed.get()
    }
}
