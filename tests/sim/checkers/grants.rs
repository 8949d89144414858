//! What only one can have: a lock, or a VMID in one place. It is given by one change and given back
//! by another.

use super::{Complaint, History};
use crate::node::ChangeId;
use std::fmt::Debug;

#[derive(Debug)]
struct Grant<K> {
    key: K,
    place: String,
    change: ChangeId,
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
    pub fn given(&mut self, key: K, place: &str, change: ChangeId) {
        let place = place.to_owned();
        self.grants.push(Grant { key, place, change, acknowledged: false, over: false });
    }

    /// A change that gives `key` at this place back was applied for the first time anywhere.
    pub fn given_back(&mut self, key: &K, place: &str) {
        let of_it = |grant: &&mut Grant<K>| grant.key == *key && grant.place == place;
        self.grants.iter_mut().filter(of_it).for_each(|grant| grant.over = true);
    }

    /// Somebody was told that it has `key`.
    pub fn acknowledged(
        &mut self,
        key: &K,
        place: &str,
        change: ChangeId,
        history: &History,
    ) -> Result<(), Complaint> {
        if let Some(own) = self.grants.iter_mut().find(|grant| grant.change == change) {
            own.acknowledged = true;
            if own.over {
                return Ok(());
            }
        }
        let conflicts = |grant: &&Grant<K>| {
            let other = grant.key == *key && grant.change != change && !grant.over && grant.acknowledged;
            let elsewhere = !self.same_place_is_fine || grant.place != place;
            other && elsewhere && history.is_safe(grant.change)
        };
        match self.grants.iter().find(conflicts) {
            Some(other) => Err(format!(
                "{} {key:?} was given by {change:?} at {place}, while {:?} has it at {}",
                self.what, other.change, other.place
            )),
            None => Ok(()),
        }
    }
}
