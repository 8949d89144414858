//! A whole cluster in one run: chance decides who does what next, faults happen, then all is healed,
//! and the checkers have the last word.

use crate::checkers::{Appends, Complaint, Grants, History, SameIndex};
use crate::corosync::{Group, NodeId};
use crate::node::{Bug, ChangeId, Node};
use crate::rng::Rng;
use crate::workload;
use crate::world::World;
use pmxcfs::dfsm::{MemberId, Ticket};
use pmxcfs::memdb::{Change, EntryChange, TreePath, WriteAt};
use pmxcfs::status_group::wire::Request as StatusRequest;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub bug: Option<Bug>,
    /// Members send damaged messages. Then nothing is promised but that all are equal in the end.
    pub hostile: bool,
}

/// What a run was, when all went well.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    pub acknowledged: usize,
    pub refused: usize,
    pub abandoned: usize,
    pub replaced: usize,
    pub forks: usize,
    /// Runs in which nothing excused a fork.
    pub strict: usize,
    /// Acknowledged changes that nothing excuses to lose.
    pub kept: usize,
    pub verified: usize,
    pub expired: usize,
}

impl Summary {
    pub fn add(&mut self, other: Summary) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.abandoned += other.abandoned;
        self.replaced += other.replaced;
        self.forks += other.forks;
        self.strict += other.strict;
        self.kept += other.kept;
        self.verified += other.verified;
        self.expired += other.expired;
    }
}

/// Kinds of faults that a run may have.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub partitions: bool,
    pub crashes: bool,
    /// Nodes may be behind with their deliveries when the membership changes.
    pub lag: bool,
    pub hostile: bool,
}

pub struct Cluster {
    pub world: World,
    pub nodes: BTreeMap<NodeId, Node>,
    /// Which nodes can reach each other.
    pub parts: Vec<BTreeSet<NodeId>>,
    pub faults: Faults,
    pub serial: u64,
    /// Who waits for what.
    pub open: BTreeMap<Ticket, (MemberId, Change)>,
    /// What each message asked for.
    pub asked: BTreeMap<ChangeId, Change>,
    pub applied: BTreeSet<ChangeId>,
    pub same_index: SameIndex,
    pub history: History,
    pub locks: Grants<TreePath>,
    pub guests: Grants<u32>,
    pub appends: Appends,
    pub summary: Summary,
    /// The last log lines, for who looks into a failure.
    pub log: Vec<String>,
}

/// The steps of a run before it is healed.
const STEPS: usize = 350;

impl Cluster {
    /// Runs a whole schedule.
    pub fn run(plan: Plan) -> Result<Summary, (Complaint, Vec<String>)> {
        let mut cluster = Cluster::new(plan);
        match cluster.all_steps() {
            Ok(()) => Ok(cluster.summary),
            Err(complaint) => Err((complaint, cluster.log)),
        }
    }

    fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let count = 3 + rng.below(5) as u32;
        let kind = rng.below(4);
        let hostile = plan.hostile;
        let faults = Faults { partitions: kind != 1, crashes: kind > 0, lag: kind > 1, hostile };
        let forks_allowed = faults.crashes || faults.lag;
        let mut world = World::new(count, rng.clone());
        rng.next();
        world.with_status = rng.one_in(4) || plan.bug == Some(Bug::KeepsStatus);
        world.send_failures = if forks_allowed && rng.one_in(4) { 300 } else { 0 };
        world.late_quorum = faults.lag && rng.one_in(3);
        world.hostile = hostile;
        world.first_is_older = plan.seed % 2 == 0;
        world.slow_disk = plan.seed % 8 == 7 || plan.bug == Some(Bug::AnswersForOthers);
        // Who learns late that it has no quorum may acknowledge what nobody else ever gets.
        let promises = !world.late_quorum && !hostile;
        let first = workload::first_database(count);
        let mut nodes = BTreeMap::new();
        for id in 1..=count {
            let mut node = Node::new(id, rng.below(3) as u32, plan.bug);
            // Some come with the database, others with an empty one.
            if id == 1 || rng.one_in(2) {
                node.install(&first);
            }
            nodes.insert(id, node);
        }
        Self {
            world,
            parts: (1..=count).map(|id| BTreeSet::from([id])).collect(),
            nodes,
            faults,
            serial: 0,
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
            applied: BTreeSet::new(),
            same_index: SameIndex::default(),
            history: History::new(count, forks_allowed, promises),
            locks: Grants::new("lock", false),
            guests: Grants::new("VMID", true),
            appends: Appends::default(),
            summary: Summary::default(),
            log: Vec::new(),
        }
    }

    fn all_steps(&mut self) -> Result<(), Complaint> {
        let all: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        for id in &all {
            self.start(*id)?;
        }
        self.reconfigure(vec![all])?;
        self.settle()?;
        for _ in 0..STEPS {
            self.step()?;
        }
        self.heal()?;
        self.summary.forks = self.history.forks;
        self.summary.strict = usize::from(self.history.excuses_nothing());
        self.summary.kept = self.history.held_to();
        self.check_healed()
    }

    fn step(&mut self) -> Result<(), Complaint> {
        match self.world.rng.below(100) {
            0..=29 => self.order(),
            30..=69 => self.receive(),
            70..=84 => self.submit(),
            85..=90 => self.commit(),
            91..=96 => self.pass_time(),
            97 => self.tell_status(),
            98 if self.faults.hostile => self.damage(),
            _ => self.fault(),
        }
    }

    fn order(&mut self) -> Result<(), Complaint> {
        let senders = self.world.corosync.senders();
        if !senders.is_empty() {
            let node = self.world.rng.pick(&senders);
            self.world.corosync.order_one(node);
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Complaint> {
        let receivers = self.world.corosync.receivers();
        if receivers.is_empty() {
            return Ok(());
        }
        let (node, group) = self.world.rng.pick(&receivers);
        self.receive_at(node, group)
    }

    pub fn receive_at(&mut self, id: NodeId, group: Group) -> Result<(), Complaint> {
        let node = self.nodes.get_mut(&id).expect("is there");
        if node.process.is_none() {
            return Ok(());
        }
        let seen = node.receive(group, &mut self.world);
        self.look(id, seen)?;
        let node = self.nodes.get_mut(&id).expect("is there");
        if let (Group::Dcdb, Some((order, process))) = (group, node.synced_at()) {
            self.same_index.check(id, order, &mut process.db)?;
        }
        Ok(())
    }

    pub fn running(&mut self) -> Option<NodeId> {
        let ids: Vec<NodeId> =
            self.nodes.values().filter(|node| node.process.is_some()).map(|node| node.id).collect();
        if ids.is_empty() { None } else { Some(self.world.rng.pick(&ids)) }
    }

    fn submit(&mut self) -> Result<(), Complaint> {
        let Some(id) = self.running() else { return Ok(()) };
        if self.world.rng.one_in(12) {
            return self.ask_to_expire(id);
        }
        let nodes = self.nodes.len() as u32;
        self.serial += 1;
        let db = &self.nodes[&id].process.as_ref().expect("runs").db;
        let change = workload::next_change(&mut self.world.rng, nodes, self.serial);
        let change = workload::by_descriptor(&mut self.world.rng, db, change);
        // A client that is not sure asks twice.
        let times = if self.world.rng.one_in(10) && !is_append(&change) { 2 } else { 1 };
        for _ in 0..times {
            self.serial += 1;
            let ticket = Ticket(self.serial);
            let node = self.nodes.get_mut(&id).expect("is there");
            let by = node.process.as_ref().expect("runs").id;
            self.open.insert(ticket, (by, change.clone()));
            let seen = node.submit(change.clone(), ticket, &mut self.world);
            self.look(id, seen)?;
        }
        Ok(())
    }

    fn ask_to_expire(&mut self, id: NodeId) -> Result<(), Complaint> {
        let node = self.nodes.get_mut(&id).expect("is there");
        let db = &node.process.as_ref().expect("runs").db;
        let Some(request) = workload::expire(&mut self.world.rng, db) else { return Ok(()) };
        let seen = node.submit_request(request, &mut self.world);
        self.look(id, seen)
    }

    fn tell_status(&mut self) -> Result<(), Complaint> {
        if !self.world.with_status {
            return Ok(());
        }
        let Some(id) = self.running() else { return Ok(()) };
        self.serial += 1;
        let value = format!("{}", self.serial).into_bytes();
        let key = format!("k{}", self.world.rng.below(3)).into_bytes();
        let time = self.world.time;
        let node = self.nodes.get_mut(&id).expect("is there");
        let process = node.process.as_mut().expect("runs");
        process.status.set(&key, &value, time).expect("a plain value");
        let request = StatusRequest::Value { key, value };
        let seen = node.kv_request(request, &mut self.world);
        self.look(id, seen)
    }

    fn commit(&mut self) -> Result<(), Complaint> {
        let Some(id) = self.running() else { return Ok(()) };
        let seen = self.nodes.get_mut(&id).expect("is there").commit();
        self.look(id, seen)
    }

    fn pass_time(&mut self) -> Result<(), Complaint> {
        let millis = match self.world.rng.below(40) {
            0 => 125_000,
            1 => 3_600_000,
            2..=16 => 6_000,
            _ => self.world.rng.below(500) as u64,
        };
        self.tick(Duration::from_millis(millis))
    }

    pub fn tick(&mut self, by: Duration) -> Result<(), Complaint> {
        self.world.time += by;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let node = self.nodes.get_mut(&id).expect("is there");
            if node.process.is_some() {
                let seen = node.tick(&mut self.world);
                self.look(id, seen)?;
            }
        }
        Ok(())
    }
}

fn is_append(change: &Change) -> bool {
    match change {
        Change::Write { at, .. } | Change::Entry { change: EntryChange::Write { at, .. }, .. } => {
            *at == WriteAt::End
        }
        _ => false,
    }
}
