//! The database group: one tree at all members. It chooses who leads after a membership change,
//! brings the others up to date, applies what is delivered, and removes locks that expired. It runs
//! on [`crate::dfsm`] and works on a [`MemDb`]; it never does I/O and stores nothing.
//!
//! # Writers and times
//!
//! What an entry gets as writer and time comes with the message, so that all members, stock or not,
//! store the same bytes. Limits of size are for local callers alone: what the group delivers is
//! applied.
//!
//! # Appends
//!
//! A write on the wire has an offset. Who appends takes the file's size as it knows it; when another
//! node's append is ordered in between, a plain write would overwrite it, at every node. So an append
//! is marked, in a field that stock sends as 0 and ignores ([`wire::APPEND`]), and members tell in
//! the same field of their states that they understand the mark. Where all members do, a marked
//! write lands at the end the file has when it is applied. All members of a configuration have the
//! same states, so they decide alike.
//!
//! With a stock node among the members the mark means nothing: everybody writes at the offset, as
//! the stock node does, and an append that lost the race overwrites the other, as it would between
//! stock nodes. There is no way around that: no message of stock's makes a write depend on what is
//! there, and a correction sent afterwards could itself be too late.
//!
//! # Changes of open files
//!
//! A message of stock names a path. A write through an open descriptor would change another file that took the
//! path while the message travelled. So a change of one entry has the inode of the entry, too: in the second
//! path of the message, which stock sends empty for these kinds and ignores, with a mark ([`wire::BOUND`]).
//! Where all members understand the mark, such a change applies to that inode at that path and is refused if
//! another entry, or none, is there. The sender then tries the new place of a moved file, and otherwise answers
//! by the rules of removed open files (`fs/removed.rs`).
//!
//! With a stock node among the members the mark is not sent, and the change applies to any file at the path, as
//! the stock node does it: no message of stock's names an inode. A change that was sent before the stock node
//! joined is unbound for all members if it is delivered afterwards.
//!
//! # Updates
//!
//! The leader sends each entry that some member lacks in a message of its own, and most of the time that
//! takes is that of corosync with forty thousand small messages. So where all members tell in their states
//! that they understand it ([`wire::PACKED`]), an update holds as many entries as corosync sends at once.
//! A stock node never sees one that it looks into: with it among the members there are none, and when it
//! joins those under way are of a round that is over.

mod leader;
pub mod wire;

use crate::dfsm::{
    App, Delivered, Delivery, Leave, Member, MemberId, Members, Outgoing, Port, Then, Ticket, wire::Extension,
};
use crate::memdb::{
    Applied, Change, ChangeError, EntryChange, Index, Invalidation, Limits, MemDb, Row, Stamp, TreePath,
    WriteAt,
};
use wire::{PayloadError, Request};

/// The file that is copied out to the host whenever it changes.
pub const COROSYNC_CONF: &[u8] = b"corosync.conf";

/// The database group as an application of the state machine.
#[derive(Debug)]
pub struct Dcdb {
    /// Whether this node has quorum. Nothing is sent or applied without.
    quorate: bool,
    /// What this node tells others that it understands beyond stock.
    extension: Extension,
    round: Option<Round>,
}

/// What a node that is not synced collects.
#[derive(Debug)]
struct Round {
    leader: MemberId,
    index: Index,
    updates: Vec<Row>,
}

/// What became of a request.
pub type Outcome = Result<Applied, Refused>;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("this node has no quorum")]
    NoQuorum,
    #[error("the message lacks something that its kind needs")]
    Incomplete,
    #[error("the message was malformed; this node leaves the group and syncs again")]
    Malformed,
}

/// What has to happen outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DcdbEffect {
    /// The tree changed, by this message of this member. If it has a ticket, the result for the ticket
    /// follows.
    Changed { by: MemberId, count: u64, ticket: Option<Ticket>, applied: Applied },
    /// A resync installed the tree of `leader`. It must be stored before the next event of the group. Requests that
    /// still wait for a commit must not succeed: the leader's tree may lack their change.
    TreeReplaced { leader: MemberId, invalidations: Vec<Invalidation> },
    /// `corosync.conf` is to be copied to the host; when this node itself changed it, corosync is to
    /// be told on all nodes.
    ExportConfig { changed_here: bool },
}

impl Dcdb {
    pub fn new() -> Self {
        Self::understanding(wire::UNDERSTOOD)
    }

    /// As a node that understands no more than this beyond stock, or stock itself.
    pub fn understanding(extension: Extension) -> Self {
        Self { quorate: false, extension, round: None }
    }

    /// Whether this node has quorum, from now on.
    ///
    /// Quorum and deliveries come from corosync on different ways. A loss is to be told before what
    /// is still to be delivered, a gain after all that could be delivered when it was learnt of: else
    /// a message that only the lost part of the cluster got may be applied here.
    pub fn set_quorate(&mut self, quorate: bool) {
        self.quorate = quorate;
    }

