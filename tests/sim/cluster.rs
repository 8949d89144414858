//! A whole cluster in one run: chance decides who does what next, faults happen, then all is healed,
//! and the checkers have the last word.

use crate::checkers::{Appends, Complaint, Grants, History, SameIndex};
use crate::corosync::{Group, NodeId};
use crate::node::{Answer, Bug, ChangeId, Node, Process, Seen, World, domain};
use crate::rng::Rng;
use crate::workload;
use pmxcfs::dcdb::wire::Request;
use pmxcfs::dfsm::{Level, MemberId, Mode, Ticket};
use pmxcfs::memdb::{Change, TreePath};
use pmxcfs::status_group::wire::Request as StatusRequest;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub bug: Option<Bug>,
}

/// What a run was, when all went well.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    pub acknowledged: usize,
    pub refused: usize,
    pub abandoned: usize,
    pub replaced: usize,
    pub forks: usize,
    /// Acknowledged changes that nothing excuses to lose.
    pub kept: usize,
    pub verified: usize,
    pub expired: usize,
}

/// Kinds of faults that a run may have.
#[derive(Debug, Clone, Copy)]
struct Faults {
    partitions: bool,
    crashes: bool,
    /// Nodes may be behind with their deliveries when the membership changes.
    lag: bool,
}

pub struct Cluster {
    world: World,
    nodes: BTreeMap<NodeId, Node>,
    /// Which nodes can reach each other.
    parts: Vec<BTreeSet<NodeId>>,
    faults: Faults,
    serial: u64,
    /// Who waits for what.
    open: BTreeMap<Ticket, (MemberId, Change)>,
    /// What each message asked for.
    asked: BTreeMap<ChangeId, Change>,
    applied: BTreeSet<ChangeId>,
    same_index: SameIndex,
    history: History,
    locks: Grants<TreePath>,
    guests: Grants<u32>,
    appends: Appends,
    summary: Summary,
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
        let faults = Faults { partitions: kind != 1, crashes: kind > 0, lag: kind > 1 };
        let forks_allowed = faults.crashes || faults.lag;
        let mut world = World::new(count, rng.clone());
        rng.next();
        world.with_status = rng.one_in(4) || plan.bug == Some(Bug::KeepsStatus);
        world.send_failures = if forks_allowed && rng.one_in(4) { 300 } else { 0 };
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
            history: History::new(count, forks_allowed),
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

    fn receive_at(&mut self, id: NodeId, group: Group) -> Result<(), Complaint> {
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

    fn running(&mut self) -> Option<NodeId> {
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
        let change = workload::next_change(&mut self.world.rng, nodes, self.serial);
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
        let event = pmxcfs::dfsm::Event::Submit { request, ticket: None };
        let seen = node.kv_event(event, &mut self.world);
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
            2..=6 => 6_000,
            _ => self.world.rng.below(500) as u64,
        };
        self.tick(Duration::from_millis(millis))
    }

