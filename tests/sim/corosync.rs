//! What corosync guarantees, and no more: extended virtual synchrony with agreed delivery.
//!
//! Nodes that can reach each other form a ring. What a node sends waits until the ring orders it,
//! then every member of the ring has it, and takes it when it gets to it. When rings change, what was
//! not ordered yet is either ordered among those who stay together, before they hear of the change, or
//! sent in the new ring. Of a change members hear as CPG tells: first who is gone, then who joined, at
//! once or one by one, in another order at each node; nothing is delivered in between.

use crate::rng::Rng;
use pmxcfs::dfsm::MemberId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

pub type NodeId = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Dcdb,
    Status,
}

pub const GROUPS: [Group; 2] = [Group::Dcdb, Group::Status];

/// What a process takes from its connection.
#[derive(Debug, Clone)]
pub enum Item {
    Confchg {
        members: Vec<MemberId>,
        joined: bool,
    },
    /// `order` is unique: members of one ring have the same messages before it. `told` is who has
    /// it: when a ring breaks only those who stay together, and they hear of the break after it.
    Message {
        order: u64,
        from: MemberId,
        bytes: Rc<[u8]>,
        told: Rc<[MemberId]>,
    },
}

#[derive(Debug, Clone)]
enum Outgoing {
    Message { group: Group, from: MemberId, bytes: Rc<[u8]> },
    Join(Group, MemberId),
    Leave(Group, MemberId),
}

/// One node's corosync.
#[derive(Debug, Default)]
struct Daemon {
    ring: usize,
    outbox: VecDeque<Outgoing>,
    inbox: BTreeMap<Group, VecDeque<Item>>,
    /// Changes of quorum that the node has not taken yet.
    quorum: VecDeque<bool>,
    quorate: bool,
}

/// The members of each group.
type Groups = BTreeMap<Group, BTreeSet<MemberId>>;

#[derive(Debug, Default, Clone)]
struct Ring {
    nodes: BTreeSet<NodeId>,
    groups: Groups,
}

/// All of them.
#[derive(Debug)]
pub struct Corosync {
    daemons: BTreeMap<NodeId, Daemon>,
    rings: Vec<Ring>,
    ordered: u64,
}

impl Corosync {
    /// Nodes that all run, each in a ring of its own.
    pub fn new(nodes: &[NodeId]) -> Self {
        let daemon = |(ring, id): (usize, &NodeId)| (*id, Daemon { ring, ..Daemon::default() });
        let ring = |id: &NodeId| Ring { nodes: BTreeSet::from([*id]), ..Ring::default() };
        Self {
            daemons: nodes.iter().enumerate().map(daemon).collect(),
            rings: nodes.iter().map(ring).collect(),
            ordered: 0,
        }
    }

    fn daemon(&mut self, node: NodeId) -> &mut Daemon {
        self.daemons.get_mut(&node).expect("a node of the cluster")
    }

    fn ring_of(&self, node: NodeId) -> &Ring {
        &self.rings[self.daemons[&node].ring]
    }

    pub fn send(&mut self, group: Group, from: MemberId, bytes: Vec<u8>) {
        let message = Outgoing::Message { group, from, bytes: bytes.into() };
        self.daemon(from.node).outbox.push_back(message);
    }

    pub fn join(&mut self, group: Group, id: MemberId) {
        self.daemon(id.node).outbox.push_back(Outgoing::Join(group, id));
    }

    pub fn leave(&mut self, group: Group, id: MemberId) {
        self.daemon(id.node).outbox.push_back(Outgoing::Leave(group, id));
    }

    /// Nodes that have something to be ordered.
    pub fn senders(&self) -> Vec<NodeId> {
        self.daemons.iter().filter(|(_, daemon)| !daemon.outbox.is_empty()).map(|(id, _)| *id).collect()
    }

    /// Nodes and groups for which something is to be taken.
    pub fn receivers(&self) -> Vec<(NodeId, Group)> {
        let waiting = |(id, daemon): (&NodeId, &Daemon)| {
            let full = daemon.inbox.iter().filter(|(_, inbox)| !inbox.is_empty());
            full.map(|(group, _)| (*id, *group)).collect::<Vec<_>>()
        };
        self.daemons.iter().flat_map(waiting).collect()
    }

