//! One node: the real state machines, applications and stores, and around them what a daemon does
//! with their effects: send, commit, answer, leave and join again.

mod database;

use crate::corosync::{Group, Item, NodeId};
use crate::world::World;
use pmxcfs::dcdb::wire::{self as dcdb_wire, Request};
use pmxcfs::dcdb::{Dcdb, Outcome};
use pmxcfs::dfsm::wire::{Epoch, Extension, Message};
use pmxcfs::dfsm::{App, Dfsm, Effect, Event, Level, MemberId, Mode, Now, Submission, Ticket};
use pmxcfs::engine::{EngineError, PendingTable, requires_commit};
use pmxcfs::memdb::{Change, Fingerprint, Inode, MemDb, Row};
use pmxcfs::status::{ClusterInfo, ClusterNode, Status};
use pmxcfs::status_group::{StatusGroup, wire::Request as StatusRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// A change that was delivered: its sender's message.
pub type ChangeId = (MemberId, u64);

/// The changes that a database consists of.
pub type Contents = Rc<BTreeSet<ChangeId>>;

/// Errors on purpose, to see that checkers find them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// One node stores another time than that of the message.
    OwnClock,
    /// A node that starts takes an old copy of its database for the newest.
    OldCopy,
    /// One node takes itself for quorate always.
    AlwaysQuorate,
    /// A guest that exists is reported as made.
    GuestExistsIsFine,
    /// A lock that is held is reported as taken.
    LockHeldIsFine,
    /// Appends are plain writes.
    PlainAppend,
    /// Changes of an inode go to any entry at its path.
    IgnoresInodes,
    /// A node that left does not join again.
    StaysAway,
    /// Some answers are lost.
    LosesAnswers,
    /// Who waits for the disk is told of success when the leader's tree is stored.
    AnswersForOthers,
    /// The status of a node is not told to who joins.
    KeepsStatus,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub ticket: Ticket,
    pub result: Result<Outcome, EngineError>,
    /// The message it was, once it was applied.
    pub change: Option<ChangeId>,
}

/// What a step of a node showed to the outside.
#[derive(Debug)]
pub enum Seen {
    /// A change was applied; as by so many members of the group, who have what this one has.
    Applied {
        change: ChangeId,
        members: usize,
    },
    /// The tree was replaced by a leader's.
    TreeReplaced {
        before: Contents,
        after: Contents,
    },
    Answered(Answer),
    Log(Group, Level, String),
}

/// What is on disk.
#[derive(Debug, Default, Clone)]
pub struct Disk {
    rows: BTreeMap<Inode, Row>,
    pub contents: Contents,
}

/// The processes of a node while it runs.
#[derive(Debug)]
pub struct Process {
    pub id: MemberId,
    pub db: MemDb,
    pub status: Status,
    pub dcdb: Dfsm<Dcdb>,
    pub kv: Dfsm<StatusGroup>,
    pub contents: Contents,
    /// When the group is joined again.
    rejoin: BTreeMap<Group, Duration>,
    /// Pending changes, each with the ticket of its client.
    pending: PendingTable<Ticket>,
    /// Answers that wait for the disk, each with what it is about.
    uncommitted: Vec<(Answer, Fingerprint)>,
    /// Tickets of changes that are answered when they are on disk.
    durable: BTreeSet<Ticket>,
    last_order: u64,
    /// The round of the message that is handled.
    epoch: Option<Epoch>,
    /// Which members got what is handled.
    told: Rc<[MemberId]>,
}

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    pub id: NodeId,
    pub disk: Disk,
    /// An old copy, for one of the bugs.
    old_disk: Disk,
    pub process: Option<Process>,
    /// Seconds that its clock is ahead.
    skew: u32,
    bug: Option<Bug>,
}

impl Node {
    pub fn new(id: NodeId, skew: u32, bug: Option<Bug>) -> Self {
        let (disk, old_disk) = (Disk::default(), Disk::default());
        Self { id, disk, old_disk, process: None, skew, bug }
    }

