//! Local strategy: a daemon on its own applies a change in the calling thread, with node id 0 as the writer.

use super::{ChangeCallback, EngineInner, answer_stored, requires_commit};
use crate::memdb::{Change, Limits, Stamp};
use std::sync::Arc;

impl EngineInner {
    /// Applies a change now. `done` is called in this thread, before this returns, if the change is refused, needs no
    /// commit, or the commit permit is free; otherwise the commit thread calls it.
    pub(super) fn submit_local(self: &Arc<Self>, change: Change, done: ChangeCallback) {
        let stamp = Stamp { writer: 0, time: self.clock.unix() };
        let requires_commit = requires_commit(&change);
        match self.apply(change, stamp, Limits::Enforced) {
            Err(error) => {
                self.log_last_version(&error);
                done(Err(error));
            }
            Ok(applied) if requires_commit => self.store_now(answer_stored(applied, done)),
            Ok(applied) => self.answer_unstored(applied, done),
        }
    }
}