    /// Takes the next item of a group.
    pub fn receive(&mut self, node: NodeId, group: Group) -> Option<Item> {
        self.daemon(node).inbox.entry(group).or_default().pop_front()
    }

    /// Takes the next change of quorum.
    pub fn next_quorum(&mut self, node: NodeId) -> Option<bool> {
        self.daemon(node).quorum.pop_front()
    }

    /// Orders the oldest thing that the node has to send.
    pub fn order_one(&mut self, node: NodeId) {
        let everybody = self.ring_of(node).nodes.clone();
        if let Some(out) = self.daemon(node).outbox.pop_front() {
            self.order(out, node, &everybody);
        }
    }

    /// Gives something, ordered, to those of the sender's ring that are among `to`.
    fn order(&mut self, out: Outgoing, node: NodeId, to: &BTreeSet<NodeId>) {
        self.ordered += 1;
        let order = self.ordered;
        let ring = self.daemons[&node].ring;
        let members = |corosync: &Self, group| {
            let all = corosync.rings[ring].groups.get(&group).cloned().unwrap_or_default();
            all.into_iter().filter(|member| to.contains(&member.node)).collect::<Vec<_>>()
        };
        match out {
            Outgoing::Message { group, from, bytes } => {
                let members = members(self, group);
                // What a process sent that has left since is nobody's message.
                if !members.contains(&from) {
                    return;
                }
                let told: Rc<[MemberId]> = members.into();
                for member in told.iter() {
                    let (bytes, told) = (Rc::clone(&bytes), Rc::clone(&told));
                    let item = Item::Message { order, from, bytes, told };
                    self.tell(member.node, group, item);
                }
            }
            Outgoing::Join(group, id) => {
                self.rings[ring].groups.entry(group).or_default().insert(id);
                let members = members(self, group);
                for member in &members {
                    self.tell(member.node, group, Item::Confchg { members: members.clone(), joined: true });
                }
            }
            Outgoing::Leave(group, id) => self.remove(ring, group, id, true),
        }
    }

    fn tell(&mut self, node: NodeId, group: Group, item: Item) {
        self.daemon(node).inbox.entry(group).or_default().push_back(item);
    }

    fn remove(&mut self, ring: usize, group: Group, id: MemberId, tell_it: bool) {
        let members = self.rings[ring].groups.entry(group).or_default();
        if !members.remove(&id) {
            return;
        }
        let left: Vec<MemberId> = members.iter().copied().collect();
        let told: Vec<NodeId> = left.iter().map(|member| member.node).collect();
        for node in told.into_iter().chain(tell_it.then_some(id.node)) {
            self.tell(node, group, Item::Confchg { members: left.clone(), joined: false });
        }
    }

    /// The processes of a node are gone, its corosync goes on. Some of what they sent is ordered.
    pub fn process_died(&mut self, ids: &[(Group, MemberId)], node: NodeId, rng: &mut Rng) {
        let count = self.daemons[&node].outbox.len();
        for _ in 0..rng.below(count + 1) {
            self.order_one(node);
        }
        let daemon = self.daemon(node);
        daemon.outbox.clear();
        daemon.inbox.clear();
        daemon.quorum.clear();
        let ring = daemon.ring;
        for (group, id) in ids {
            self.remove(ring, *group, *id, false);
        }
    }

    /// Whether the ring of this node is a majority, whatever the node was told by now.
    pub fn is_quorate(&self, node: NodeId) -> bool {
        self.daemons[&node].quorate
    }

    /// A new process connects: it asks whether there is quorum.
    pub fn process_started(&mut self, node: NodeId) -> bool {
        let daemon = self.daemon(node);
        daemon.quorum.clear();
        daemon.quorate
    }

