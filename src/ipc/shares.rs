//! Fair shares of a limited resource among users: connections, memory, waiting requests. A user other than
//! root gets at most its limit, and at most as much as is still free. So if n users take as much as they can,
//! one part in n + 1 is left for the next user. Root is not limited here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A resource shared by users other than root.
#[derive(Debug)]
pub struct Shares {
    /// Limit of all users together.
    all: u64,
    /// Limit of each user.
    each: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// Users with a share above 0.
    users: BTreeMap<u32, u64>,
}

/// An amount held by a user; dropping it returns it.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    uid: u32,
    amount: u64,
}

impl Shares {
    /// A resource without users.
    pub fn new(all: u64, each: u64) -> Arc<Self> {
        Arc::new(Self { all, each, held: Mutex::default() })
    }

    /// Takes `amount` for a user; `None` if that exceeds its share. Root always succeeds.
    pub fn take(self: &Arc<Self>, uid: u32, amount: u64) -> Option<Share> {
        let mut held = self.lock();
        if uid != 0 {
            let own = held.users.get(&uid).copied().unwrap_or(0).checked_add(amount)?;
            if own > self.each || own > self.all.saturating_sub(held.all) {
                return None;
            }
            held.users.insert(uid, own);
            held.all += amount;
        }
        Some(Share { shares: Arc::clone(self), uid, amount })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Each change is complete before any code can panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.uid == 0 {
            return;
        }
        let mut held = self.shares.lock();
        held.all -= self.amount;
        if let Some(own) = held.users.get_mut(&self.uid) {
            *own -= self.amount;
            if *own == 0 {
                held.users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes shares until that fails.
    fn take_all(shares: &Arc<Shares>, uid: u32) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(uid, 1)).collect()
    }

    #[test]
    fn user_gets_at_most_its_limit() {
        let shares = Shares::new(1024, 256);
        let held = take_all(&shares, 33);
        assert_eq!(held.len(), 256);
        drop(held);
        assert_eq!(take_all(&shares, 33).len(), 256, "given back");
        assert!(shares.lock().users.is_empty() && shares.lock().all == 0);
    }

    #[test]
    fn greedy_users_leave_a_part_for_the_next() {
        let shares = Shares::new(1000, 1000);
        let held: Vec<_> = (1..=4).map(|uid| take_all(&shares, uid)).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [500, 250, 125, 63]);
        assert!(!take_all(&shares, 5).is_empty());
    }

    #[test]
    fn root_is_not_limited() {
        let shares = Shares::new(2, 2);
        let _held = take_all(&shares, 1);
        let root: Vec<_> = (0..10).map(|_| shares.take(0, u64::MAX).unwrap()).collect();
        drop(root);
        assert_eq!(shares.lock().all, 1);
    }

    proptest! {
        #[test]
        fn books_balance(steps in proptest::collection::vec((1u32..5, 0u64..60, any::<bool>()), 0..200)) {
            let shares = Shares::new(200, 90);
            let mut held: Vec<Share> = Vec::new();
            for (uid, amount, take) in steps {
                if take {
                    held.extend(shares.take(uid, amount));
                } else if !held.is_empty() {
                    held.swap_remove(amount as usize % held.len());
                }
                let sum = |uid: Option<u32>| -> u64 {
                    held.iter().filter(|share| uid.is_none_or(|uid| share.uid == uid)).map(|share| share.amount).sum()
                };
                prop_assert_eq!(shares.lock().all, sum(None));
                prop_assert!(sum(None) <= 200);
                for uid in 1..5 {
                    prop_assert!(sum(Some(uid)) <= 90);
                }
            }
        }
    }
}
