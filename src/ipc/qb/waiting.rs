//! Peers that have connected and not yet sent their request, with the number that each user holds.

use super::auth::Pending;
use std::collections::BTreeMap;

/// Peers that may wait at once.
pub(crate) const WAITING_MAX: usize = 128;

/// Peers without a request, oldest first.
#[derive(Debug, Default)]
pub(crate) struct WaitingPeers {
    peers: Vec<Pending>,
    /// Peers of each user.
    held: BTreeMap<u32, usize>,
}

impl WaitingPeers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.peers.iter()
    }

    /// Adds a peer; see [`WaitingPeers::make_room`].
    pub(crate) fn push(&mut self, peer: Pending) {
        *self.held.entry(peer.uid()).or_default() += 1;
        self.peers.push(peer);
    }

    /// Takes all peers.
    pub(crate) fn take(&mut self) -> Vec<Pending> {
        self.held.clear();
        std::mem::take(&mut self.peers)
    }

    /// If all places are taken, drops the oldest peer of the user with most peers. So no user can exclude others by
    /// silent connections. Root loses a place only to root. The cost grows with the number of users, not of peers times
    /// users: a flood of connects calls this for each.
    pub(crate) fn make_room(&mut self) {
        if self.peers.len() < WAITING_MAX {
            return;
        }
        let rank = |uid: u32, held: usize| (uid != 0, held);
        let Some(most) = self.held.iter().map(|(&uid, &held)| rank(uid, held)).max() else { return };
        let users: Vec<u32> =
            self.held.iter().filter(|(uid, held)| rank(**uid, **held) == most).map(|(&uid, _)| uid).collect();
        let oldest = self.peers.iter().position(|peer| users.binary_search(&peer.uid()).is_ok());
        if let Some(uid) = oldest.map(|oldest| self.peers.remove(oldest).uid()) {
            self.held.entry(uid).and_modify(|held| *held -= 1);
            self.held.retain(|_, held| *held > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// The deadline identifies the peer.
    fn peer(uid: u32, number: u64) -> Pending {
        let (socket, _) = UnixStream::pair().expect("a pair");
        Pending::of_user(socket, uid, Duration::from_secs(number))
    }

    fn shown(peers: &WaitingPeers) -> Vec<(u32, u64)> {
        peers.iter().map(|peer| (peer.uid(), peer.deadline().as_secs())).collect()
    }

    /// The rule, as counted for each peer.
    fn expected(peers: &mut VecDeque<(u32, u64)>) {
        let held = |uid| peers.iter().filter(|peer| peer.0 == uid).count();
        let places = peers.iter().enumerate().rev();
        let (oldest, _) = places.max_by_key(|(_, peer)| (peer.0 != 0, held(peer.0))).expect("peers");
        peers.remove(oldest);
    }

    #[test]
    fn room_is_made_at_the_cost_of_the_greediest() {
        let (mut waiting, mut model) = (WaitingPeers::default(), VecDeque::new());
        for number in 0..1000 {
            let uid = [0, 33, 33, 33, 60001, 60002, 60001][number as usize * number as usize % 7];
            if model.len() == WAITING_MAX {
                expected(&mut model);
            }
            waiting.make_room();
            waiting.push(peer(uid, number));
            model.push_back((uid, number));
            assert_eq!(shown(&waiting), *model.make_contiguous());
        }
        assert_eq!(waiting.take().len(), WAITING_MAX);
        assert!(waiting.held.is_empty());
    }

    #[test]
    fn root_loses_a_place_only_to_root() {
        let mut waiting = WaitingPeers::default();
        (0..WAITING_MAX as u64 - 1).for_each(|number| waiting.push(peer(0, number)));
        waiting.push(peer(33, 1000));
        waiting.make_room();
        assert!(waiting.iter().all(|peer| peer.uid() == 0));
        waiting.push(peer(0, 2000));
        waiting.make_room();
        assert_eq!(shown(&waiting).first(), Some(&(0, 1)));
    }
}
