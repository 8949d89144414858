//! What the nodes of a run share: the network, the time, chance, and what is known of their databases.

use crate::corosync::{Corosync, Group, NodeId};
use crate::node::{ChangeId, Contents};
use crate::rng::Rng;
use pmxcfs::dcdb::wire::Request;
use pmxcfs::dfsm::MemberId;
use pmxcfs::dfsm::wire::Epoch;
use std::time::Duration;

/// What nodes share: the network, and what is known of databases by their index.
pub struct World {
    pub corosync: Corosync,
    pub rng: Rng,
    pub time: Duration,
    pub with_status: bool,
    pub nodes: u32,
    /// Which changes the database of a member consisted of when it told its state in a round.
    pub known: Vec<(MemberId, Epoch, Contents)>,
    /// What was sent since somebody looked.
    pub asked: Vec<(ChangeId, Request)>,
    /// Nodes may learn of quorum later than of messages.
    pub late_quorum: bool,
    /// Messages are damaged: they are kept for that.
    pub hostile: bool,
    /// The first node does not know of updates with several entries, so nobody sends them while it is a member.
    pub first_is_older: bool,
    /// The disk is slow: what was applied is not stored by the time that members tell their states.
    pub slow_disk: bool,
    /// What was sent last, when messages are damaged.
    pub recent: Vec<(Group, Vec<u8>)>,
    /// One in so many messages cannot be sent; 0 for none.
    pub send_failures: usize,
    pub next_pid: u32,
}

impl World {
    pub fn new(nodes: u32, rng: Rng) -> Self {
        let ids: Vec<NodeId> = (1..=nodes).collect();
        let corosync = Corosync::new(&ids);
        let (time, known) = (Duration::from_secs(10), Vec::new());
        Self {
            corosync,
            rng,
            time,
            with_status: false,
            nodes,
            known,
            asked: Vec::new(),
            late_quorum: false,
            hostile: false,
            first_is_older: false,
            slow_disk: false,
            recent: Vec::new(),
            send_failures: 0,
            next_pid: 1000,
        }
    }

    pub fn send(&mut self, group: Group, from: MemberId, bytes: Vec<u8>) {
        if self.hostile {
            if self.recent.len() > 30 {
                self.recent.remove(0);
            }
            self.recent.push((group, bytes.clone()));
        }
        self.corosync.send(group, from, bytes);
    }
}
