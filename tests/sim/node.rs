//! One node: the real state machines, applications and stores, and around them what a daemon does
//! with their effects: send, commit, answer, leave and join again.

use crate::corosync::{Corosync, Group, Item, NodeId};
use crate::rng::Rng;
use pmxcfs::dcdb::wire::{self as dcdb_wire, Request};
use pmxcfs::dcdb::{Dcdb, DcdbEffect, Outcome};
use pmxcfs::dfsm::wire::{Epoch, Extension, Message, SyncKind};
use pmxcfs::dfsm::{Abandoned, App, Dfsm, Effect, Event, Frame, Level, MemberId, Mode, Now, Purpose, Ticket};
use pmxcfs::memdb::{Change, Inode, MemDb, Row};
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
    /// A node that left does not join again.
    StaysAway,
    /// Some answers are lost.
    LosesAnswers,
    /// The status of a node is not told to who joins.
    KeepsStatus,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub ticket: Ticket,
    pub result: Result<Outcome, Abandoned>,
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
    Replaced {
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
    /// Answers that wait for the disk.
    uncommitted: Vec<Answer>,
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

/// What nodes share: the network, and what is known of databases by their index.
pub struct World {
    pub corosync: Corosync,
    pub rng: Rng,
    pub time: Duration,
    pub with_status: bool,
    pub nodes: u32,
    /// Which changes the database of a member consisted of when it told its state in a round.
    known: Vec<(MemberId, Epoch, Contents)>,
    /// What was sent since somebody looked.
    pub asked: Vec<(ChangeId, Request)>,
    /// Nodes may learn of quorum later than of messages.
    pub late_quorum: bool,
    /// Messages are damaged: they are kept for that.
    pub hostile: bool,
    /// The first node does not know of updates with several entries, so nobody sends them while it is a member.
    pub first_is_older: bool,
    /// What was sent last, when messages are damaged.
    pub recent: Vec<(Group, Vec<u8>)>,
    /// One in so many messages cannot be sent; 0 for none.
    pub send_failures: usize,
    next_pid: u32,
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
            recent: Vec::new(),
            send_failures: 0,
            next_pid: 1000,
        }
    }

    fn send(&mut self, group: Group, from: MemberId, bytes: Vec<u8>) {
        if self.hostile {
            if self.recent.len() > 30 {
                self.recent.remove(0);
            }
            self.recent.push((group, bytes.clone()));
        }
        self.corosync.send(group, from, bytes);
    }
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
            self.disk.contents = self.old_disk.contents.clone();
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
        let durable = matches!(
            change,
            Change::Mkdir { .. } | Change::Rename { .. } | Change::Delete { .. } | Change::Unlock { .. }
        );
        if durable {
            self.running().durable.insert(ticket);
        }
        let request = Request::Change(change);
        self.dcdb_event(Event::Submit { request, ticket: Some(ticket) }, world)
    }

    /// As [`Node::submit`], for what has no answer.
    pub fn submit_request(&mut self, request: Request, world: &mut World) -> Vec<Seen> {
        self.dcdb_event(Event::Submit { request, ticket: None }, world)
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
        process.uncommitted.drain(..).map(Seen::Answered).collect()
    }

    /// Time went by.
    pub fn tick(&mut self, world: &mut World) -> Vec<Seen> {
        let mut seen = self.take_quorum(world);
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

    pub fn kv_event(&mut self, event: Event<'_, StatusRequest>, world: &mut World) -> Vec<Seen> {
        let now = self.now(world);
        let process = self.process.as_mut().expect("runs");
        let effects = process.kv.handle(&mut process.status, event, now);
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

    fn dcdb_event(&mut self, event: Event<'_, Request>, world: &mut World) -> Vec<Seen> {
        let now = self.now(world);
        let process = self.process.as_mut().expect("runs");
        let effects = process.dcdb.handle(&mut process.db, event, now);
        let mut seen = Vec::new();
        let mut applied = None;
        let mut failed = Vec::new();
        let mut leaving = false;
        for effect in effects {
            match effect {
                Effect::Send(frame) => {
                    let fails = world.send_failures != 0 && world.rng.one_in(world.send_failures);
                    if leaving {
                        continue;
                    }
                    if fails {
                        leaving =
                            matches!(frame.purpose, Purpose::Sync(kind) if kind != SyncKind::VerifyRequest);
                        failed.push(frame.purpose);
                    } else {
                        self.note_sent(&frame, world);
                        world.send(Group::Dcdb, self.running().id, frame.to_vec());
                    }
                }
                Effect::Mode(mode) => {
                    self.mode_changed(Group::Dcdb, mode, world);
                    if mode == Mode::StartSync {
                        seen.extend(self.commit());
                    }
                }
                Effect::Left => self.left(Group::Dcdb, world),
                Effect::Log(level, text) => seen.push(Seen::Log(Group::Dcdb, level, text)),
                Effect::Answer { ticket, result } => {
                    // What changes nothing is nobody's change: the one before may be of who does not wait any more.
                    let is_change = matches!(&result, Ok(Ok(applied)) if !applied.touched.is_empty());
                    let change = applied.take().filter(|_| is_change);
                    seen.extend(self.answer(Answer { ticket, result, change }, world));
                }
                Effect::App(effect) => seen.extend(self.dcdb_effect(effect, &mut applied, world)),
            }
        }
        if seen.iter().any(|one| matches!(one, Seen::Replaced { .. })) {
            // The contract: it is stored before anything else is handled.
            seen.extend(self.commit());
        }
        for purpose in failed {
            seen.extend(self.dcdb_event(Event::SendFailed(purpose), world));
        }
        seen
    }

    /// Remembers what a message asks for, and what a database consists of that is told to others.
    fn note_sent(&mut self, frame: &Frame, world: &mut World) {
        let bytes = frame.to_vec();
        let id = self.running().id;
        match Message::decode(&bytes, Dcdb::PROTOCOL_VERSION).expect("ours are well-formed") {
            Message::Normal(normal) => {
                let base = normal.base;
                // Damaged ones that were queued are sent again as they are.
                if let Ok(request) = Request::decode(base.subtype, base.extension, normal.payload) {
                    world.asked.push(((id, normal.count), request));
                }
            }
            Message::Sync(sync) if sync.base.kind == SyncKind::State as u16 => {
                let contents = Rc::clone(&self.running().contents);
                world.known.push((id, sync.epoch, contents));
            }
            Message::Sync(_) => {}
        }
    }

    fn dcdb_effect(
        &mut self,
        effect: DcdbEffect,
        applied: &mut Option<ChangeId>,
        world: &mut World,
    ) -> Option<Seen> {
        let process = self.process.as_mut().expect("runs");
        match effect {
            DcdbEffect::Changed { by, count, .. } => {
                let id = (by, count);
                Rc::make_mut(&mut process.contents).insert(id);
                *applied = (by == process.id).then_some(id);
                // Who is not synced yet keeps it for later, and that may never be.
                let synced = process.dcdb.members().iter().filter(|member| member.synced);
                let members = synced.filter(|member| process.told.contains(&member.id)).count();
                Some(Seen::Applied { change: id, members })
            }
            DcdbEffect::Replaced { leader, .. } => {
                let told = |(id, epoch, _): &&(MemberId, Epoch, Contents)| {
                    *id == leader && Some(*epoch) == process.epoch
                };
                // Only damaged messages can make a leader of who told nothing.
                let after = world.known.iter().find(told).map(|(_, _, contents)| Rc::clone(contents));
                let after = after.unwrap_or_default();
                let before = std::mem::replace(&mut process.contents, Rc::clone(&after));
                for answer in &mut process.uncommitted {
                    answer.result = Err(Abandoned::Left);
                    answer.change = None;
                }
                Some(Seen::Replaced { before, after })
            }
            DcdbEffect::ExportConfig { .. } => None,
        }
    }

    /// Passes an answer on, or keeps it until the change is on disk.
    fn answer(&mut self, mut answer: Answer, world: &mut World) -> Option<Seen> {
        if self.bug == Some(Bug::LosesAnswers) && world.rng.one_in(50) {
            return None;
        }
        if let Ok(Err(refused)) = &answer.result {
            let fine = match refused {
                pmxcfs::dcdb::Refused::Change(pmxcfs::memdb::ChangeError::GuestExists { .. }) => {
                    self.bug == Some(Bug::GuestExistsIsFine)
                }
                pmxcfs::dcdb::Refused::Change(pmxcfs::memdb::ChangeError::Exists { path }) => {
                    self.bug == Some(Bug::LockHeldIsFine) && path.lock_name().is_some()
                }
                _ => false,
            };
            if fine {
                answer.change = Some((self.running().id, u64::MAX - answer.ticket.0));
                answer.result = Ok(Ok(pmxcfs::memdb::Applied { inode: 0, offset: 0, touched: Vec::new() }));
            }
        }
        let process = self.running();
        let durable = process.durable.remove(&answer.ticket);
        if durable && matches!(answer.result, Ok(Ok(_))) {
            process.uncommitted.push(answer);
            return None;
        }
        Some(Seen::Answered(answer))
    }
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
