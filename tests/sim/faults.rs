//! What goes wrong in a run, and how all is healed in the end.

use crate::checkers::Complaint;
use crate::cluster::Cluster;
use crate::corosync::{Group, NodeId};
use pmxcfs::dfsm::MemberId;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

impl Cluster {
    pub fn fault(&mut self) -> Result<(), Complaint> {
        let kind = self.world.rng.below(7);
        match kind {
            0..=2 if self.faults.partitions => {
                let up: Vec<NodeId> = self.parts.iter().flatten().copied().collect();
                let parts = self.random_parts(&up);
                self.reconfigure(parts)
            }
            3 if self.faults.crashes => self.crash_daemon(),
            4 if self.faults.crashes && self.faults.partitions => self.crash_node(),
            5 => self.restart(),
            6 if self.faults.crashes => self.restart_corosync(),
            _ => Ok(()),
        }
    }

    /// Often everybody together, else two or three parts.
    fn random_parts(&mut self, up: &[NodeId]) -> Vec<BTreeSet<NodeId>> {
        let count = 1 + self.world.rng.below(4) % 3;
        let mut parts = vec![BTreeSet::new(); count];
        for id in up {
            let part = self.world.rng.below(count);
            parts[part].insert(*id);
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    pub fn reconfigure(&mut self, parts: Vec<BTreeSet<NodeId>>) -> Result<(), Complaint> {
        if !self.faults.lag {
            // It takes a second to miss a node: by then all that was there was taken.
            while let Some((node, group)) = self.world.corosync.receivers().first().copied() {
                self.receive_at(node, group)?;
            }
        }
        self.world.corosync.reconfigure(&parts, &mut self.world.rng);
        self.log.push(format!("        parts {parts:?}"));
        self.parts = parts;
        Ok(())
    }

    fn crash_daemon(&mut self) -> Result<(), Complaint> {
        let Some(id) = self.running() else { return Ok(()) };
        let process = self.kill(id).expect("runs");
        let groups = [(Group::Dcdb, process), (Group::Status, process)];
        self.world.corosync.process_died(&groups, id, &mut self.world.rng);
        Ok(())
    }

    fn crash_node(&mut self) -> Result<(), Complaint> {
        let up: Vec<NodeId> = self.parts.iter().flatten().copied().collect();
        if up.is_empty() {
            return Ok(());
        }
        let id = self.world.rng.pick(&up);
        self.kill(id);
        let mut parts = self.parts.clone();
        parts.iter_mut().for_each(|part| {
            part.remove(&id);
        });
        parts.retain(|part| !part.is_empty());
        self.reconfigure(parts)
    }

    /// A node's corosync goes and comes back; the daemon stays.
    fn restart_corosync(&mut self) -> Result<(), Complaint> {
        let Some(id) = self.running() else { return Ok(()) };
        self.log.push(format!("        the corosync of node {id} restarts"));
        let mut parts = self.parts.clone();
        parts.iter_mut().for_each(|part| {
            part.remove(&id);
        });
        parts.retain(|part| !part.is_empty());
        self.reconfigure(parts)?;
        // What was to be taken first may have ended the daemon's membership, not the daemon.
        let node = self.nodes.get_mut(&id).expect("is there");
        let seen = node.connection_lost(&mut self.world);
        self.look(id, seen)?;
        self.world.corosync.node_started(id);
        self.parts.push(BTreeSet::from([id]));
        Ok(())
    }

    /// A member sends a damaged copy of something that was sent.
    pub fn damage(&mut self) -> Result<(), Complaint> {
        let Some(id) = self.running() else { return Ok(()) };
        if self.world.recent.is_empty() {
            return Ok(());
        }
        let rng = &mut self.world.rng;
        let (group, mut bytes) = self.world.recent[rng.below(self.world.recent.len())].clone();
        match rng.below(4) {
            0 => bytes.truncate(rng.below(bytes.len() + 1)),
            1 => bytes.extend((0..rng.below(9)).map(|_| 0)),
            _ => {
                for _ in 0..=rng.below(4) {
                    // Not in the version of the protocol: a higher one ends all for good.
                    let at = rng.below(bytes.len());
                    if !(4..8).contains(&at) {
                        bytes[at] = rng.pick(&[0, 1, 0x7f, 0xff, bytes[at] ^ 1]);
                    }
                }
            }
        }
        let from = self.nodes[&id].process.as_ref().expect("runs").id;
        self.world.corosync.send(group, from, bytes);
        Ok(())
    }

    fn kill(&mut self, id: NodeId) -> Option<MemberId> {
        let node = self.nodes.get_mut(&id).expect("is there");
        let memory = Rc::clone(node.contents());
        let process = node.stop()?;
        self.history.crashed(&memory, &node.disk.contents);
        self.open.retain(|_, (by, _)| *by != process);
        self.log.push(format!("        node {id} crashes"));
        Some(process)
    }

    /// Starts what does not run.
    fn restart(&mut self) -> Result<(), Complaint> {
        let stopped = self.nodes.values().find(|node| node.process.is_none()).map(|node| node.id);
        let Some(id) = stopped else { return Ok(()) };
        let is_up = self.parts.iter().any(|part| part.contains(&id));
        if !is_up {
            self.world.corosync.node_started(id);
            self.parts.push(BTreeSet::from([id]));
        }
        self.start(id)
    }

    pub fn start(&mut self, id: NodeId) -> Result<(), Complaint> {
        self.log.push(format!("        node {id} starts"));
        let seen = self.nodes.get_mut(&id).expect("is there").start(&mut self.world);
        self.look(id, seen)
    }

    /// No more faults: everybody runs and can reach everybody.
    pub fn heal(&mut self) -> Result<(), Complaint> {
        self.log.push("        healing".to_owned());
        self.world.send_failures = 0;
        self.world.late_quorum = false;
        while self.nodes.values().any(|node| node.process.is_none()) {
            self.restart()?;
        }
        let all: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        self.reconfigure(vec![all])?;
        for _ in 0..20 {
            self.settle()?;
            self.tick(Duration::from_millis(3500))?;
        }
        self.settle()?;
        // Once more, now that nobody leaves any more: all compare.
        self.tick(Duration::from_secs(3600))?;
        self.settle()
    }

    /// Until nothing is on its way any more.
    pub fn settle(&mut self) -> Result<(), Complaint> {
        loop {
            let senders = self.world.corosync.senders();
            let receivers = self.world.corosync.receivers();
            let choices = senders.len() + receivers.len();
            if choices == 0 {
                break;
            }
            let choice = self.world.rng.below(choices);
            match senders.get(choice) {
                Some(node) => self.world.corosync.order_one(*node),
                None => {
                    let (node, group) = receivers[choice - senders.len()];
                    self.receive_at(node, group)?;
                }
            }
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let seen = self.nodes.get_mut(&id).expect("is there").commit();
            self.look(id, seen)?;
        }
        Ok(())
    }
}
