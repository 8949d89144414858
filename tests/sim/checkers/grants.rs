//! What only one can have: a lock, or a VMID in one place. It is given by one change and given back
//! by another.
//!
//! Two have it when both were told so, and one was given it by a database in which the other had it and
//! which a majority shared. By databases that do not know of each other both can be given: these are forks,
//! of which [`History`] knows what excuses them.

use super::{Complaint, History};
use crate::node::{ChangeId, Contents};
use std::fmt::Debug;

#[derive(Debug)]
struct Grant<K> {
    key: K,
    place: String,
    change: ChangeId,
    /// Which ones that exclude it were safe, and in the database that gave it.
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

    /// A change that gives `key` was applied for the first time anywhere, to a database with this in it.
    pub fn given(&mut self, key: K, place: &str, change: ChangeId, (db, history): (&Contents, &History)) {
        let excludes = |grant: &&Grant<K>| {
            grant.key == key && !grant.over && !(self.same_place_is_fine && grant.place == place)
        };
        let has_it = |grant: &&Grant<K>| db.contains(&grant.change) && history.is_safe(grant.change);
        let rivals = self.grants.iter().filter(excludes).filter(has_it).map(|grant| grant.change).collect();
        let place = place.to_owned();
        self.grants.push(Grant { key, place, change, rivals, acknowledged: false, over: false });
    }

    /// A change that gives `key` at this place back was applied for the first time anywhere.
    pub fn given_back(&mut self, key: &K, place: &str) {
        let of_it = |grant: &&mut Grant<K>| grant.key == *key && grant.place == place;
        self.grants.iter_mut().filter(of_it).for_each(|grant| grant.over = true);
    }

    /// Somebody was told that it has `key` by this change, by a node that has this in its database.
    pub fn acknowledged(
        &mut self,
        key: &K,
        place: &str,
        change: ChangeId,
        known: (&Contents, &History),
    ) -> Result<(), Complaint> {
        let is_own = |grant: &Grant<K>| grant.change == change;
        if !self.grants.iter().any(is_own) {
            // Told so without a change: then it is given now.
            self.given(key.clone(), place, change, known);
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
