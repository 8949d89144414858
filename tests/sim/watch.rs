//! What is seen of a run, and which checker is told.

use crate::checkers::Complaint;
use crate::cluster::Cluster;
use crate::corosync::{Group, NodeId};
use crate::node::{Answer, ChangeId, Process, Seen, domain};
use pmxcfs::dcdb::wire::Request;
use pmxcfs::dfsm::{Level, Mode};
use pmxcfs::memdb::{Change, EntryChange, TreePath, WriteAt};
use std::collections::BTreeMap;

impl Cluster {
    pub fn look(&mut self, id: NodeId, seen: Vec<Seen>) -> Result<(), Complaint> {
        for (change, request) in std::mem::take(&mut self.world.asked) {
            if let Request::Append { path, data, .. } = &request {
                self.appends.sent(change, &path.to_string(), data);
            }
            match request {
                Request::Change(asked) => drop(self.asked.insert(change, asked)),
                Request::Entry { inode, path, change: asked, .. } => {
                    if let EntryChange::Write { at: WriteAt::End, data } = &asked {
                        self.appends.sent(change, &path.to_string(), data);
                    }
                    let asked = Change::Entry { inode, place: Some(path), change: asked };
                    self.asked.insert(change, asked);
                }
                Request::Append { .. } | Request::Expire { .. } => {}
            }
        }
        let changed = seen.iter().any(|one| matches!(one, Seen::Applied { .. } | Seen::TreeReplaced { .. }));
        for one in seen {
            match one {
                Seen::Applied { change, members } => {
                    if !self.world.late_quorum && !self.world.corosync.is_quorate(id) {
                        return Err(format!("node {id} has no quorum and applied {change:?}"));
                    }
                    let process = self.nodes[&id].process.as_ref().expect("runs");
                    self.history.applied(change, &process.contents, members);
                    self.look_applied(id, change);
                }
                Seen::TreeReplaced { before, after } => {
                    self.summary.replaced += 1;
                    self.history.replaced(&before, &after)?;
                    self.nodes[&id].process.as_ref().expect("runs").db.verify()?;
                }
                Seen::Answered(answer) => self.look_answer(id, answer)?,
                Seen::Log(group, level, text) => self.look_log(id, group, level, text)?,
            }
        }
        match &self.nodes[&id].process {
            Some(process) if changed => check_guests(process),
            _ => Ok(()),
        }
    }

    /// A change was applied, perhaps for the first time anywhere.
    fn look_applied(&mut self, id: NodeId, change: ChangeId) {
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
            let known = (self.nodes[&id].contents(), &self.history);
            if path.lock_name().is_some() {
                self.locks.given(path.clone(), "", change, known);
            }
            if let Some(guest) = path.guest_config() {
                self.guests.given(guest.vmid, guest.node, change, known);
            }
        }
    }

    fn look_answer(&mut self, id: NodeId, answer: Answer) -> Result<(), Complaint> {
        let Some((_, asked)) = self.open.remove(&answer.ticket) else {
            return Err(format!("{:?} was answered twice or never asked", answer.ticket));
        };
        match &answer.result {
            Err(_) => self.summary.abandoned += 1,
            Ok(Err(_)) => self.summary.refused += 1,
            Ok(Ok(_)) => self.summary.acknowledged += 1,
        }
        self.look_bound(&asked, &answer)?;
        let Some(change) = answer.change else { return Ok(()) };
        self.history.acknowledged(change);
        let is_gone = matches!(asked, Change::Delete { .. } | Change::Unlock { .. });
        if self.applied.contains(&change) && !is_gone && !self.nodes[&id].contents().contains(&change) {
            return Err(format!("{change:?} was answered as made, but is not in the tree: {asked:?}"));
        }
        let Some(path) = given(&asked) else { return Ok(()) };
        let known = (self.nodes[&id].contents(), &self.history);
        if path.lock_name().is_some() {
            self.locks.acknowledged(path, "", change, known)?;
        }
        match path.guest_config() {
            Some(guest) => self.guests.acknowledged(&guest.vmid, guest.node, change, known),
            None => Ok(()),
        }
    }

    /// A change of an inode changes no other one, if all members understand such changes.
    fn look_bound(&self, asked: &Change, answer: &Answer) -> Result<(), Complaint> {
        let excused = self.world.first_is_older || self.faults.hostile;
        match (asked, &answer.result) {
            (Change::Entry { inode, .. }, Ok(Ok(applied))) if applied.inode != *inode && !excused => {
                Err(format!("a change that is bound to inode {inode} changed {}", applied.inode))
            }
            _ => Ok(()),
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
        if self.faults.hostile {
            return Ok(());
        }
        if level == Level::Critical && !expected.iter().any(|start| text.starts_with(start)) {
            return Err(format!("node {id} should not have to say: {text}"));
        }
        Ok(())
    }

    pub fn check_healed(&mut self) -> Result<(), Complaint> {
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
        if self.faults.hostile {
            return Ok(());
        }
        self.history.healed(&first.contents)?;
        self.appends.check(&first.contents, &first.db)?;
        if self.world.with_status { check_status(&processes) } else { Ok(()) }
    }
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
