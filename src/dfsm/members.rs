//! The members of a group and, during a round of synchronisation, their states. It never decides
//! who is synced: applications do.

use super::wire::{Extension, MemberId};

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    /// Whether it has what the group has.
    pub synced: bool,
    /// Its state in this round, once it came. Dropped when the round is over.
    pub state: Option<Vec<u8>>,
    /// What it understands beyond stock, as its last state said.
    pub extension: Extension,
}

/// All members, sorted by node id and process id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    list: Vec<Member>,
    /// Place of this process. Invariant: within the list.
    local: Option<usize>,
}

impl Members {
    /// The members with these ids, in whatever order; nobody is synced, no state is there.
    pub(super) fn new(ids: &[MemberId], local: MemberId) -> Members {
        let mut ids = ids.to_vec();
        ids.sort();
        ids.dedup();
        let fresh = |id| Member { id, synced: false, state: None, extension: Extension::default() };
        let place = ids.iter().position(|id| *id == local);
        Members { list: ids.into_iter().map(fresh).collect(), local: place }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The member with this id.
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.list.iter().find(|member| member.id == id)
    }

    pub(super) fn get_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.list.iter_mut().find(|member| member.id == id)
    }

    pub(super) fn list_mut(&mut self) -> &mut [Member] {
        &mut self.list
    }

    /// The place of this process among the members; `None` when it is none.
    pub fn local(&self) -> Option<usize> {
        self.local
    }

    pub(super) fn local_member(&self) -> Option<&Member> {
        self.list.get(self.local?)
    }

    /// The lowest node id.
    pub fn lowest_node(&self) -> Option<u32> {
        self.list.first().map(|member| member.id.node)
    }

    pub(super) fn all_synced(&mut self) {
        self.list.iter_mut().for_each(|member| member.synced = true);
    }

    pub(super) fn has_all_states(&self) -> bool {
        self.list.iter().all(|member| member.state.is_some())
    }

    pub(super) fn drop_states(&mut self) {
        self.list.iter_mut().for_each(|member| member.state = None);
    }

    /// What all members understand.
    pub(super) fn common_extension(&self) -> Extension {
        let all = self.list.iter().map(|member| member.extension);
        all.reduce(Extension::common).unwrap_or_default()
    }
}