    pub fn is_quorate(&self) -> bool {
        self.quorate
    }

    fn apply(
        &self,
        store: &mut MemDb,
        message: &Delivery<'_>,
        change: Change,
        port: &mut Port<'_, Self>,
    ) -> Outcome {
        let stamp = Stamp { writer: message.from.node, time: message.time };
        let exported = exports(store, &change);
        let applied = store.apply(change, stamp, Limits::Agreed, port.now().uptime)?;
        if applied.invalidations.is_empty() {
            return Ok(applied);
        }
        let Delivery { from: by, count, ticket, .. } = *message;
        port.effect(DcdbEffect::Changed { by, count, ticket, applied: applied.clone() });
        if exported {
            port.effect(DcdbEffect::ExportConfig { changed_here: message.local });
        }
        Ok(applied)
    }

    /// Asked to remove a lock: if it has expired, the lowest node tells everybody to.
    fn expire(&self, store: &mut MemDb, path: TreePath, checksum: [u8; 32], port: &mut Port<'_, Self>) {
        if port.is_lowest() && store.lock_expired(&path, &checksum, port.now().uptime) {
            let common = port.common();
            port.send(Request::Change(Change::Unlock { path, checksum }).encode(common));
        }
    }
}

impl Default for Dcdb {
    fn default() -> Self {
        Self::new()
    }
}

/// What must not be sent, because a stock node would damage its tree with it: the answer to it. It
/// takes the target of a rename out of its tree before it finds that the source is not empty, or is
/// the target itself.
fn answer_here(store: &MemDb, from: &TreePath, to: &TreePath) -> Option<Outcome> {
    let source = store.resolve(from.as_bytes())?;
    let target = store.resolve(to.as_bytes())?;
    if source.inode == target.inode {
        return Some(Ok(Applied::nothing(source.inode)));
    }
    let is_filled = source.directory().is_some_and(|directory| !directory.is_empty());
    is_filled.then(|| Err(ChangeError::NotEmpty { path: from.clone() }.into()))
}

/// Place of an append: the true end of the file if all members understand appends.
fn end_of_append(assumed: u64, port: &Port<'_, Dcdb>) -> WriteAt {
    if port.common().has(wire::APPEND) { WriteAt::End } else { WriteAt::Offset(assumed) }
}

/// Whether a change, once applied, makes it necessary to copy `corosync.conf` out.
fn exports(store: &MemDb, change: &Change) -> bool {
    match change {
        Change::Entry { change: EntryChange::SetMtime { .. }, .. } => false,
        Change::Entry { inode, .. } => {
            store.resolve(COROSYNC_CONF).is_some_and(|entry| entry.inode == *inode)
        }
        Change::Write { path, .. }
        | Change::Truncate { path, .. }
        | Change::Create { path }
        | Change::Rename { to: path, .. } => path.as_bytes() == COROSYNC_CONF,
        Change::Mkdir { .. } | Change::Delete { .. } | Change::SetMtime { .. } | Change::Unlock { .. } => {
            false
        }
    }
}

impl App for Dcdb {
    const GROUP: &'static str = "pve_dcdb_v1";
    const DOMAIN: &'static str = "dcdb";
    const PROTOCOL_VERSION: u32 = 1;
    const VERIFIES: bool = true;

    type Store = MemDb;
    type Request = Request;
    type Outcome = Outcome;
    type Effect = DcdbEffect;

    fn extension(&self) -> Extension {
        self.extension
    }

    fn check(&self, store: &MemDb, request: Request) -> Result<Request, Outcome> {
        if !self.quorate {
            return Err(Err(Refused::NoQuorum));
        }
        if let Request::Change(Change::Rename { from, to }) = &request {
            if let Some(answer) = answer_here(store, from, to) {
                return Err(answer);
            }
        }
        Ok(match request {
            Request::Change(Change::Write { path, at: WriteAt::End, data }) => {
                let assumed = store.resolve(path.as_bytes()).map_or(0, |entry| entry.size());
                Request::Append { path, assumed, data }
            }
            Request::Change(Change::Entry { inode, change, .. }) => {
                let place = store.path_of(inode).zip(store.get(inode));
                let Some((path, entry)) = place.filter(|(path, _)| !path.is_root()) else {
                    return Err(Err(ChangeError::Replaced { inode }.into()));
                };
                let appends = matches!(change, EntryChange::Write { at: WriteAt::End, .. });
                let assumed = if appends { entry.size() } else { 0 };
                Request::Entry { inode, path, change, assumed }
            }
            request => request,
        })
    }

    fn encode(request: Request, common: Extension) -> Outgoing {
        request.encode(common)
    }

    fn state(&mut self, store: &mut MemDb) -> Vec<u8> {
        store.index().encode()
    }

    fn process_states(
        &mut self,
        store: &mut MemDb,
        members: &mut [Member],
        port: &mut Port<'_, Self>,
    ) -> Result<(), Leave> {
        let (leader, index) = leader::process_states(store, members, port)?;
        self.round = Some(Round { leader, index, updates: Vec::new() });
        Ok(())
    }