    /// From now on these nodes, and only these, can reach each other. A node in none is down.
    pub fn reconfigure(&mut self, parts: &[BTreeSet<NodeId>], rng: &mut Rng) {
        let old: Vec<(usize, Ring)> = self.rings.iter().cloned().enumerate().collect();
        let cluster = self.daemons.len();
        let mut rings = Vec::new();
        for part in parts {
            if let Some((_, same)) = old.iter().find(|(_, ring)| ring.nodes == *part) {
                rings.push((same.clone(), part.clone()));
                continue;
            }
            let mut together = Vec::new();
            for (at, ring) in &old {
                let stay: BTreeSet<NodeId> = ring.nodes.intersection(part).copied().collect();
                if !stay.is_empty() {
                    self.order_some(&stay, rng);
                    together.push((self.rings[*at].groups.clone(), stay));
                }
            }
            let ring = self.merge(part, &together, rng);
            rings.push((ring, part.clone()));
        }
        for (number, (_, part)) in rings.iter().enumerate() {
            for node in part {
                self.daemon(*node).ring = number;
            }
        }
        self.rings = rings.into_iter().map(|(ring, _)| ring).collect();
        let up: BTreeSet<NodeId> = parts.iter().flatten().copied().collect();
        for (id, daemon) in &mut self.daemons {
            if !up.contains(id) {
                *daemon = Daemon { ring: usize::MAX, ..Daemon::default() };
            }
        }
        for part in parts {
            for node in part {
                let quorate = part.len() * 2 > cluster;
                let daemon = self.daemon(*node);
                if daemon.quorate != quorate {
                    daemon.quorate = quorate;
                    daemon.quorum.push_back(quorate);
                }
            }
        }
    }

    /// A node's corosync starts, alone.
    pub fn node_started(&mut self, node: NodeId) {
        let ring = self.rings.len();
        self.rings.push(Ring { nodes: BTreeSet::from([node]), ..Ring::default() });
        *self.daemon(node) = Daemon { ring, ..Daemon::default() };
    }

    /// What was still ordered in the old ring, among those who stay together.
    fn order_some(&mut self, stay: &BTreeSet<NodeId>, rng: &mut Rng) {
        let mut nodes: Vec<NodeId> = stay.iter().copied().collect();
        rng.shuffle(&mut nodes);
        for node in nodes {
            let count = self.daemons[&node].outbox.len();
            for _ in 0..rng.below(count + 1) {
                let is_message = matches!(self.daemons[&node].outbox.front(), Some(Outgoing::Message { .. }));
                if !is_message {
                    break;
                }
                let out = self.daemon(node).outbox.pop_front().expect("is there");
                self.order(out, node, stay);
            }
        }
    }

    /// Tells everybody of the new ring, made of parts of old ones.
    fn merge(
        &mut self,
        part: &BTreeSet<NodeId>,
        together: &[(Groups, BTreeSet<NodeId>)],
        rng: &mut Rng,
    ) -> Ring {
        let mut ring = Ring { nodes: part.clone(), ..Ring::default() };
        for group in GROUPS {
            let all_of =
                |old: &BTreeMap<Group, BTreeSet<MemberId>>| old.get(&group).cloned().unwrap_or_default();
            let kept = |old: &Groups, stay: &BTreeSet<NodeId>| {
                all_of(old).into_iter().filter(|id| stay.contains(&id.node)).collect::<BTreeSet<_>>()
            };
            let everybody: BTreeSet<MemberId> =
                together.iter().flat_map(|(old, stay)| kept(old, stay)).collect();
            for (old, stay) in together {
                let (before, kept) = (all_of(old), kept(old, stay));
                for member in &kept {
                    let changes = tell_change(&before, &kept, &everybody, rng);
                    for item in changes {
                        self.tell(member.node, group, item);
                    }
                }
            }
            ring.groups.insert(group, everybody);
        }
        ring
    }
}

/// What a member hears that was with `before`, is still with `kept`, and now with `all`.
fn tell_change(
    before: &BTreeSet<MemberId>,
    kept: &BTreeSet<MemberId>,
    all: &BTreeSet<MemberId>,
    rng: &mut Rng,
) -> Vec<Item> {
    let list = |members: &BTreeSet<MemberId>| members.iter().copied().collect::<Vec<_>>();
    let mut items = Vec::new();
    let mut joining: Vec<MemberId> = all.difference(kept).copied().collect();
    if before != kept && (joining.is_empty() || !rng.one_in(4)) {
        items.push(Item::Confchg { members: list(kept), joined: false });
    }
    if rng.one_in(2) {
        rng.shuffle(&mut joining);
        let mut members = list(kept);
        for member in joining {
            members.push(member);
            items.push(Item::Confchg { members: members.clone(), joined: true });
        }
    } else if !joining.is_empty() {
        items.push(Item::Confchg { members: list(all), joined: true });
    }
    items
}