    fn tick(&mut self, by: Duration) -> Result<(), Complaint> {
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

/// Faults, and their end.
impl Cluster {
    fn fault(&mut self) -> Result<(), Complaint> {
        let kind = self.world.rng.below(6);
        match kind {
            0..=2 if self.faults.partitions => {
                let up: Vec<NodeId> = self.parts.iter().flatten().copied().collect();
                let parts = self.random_parts(&up);
                self.reconfigure(parts)
            }
            3 if self.faults.crashes => self.crash_daemon(),
            4 if self.faults.crashes && self.faults.partitions => self.crash_node(),
            5 => self.restart(),
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

    fn reconfigure(&mut self, parts: Vec<BTreeSet<NodeId>>) -> Result<(), Complaint> {
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

    fn start(&mut self, id: NodeId) -> Result<(), Complaint> {
        self.log.push(format!("        node {id} starts"));
        let seen = self.nodes.get_mut(&id).expect("is there").start(&mut self.world);
        self.look(id, seen)
    }

    /// No more faults: everybody runs and can reach everybody.
    fn heal(&mut self) -> Result<(), Complaint> {
        self.log.push("        healing".to_owned());
        self.world.send_failures = 0;
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
    fn settle(&mut self) -> Result<(), Complaint> {
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

/// What the checkers look at.
impl Cluster {
    fn look(&mut self, id: NodeId, seen: Vec<Seen>) -> Result<(), Complaint> {
        for (change, request) in std::mem::take(&mut self.world.asked) {
            if let Request::Append { path, data, .. } = &request {
                self.appends.sent(change, &path.to_string(), data);
            }
            if let Request::Change(asked) = request {
                self.asked.insert(change, asked);
            }
        }
        let changed = seen.iter().any(|one| matches!(one, Seen::Applied(_) | Seen::Replaced { .. }));
        for one in seen {
            match one {
                Seen::Applied(change) => {
                    let process = self.nodes[&id].process.as_ref().expect("runs");
                    self.history.applied(change, &process.contents, process.dcdb.members().len());
                    self.look_applied(change);
                }
                Seen::Replaced { before, after } => {
                    self.summary.replaced += 1;
                    self.history.replaced(&before, &after)?;
                    self.nodes[&id].process.as_ref().expect("runs").db.verify()?;
                }
                Seen::Answered(answer) => self.look_answer(answer)?,
                Seen::Log(group, level, text) => self.look_log(id, group, level, text)?,
            }
        }
        match &self.nodes[&id].process {
            Some(process) if changed => check_guests(process),
            _ => Ok(()),
        }
    }

    /// A change was applied, perhaps for the first time anywhere.
    fn look_applied(&mut self, change: ChangeId) {
        if !self.applied.insert(change) {
            return;
        }
        let Some(asked) = self.asked.get(&change) else { return };
        if let Some(path) = given_back(asked) {
            self.locks.given_back(path, "");
            if let Some(guest) = path.guest_config() {
                self.guests.given_back(&guest.vmid, guest.node);
            }
            self.summary.expired += usize::from(matches!(asked, Change::Unlock { .. }));
        }
        if let Some(path) = given(asked) {
            if path.lock_name().is_some() {
                self.locks.given(path.clone(), "", change);
            }
            if let Some(guest) = path.guest_config() {
                self.guests.given(guest.vmid, guest.node, change);
            }
        }
    }

    fn look_answer(&mut self, answer: Answer) -> Result<(), Complaint> {
        let Some((_, asked)) = self.open.remove(&answer.ticket) else {
            return Err(format!("{:?} was answered twice or never asked", answer.ticket));
        };
        match &answer.result {
            Err(_) => self.summary.abandoned += 1,
            Ok(Err(_)) => self.summary.refused += 1,
            Ok(Ok(_)) => self.summary.acknowledged += 1,
        }
        let Some(change) = answer.change else { return Ok(()) };
        self.history.acknowledged(change);
        let Some(path) = given(&asked) else { return Ok(()) };
        if path.lock_name().is_some() {
            self.locks.acknowledged(path, "", change, &self.history)?;
        }
        match path.guest_config() {
            Some(guest) => self.guests.acknowledged(&guest.vmid, guest.node, change, &self.history),
            None => Ok(()),
        }
    }

    fn look_log(&mut self, id: NodeId, group: Group, level: Level, text: String) -> Result<(), Complaint> {
        self.log.push(format!("{:>8.3} n{id} [{}] {text}", self.world.time.as_secs_f64(), domain(group)));
        if text == "data verification successful" {
            self.summary.verified += 1;
        }
        let expected = [
            "leaving CPG group",
            "received write while not quorate - trigger resync",
            "failed to send",
            "sync request from",
        ];
        if level == Level::Critical && !expected.iter().any(|start| text.starts_with(start)) {
            return Err(format!("node {id} should not have to say: {text}"));
        }
        Ok(())
    }

    fn check_healed(&mut self) -> Result<(), Complaint> {
        if let Some((ticket, (by, change))) = self.open.first_key_value() {
            return Err(format!("{ticket:?} of {by} was never answered: {change:?}"));
        }
        let processes: Vec<&Process> =
            self.nodes.values().map(|node| node.process.as_ref().expect("runs")).collect();
        for process in &processes {
            let (mode, members) = (process.dcdb.mode(), process.dcdb.members().len());
            if mode != Mode::Synced || members != processes.len() {
                return Err(format!("{} is in mode {mode:?} with {members} members", process.id));
            }
            process.db.verify()?;
        }
        let first = processes[0];
        let index = first.db.clone().index();
        if let Some(other) = processes.iter().find(|process| process.db.clone().index() != index) {
            return Err(format!("{} and {} are synced, but differ", first.id, other.id));
        }
        self.history.healed(&first.contents)?;
        self.appends.check(&first.contents, &first.db)?;
        if self.world.with_status { check_status(&processes) } else { Ok(()) }
    }
}

fn is_append(change: &Change) -> bool {
    matches!(change, Change::Write { at: pmxcfs::memdb::WriteAt::End, .. })
}

/// The path that somebody has by this change.
fn given(change: &Change) -> Option<&TreePath> {
    match change {
        Change::Create { path } | Change::Mkdir { path } | Change::Rename { to: path, .. } => Some(path),
        _ => None,
    }
}

/// The paths that nobody has any more.
fn given_back(change: &Change) -> Option<&TreePath> {
    match change {
        Change::Delete { path } | Change::Unlock { path, .. } | Change::Rename { from: path, .. } => {
            Some(path)
        }
        _ => None,
    }
}

/// No VMID is in two places of one tree, whatever its own list of guests says.
fn check_guests(process: &Process) -> Result<(), Complaint> {
    let mut places = BTreeMap::new();
    for entry in process.db.all_entries().filter(|entry| !entry.is_dir()) {
        let path = process.db.path_of(entry.inode).expect("has a path");
        if let Some(guest) = path.guest_config() {
            if let Some(other) = places.insert(guest.vmid, path.to_string()) {
                return Err(format!("{} has VMID {} at {other} and at {path}", process.id, guest.vmid));
            }
        }
    }
    Ok(())
}

/// Everybody knows the same of everybody.
fn check_status(processes: &[&Process]) -> Result<(), Complaint> {
    let rings = |process: &Process| {
        let records = process.status.log().ring().records();
        records.map(|record| (record.time(), record.node_digest(), record.uid())).collect::<Vec<_>>()
    };
    for process in processes {
        if process.kv.mode() != Mode::Synced {
            return Err(format!("the status group of {} is in mode {:?}", process.id, process.kv.mode()));
        }
        let mut ring = rings(process);
        let mut first = rings(processes[0]);
        ring.sort();
        first.sort();
        if ring != first {
            return Err(format!(
                "the cluster log of {} differs from that of {}",
                process.id, processes[0].id
            ));
        }
        for other in processes {
            let node = process.status.node().as_bytes();
            for (key, value) in process.status.own_values() {
                if other.status.get(node, key).ok() != Some(value) {
                    return Err(format!(
                        "{} does not know {:?} of {}",
                        other.id,
                        key.escape_ascii(),
                        process.id
                    ));
                }
            }
            if other.status.address(process.status.node()).is_none() {
                return Err(format!("{} does not know the address of {}", other.id, process.id));
            }
        }
    }
    Ok(())
}