    fn process_update(&mut self, payload: &[u8], port: &mut Port<'_, Self>) -> Result<(), Leave> {
        let updates = &mut self.round.as_mut().ok_or(Leave)?.updates;
        let read = if port.common().has(wire::PACKED) {
            wire::decode_updates(payload, |row| updates.push(row))
        } else {
            wire::decode_update(payload).map(|row| updates.push(row))
        };
        read.map_err(|error| {
            port.critical(error.to_string());
            Leave
        })
    }

    fn finish_resync(&mut self, store: &mut MemDb, port: &mut Port<'_, Self>) -> Result<(), Leave> {
        let round = self.round.take().ok_or(Leave)?;
        let count = round.updates.len();
        port.info(format!("update complete - trying to commit (got {count} inode updates)"));
        let invalidations = match store.install_leader_tree(&round.index, round.updates, port.now().uptime) {
            Ok(invalidations) => invalidations,
            Err(error) => {
                port.critical(format!("the leader's updates do not add up: {error}"));
                return Err(Leave);
            }
        };
        port.effect(DcdbEffect::TreeReplaced { leader: round.leader, invalidations });
        port.effect(DcdbEffect::ExportConfig { changed_here: false });
        Ok(())
    }

    fn forget_round(&mut self) {
        self.round = None;
    }

    fn deliver(
        &mut self,
        store: &mut MemDb,
        message: &Delivery<'_>,
        port: &mut Port<'_, Self>,
    ) -> Delivered<Outcome> {
        let request = Request::decode(message.subtype, message.extension, message.payload);
        let leave = |outcome| Delivered { outcome: Err(outcome), then: Then::Leave };
        if let Err(error @ PayloadError::UnknownSubtype(_)) = request {
            port.critical(error.to_string());
            return leave(Refused::Malformed);
        }
        if !self.quorate {
            port.critical("received write while not quorate - trigger resync");
            return leave(Refused::NoQuorum);
        }
        let outcome = match request {
            Ok(Request::Change(change)) => self.apply(store, message, change, port),
            Ok(Request::Append { path, assumed, data }) => {
                let at = end_of_append(assumed, port);
                self.apply(store, message, Change::Write { path, at, data }, port)
            }
            Ok(Request::Entry { inode, path, change, assumed }) => {
                let change = match change {
                    EntryChange::Write { at: WriteAt::End, data } => {
                        EntryChange::Write { at: end_of_append(assumed, port), data }
                    }
                    change => change,
                };
                let change = if port.common().has(wire::BOUND) {
                    Change::Entry { inode, place: Some(path), change }
                } else {
                    change.at_path(path)
                };
                self.apply(store, message, change, port)
            }
            Ok(Request::Expire { path, checksum }) => {
                self.expire(store, path, checksum, port);
                Ok(Applied::nothing(0))
            }
            Err(PayloadError::NoPath) => Err(Refused::Incomplete),
            Err(error) => {
                port.critical(error.to_string());
                return leave(Refused::Malformed);
            }
        };
        Delivered { outcome, then: Then::Continue }
    }

    fn checksum(&mut self, store: &MemDb) -> [u8; 32] {
        store.checksum()
    }

    fn membership_changed(&mut self, _store: &mut MemDb, _members: &Members) {}

    fn synced(&mut self, _store: &mut MemDb, _port: &mut Port<'_, Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dfsm::wire::{NORMAL_BYTES_MAX, NORMAL_LEN};
    use crate::dfsm::{Dfsm, Effect, Event, Now, SendError, Submission};
    use std::time::Duration;

    #[test]
    fn change_longer_than_one_message_is_refused() {
        let now = Now { unix: 1, uptime: Duration::ZERO };
        let local = MemberId { node: 1, pid: 10 };
        let mut store = MemDb::new();
        let mut app = Dcdb::new();
        app.set_quorate(true);
        let mut dfsm = Dfsm::new(app);
        dfsm.handle(&mut store, Event::Join(local), now);
        dfsm.handle(&mut store, Event::Confchg { members: &[local], joined: true }, now);
        let room = NORMAL_BYTES_MAX - NORMAL_LEN - wire::CHANGE_HEAD - "file\0".len();
        let mut write = |bytes: usize| {
            let change = Change::Write { path: "file".into(), at: WriteAt::Offset(0), data: vec![0; bytes] };
            let ticket = Some(Ticket(1));
            let submission = Submission { request: Request::Change(change), ticket, expires: Duration::MAX };
            dfsm.submit(submission, now, |app, request| app.check(&store, request))
        };
        let sent = write(room);
        let [Effect::Send(frame)] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!(frame.bytes.len(), NORMAL_BYTES_MAX);
        let refused = write(room + 1);
        let is_refused =
            matches!(refused.as_slice(), [Effect::Answer { result: Err(SendError::TooLong), .. }]);
        assert!(is_refused, "{refused:?}");
    }
}
