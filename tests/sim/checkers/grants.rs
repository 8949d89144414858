//! What only one can have: a lock, or a VMID in one place. It is given by one change and given back
//! by another.
//!
//! Two have it when both were told so, and one was given it while the other's was safe. Whether it was is
//! settled when the change is applied: a node may tell who asked much later, when its disk is slow, and by
//! then another part of the cluster, which never knew of it, may have brought its own to a majority.

use super::{Complaint, History};
use crate::node::ChangeId;
use std::fmt::Debug;

#[derive(Debug)]
struct Grant<K> {
    key: K,
    place: String,
    change: ChangeId,
    /// Which ones that exclude it were safe when it was given.
    rivals: Vec<ChangeId>,
    acknowledged: bool,
    over: bool,
}

/// All grants of one kind. With `one_place` a second one for the same place is no conflict.
#[derive(Debug)]
pub struct Grants<K> {
    what: &'static str,
    same_place_is_fine: bool,
    grants: Vec<Grant<K>>,
}

impl<K: PartialEq + Clone + Debug> Grants<K> {
    pub fn new(what: &'static str, same_place_is_fine: bool) -> Self {
        Self { what, same_place_is_fine, grants: Vec::new() }
    }

    /// A change that gives `key` was applied for the first time anywhere.
    pub fn given(&mut self, key: K, place: &str, change: ChangeId, history: &History) {
        let excludes = |grant: &&Grant<K>| {
            grant.key == key && !grant.over && !(self.same_place_is_fine && grant.place == place)
        };
        let safe = |grant: &&Grant<K>| history.is_safe(grant.change);
        let rivals = self.grants.iter().filter(excludes).filter(safe).map(|grant| grant.change).collect();
        let place = place.to_owned();
        self.grants.push(Grant { key, place, change, rivals, acknowledged: false, over: false });
    }

    /// A change that gives `key` at this place back was applied for the first time anywhere.
    pub fn given_back(&mut self, key: &K, place: &str) {
        let of_it = |grant: &&mut Grant<K>| grant.key == *key && grant.place == place;
        self.grants.iter_mut().filter(of_it).for_each(|grant| grant.over = true);
    }

    /// Somebody was told that it has `key` by this change.
    pub fn acknowledged(
        &mut self,
        key: &K,
        place: &str,
        change: ChangeId,
        history: &History,
    ) -> Result<(), Complaint> {
        let is_own = |grant: &Grant<K>| grant.change == change;
        if !self.grants.iter().any(is_own) {
            // Told so without a change: then it is given now.
            self.given(key.clone(), place, change, history);
        }
        let Some(at) = self.grants.iter().position(is_own) else { return Ok(()) };
        self.grants[at].acknowledged = true;
        let own = &self.grants[at];
        let has_it = |grant: &&Grant<K>| grant.acknowledged && !grant.over && !own.over;
        let excludes =
            |other: &&Grant<K>| own.rivals.contains(&other.change) || other.rivals.contains(&own.change);
        match self.grants.iter().filter(has_it).find(excludes) {
            Some(other) => Err(format!(
                "{} {key:?} was given by {change:?} at {place}, while {:?} has it at {}",
                self.what, other.change, other.place
            )),
            None => Ok(()),
        }
    }
}