    /// A database that is there before anything begins.
    pub fn install(&mut self, db: &MemDb) {
        self.disk.rows = db.snapshot_rows().map(|row| (row.inode, row)).collect();
        let nobody = MemberId { node: 0, pid: 0 };
        self.disk.contents = Rc::new(BTreeSet::from([(nobody, 1)]));
        self.old_disk = self.disk.clone();
    }

    fn now(&self, world: &World) -> Now {
        let unix = 1_800_000_000 + u32::try_from(world.time.as_secs()).expect("short runs") + self.skew;
        Now { unix, uptime: world.time }
    }

    /// The daemon starts: it reads the disk, and joins.
    pub fn start(&mut self, world: &mut World) -> Vec<Seen> {
        world.next_pid += 1;
        let id = MemberId { node: self.id, pid: world.next_pid };
        let mut rows = self.disk.rows.clone();
        if self.bug == Some(Bug::OldCopy) && self.id == 1 {
            self.disk.contents = Rc::clone(&self.old_disk.contents);
            rows = self.old_disk.rows.clone();
            rows.entry(0).and_modify(|row| row.version += 1000);
        }
        let db = MemDb::load(rows.into_values(), world.time).expect("what was stored loads");
        let mut status = Status::new(&name(self.id), self.now(world).unix, id.pid);
        let node = |id| ClusterNode { id, name: name(id), votes: 1 };
        let nodes = (1..=world.nodes).map(node).collect();
        status.set_cluster(ClusterInfo { name: "sim".into(), config_version: 1, nodes });
        let understood = match self.bug {
            Some(Bug::PlainAppend) => Extension::default(),
            Some(Bug::IgnoresInodes) => Extension(dcdb_wire::APPEND.0 | dcdb_wire::PACKED.0),
            _ if self.id == 1 && world.first_is_older => dcdb_wire::APPEND,
            _ => dcdb_wire::UNDERSTOOD,
        };
        let mut app = Dcdb::understanding(understood);
        app.set_quorate(world.corosync.process_started(self.id));
        self.process = Some(Process {
            id,
            db,
            status,
            dcdb: Dfsm::new(app),
            kv: Dfsm::new(StatusGroup::new(&format!("192.0.2.{}", self.id))),
            contents: Rc::clone(&self.disk.contents),
            rejoin: BTreeMap::new(),
            pending: PendingTable::default(),
            uncommitted: Vec::new(),
            durable: BTreeSet::new(),
            last_order: 0,
            epoch: None,
            told: Rc::default(),
        });
        let mut seen = self.join(Group::Dcdb, world);
        if world.with_status {
            seen.extend(self.join(Group::Status, world));
        }
        seen
    }

    fn join(&mut self, group: Group, world: &mut World) -> Vec<Seen> {
        let id = self.running().id;
        let seen = match group {
            Group::Dcdb => self.dcdb_event(Event::Join(id), world),
            Group::Status => self.kv_event(Event::Join(id), world),
        };
        world.corosync.join(group, id);
        seen
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("runs")
    }

    /// The daemon, or all of the node, is gone. What is on disk stays.
    pub fn stop(&mut self) -> Option<MemberId> {
        self.process.take().map(|process| process.id)
    }

    /// Which changes it has: in memory, or on disk while it does not run.
    pub fn contents(&self) -> &Contents {
        self.process.as_ref().map_or(&self.disk.contents, |process| &process.contents)
    }

    /// The place in the order of messages up to which it is, when it is synced and got any message
    /// since the last membership change.
    pub fn synced_at(&mut self) -> Option<(u64, &mut Process)> {
        let process = self.process.as_mut()?;
        (process.dcdb.mode() == Mode::Synced && process.last_order != 0)
            .then_some((process.last_order, process))
    }

    /// Takes the next thing of a group, after what there is of quorum.
    pub fn receive(&mut self, group: Group, world: &mut World) -> Vec<Seen> {
        let mut seen = Vec::new();
        if world.late_quorum && !world.rng.one_in(3) {
            // It gets to that later.
        } else {
            seen.extend(self.take_quorum(world));
        }
        if let Some(item) = world.corosync.receive(self.id, group) {
            seen.extend(self.take(group, item, world));
        }
        seen
    }

    fn take_quorum(&mut self, world: &mut World) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(quorate) = world.corosync.next_quorum(self.id) {
            if quorate {
                // A gain counts after all that could be taken when it was learnt of.
                while let Some(item) = world.corosync.receive(self.id, Group::Dcdb) {
                    seen.extend(self.take(Group::Dcdb, item, world));
                }
            }
            let quorate = quorate || (self.bug == Some(Bug::AlwaysQuorate) && self.id == 2);
            self.running().dcdb.app_mut().set_quorate(quorate);
        }
        seen
    }

    /// Corosync is gone: the daemon is in no group, and has no quorum.
    pub fn connection_lost(&mut self, world: &mut World) -> Vec<Seen> {
        self.running().dcdb.app_mut().set_quorate(false);
        let mut seen = self.dcdb_event(Event::Confchg { members: &[], joined: false }, world);
        self.left(Group::Dcdb, world);
        if world.with_status {
            seen.extend(self.kv_event(Event::Confchg { members: &[], joined: false }, world));
            self.left(Group::Status, world);
        }
        seen
    }

    fn take(&mut self, group: Group, item: Item, world: &mut World) -> Vec<Seen> {
        if group == Group::Dcdb {
            self.running().pending.on_group_active(world.time);
        }
        match item {
            Item::Confchg { members, joined } => match group {
                Group::Dcdb => {
                    self.running().last_order = 0;
                    self.running().told = members.as_slice().into();
                    self.dcdb_event(Event::Confchg { members: &members, joined }, world)
                }
                Group::Status => self.kv_event(Event::Confchg { members: &members, joined }, world),
            },
            Item::Message { order, from, bytes, told } => {
                let mut bytes = bytes.to_vec();
                if self.bug == Some(Bug::OwnClock) && self.id == 2 && bytes[0] == 0 {
                    bytes[8] ^= 1;
                }
                let event = |bytes| Event::Deliver { from, bytes };
                match group {
                    Group::Dcdb => {
                        self.running().last_order = order;
                        self.running().told = told;
                        self.running().epoch = match Message::decode(&bytes, Dcdb::PROTOCOL_VERSION) {
                            Ok(Message::Sync(sync)) => Some(sync.epoch),
                            _ => None,
                        };
                        self.dcdb_event(event(&bytes), world)
                    }
                    Group::Status => {
                        let event = Event::Deliver { from, bytes: &bytes };
                        self.kv_event(event, world)
                    }
                }
            }
        }
    }

    /// A local client wants a change; `Err` when it was refused at once.
    pub fn submit(&mut self, change: Change, ticket: Ticket, world: &mut World) -> Vec<Seen> {
        let process = self.running();
        if requires_commit(&change) {
            process.durable.insert(ticket);
        }
        let Ok((pending, expires)) = process.pending.register(ticket, world.time) else {
            return vec![timed_out(ticket)];
        };
        let submission = Submission { request: Request::Change(change), ticket: Some(pending), expires };
        self.dcdb_request(submission, world)
    }

    /// As [`Node::submit`], for what has no answer.
    pub fn submit_request(&mut self, request: Request, world: &mut World) -> Vec<Seen> {
        self.dcdb_request(Submission::unawaited(request), world)
    }

    /// Puts everything on disk, and answers who waited for that.
    pub fn commit(&mut self) -> Vec<Seen> {
        let Some(process) = &mut self.process else { return Vec::new() };
        if let Some(batch) = process.db.take_batch() {
            for inode in batch.deleted {
                self.disk.rows.remove(&inode);
            }
            self.disk.rows.extend(batch.rows.into_iter().map(|row| (row.inode, row)));
            self.disk.contents = Rc::clone(&process.contents);
        }
        let knows_better = self.bug != Some(Bug::AnswersForOthers);
        let answer = |(mut answer, fingerprint): (Answer, Fingerprint)| {
            if knows_better && !process.db.still_contains(&fingerprint) {
                answer = Answer { result: Err(EngineError::TreeReplaced), change: None, ..answer };
            }
            Seen::Answered(answer)
        };
        std::mem::take(&mut process.uncommitted).into_iter().map(answer).collect()
    }

    /// Time went by.
    pub fn tick(&mut self, world: &mut World) -> Vec<Seen> {
        let mut seen = self.take_quorum(world);
        let pending = &mut self.running().pending;
        seen.extend(pending.take_expired(world.time).0.into_iter().map(timed_out));
        seen.extend(self.dcdb_event(Event::Tick, world));
        if world.with_status {
            seen.extend(self.kv_event(Event::Tick, world));
        }
        let time = world.time;
        let due: Vec<Group> =
            self.running().rejoin.iter().filter(|(_, at)| **at <= time).map(|(group, _)| *group).collect();
        for group in due {
            self.running().rejoin.remove(&group);
            let stays_away = self.bug == Some(Bug::StaysAway) && self.id == 2;
            if !stays_away {
                seen.extend(self.join(group, world));
            }
        }
        seen
    }

    /// A local client sends data to the other nodes.
    pub fn kv_request(&mut self, request: StatusRequest, world: &mut World) -> Vec<Seen> {
        let now = self.now(world);
        let Process { kv, status, .. } = self.process.as_mut().expect("runs");
        let effects =
            kv.submit(Submission::unawaited(request), now, |app, request| app.check(status, request));
        self.kv_effects(effects, world)
    }

    pub fn kv_event(&mut self, event: Event<'_>, world: &mut World) -> Vec<Seen> {
        let now = self.now(world);
        let process = self.process.as_mut().expect("runs");
        let effects = process.kv.handle(&mut process.status, event, now);
        self.kv_effects(effects, world)
    }

    fn kv_effects(&mut self, effects: Vec<Effect<StatusGroup>>, world: &mut World) -> Vec<Seen> {
        let mut seen = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send(frame) => {
                    let keeps = self.bug == Some(Bug::KeepsStatus) && self.id == 1 && frame.to_vec()[0] == 0;
                    if !keeps {
                        world.send(Group::Status, self.running().id, frame.to_vec());
                    }
                }
                Effect::Mode(mode) => self.mode_changed(Group::Status, mode, world),
                Effect::Left => self.left(Group::Status, world),
                Effect::Log(level, text) => seen.push(Seen::Log(Group::Status, level, text)),
                Effect::Answer { .. } | Effect::App(_) => {}
            }
        }
        seen
    }

    fn mode_changed(&mut self, group: Group, mode: Mode, world: &mut World) {
        if mode.is_error() {
            let id = self.running().id;
            world.corosync.leave(group, id);
        }
    }

    fn left(&mut self, group: Group, world: &mut World) {
        let wait = Duration::from_millis(5001 + world.rng.below(1500) as u64);
        self.running().rejoin.insert(group, world.time + wait);
    }
}

/// A change was not delivered back in time.
fn timed_out(ticket: Ticket) -> Seen {
    Seen::Answered(Answer { ticket, result: Err(EngineError::TimedOut), change: None })
}

/// The name of a node.
pub fn name(node: NodeId) -> String {
    format!("n{node}")
}

/// What a group's log lines begin with.
pub fn domain(group: Group) -> &'static str {
    match group {
        Group::Dcdb => Dcdb::DOMAIN,
        Group::Status => StatusGroup::DOMAIN,
    }
}
