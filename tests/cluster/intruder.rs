//! A member of a group that is no daemon: it takes part in a round of synchronisation with the state of
//! another member, so that it counts as one that is in sync, and then says what it was told to say.

use pmxcfs::dfsm::wire::{Base, Epoch, Extension, Message, Sync, SyncKind};
use rust_corosync::cpg::{self, Guarantee, Handle, Model1Data, Model1Flags, ModelData};
use rust_corosync::{CsError, DispatchFlags, NodeId};
use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing that it waits for takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(2);

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// What the group has delivered to this thread.
#[derive(Default)]
struct Seen {
    members: usize,
    delivered: Vec<(u32, Vec<u8>)>,
}

/// A place in the course of events at which the intruder speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Instead of its state, while all states are awaited.
    Asked,
    /// When everybody is in sync.
    Synced,
}

/// Joins the group, speaks, and leaves when all it said was delivered. `words` makes the messages for
/// the present round.
pub fn intrude(group: &str, version: u32, when: When, words: impl FnOnce(Epoch) -> Vec<Vec<u8>>) {
    SEEN.take();
    let group = format!("{group}\0");
    let model = ModelData::ModelV1(Model1Data {
        flags: Model1Flags::None,
        deliver_fn: Some(on_deliver),
        confchg_fn: Some(on_confchg),
        totem_confchg_fn: None,
    });
    let handle = one_at_a_time(|| cpg::initialize(&model, 0)).expect("corosync runs");
    cpg::join(&handle, &group).expect("joined");
    let epoch = await_epoch(&handle);
    if when == When::Synced {
        take_part(&handle, version, epoch);
    }
    let own = u32::from(cpg::local_get(&handle).expect("an id"));
    for word in words(epoch) {
        send(&handle, &word);
        await_that(&handle, |seen| seen.delivered.iter().any(|(from, bytes)| *from == own && *bytes == word));
    }
    if when == When::Asked {
        // What a state is worth is looked at when all are there: who leaves earlier only begins a new round.
        await_that(&handle, |seen| states(seen, epoch).len() >= seen.members);
    }
    cpg::leave(&handle, &group).expect("left");
    await_that(&handle, |seen| seen.members == 0);
    one_at_a_time(|| drop(handle));
}

/// The library's table of handles has no lock: of two threads that make one at once, one gets the other's place
/// and hears that its handle is bad.
fn one_at_a_time<T>(act: impl FnOnce() -> T) -> T {
    static TABLE: Mutex<()> = Mutex::new(());
    let _turn = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    act()
}

/// The epoch of the round that the others have begun because of us.
fn await_epoch(handle: &Handle) -> Epoch {
    let mut epoch = None;
    await_that(handle, |seen| {
        let mut starts = seen.delivered.iter().filter_map(|(_, bytes)| sync(bytes, SyncKind::Start));
        epoch = starts.next_back().map(|start| start.epoch);
        epoch.is_some()
    });
    epoch.expect("waited for")
}

/// Tells another's state as ours, and waits for the end of the round.
fn take_part(handle: &Handle, version: u32, epoch: Epoch) {
    let mut payload = Vec::new();
    await_that(handle, |seen| {
        payload = states(seen, epoch).pop().unwrap_or_default();
        !payload.is_empty()
    });
    let state = Sync { base: base(SyncKind::State as u16, version), epoch, payload: &payload };
    send(handle, &state.encode());
    await_that(handle, |seen| states(seen, epoch).len() == seen.members);
}

/// The states told in a round so far, ours too.
fn states(seen: &Seen, epoch: Epoch) -> Vec<Vec<u8>> {
    let states = seen.delivered.iter().filter_map(|(_, bytes)| sync(bytes, SyncKind::State));
    states.filter(|state| state.epoch == epoch).map(|state| state.payload.to_vec()).collect()
}

/// A head as ours are.
pub fn base(kind: u16, protocol_version: u32) -> Base {
    Base { kind, subtype: 0, protocol_version, time: 1_700_000_000, extension: Extension::default() }
}

fn sync(bytes: &[u8], kind: SyncKind) -> Option<Sync<'_>> {
    // Either group's, of whatever version.
    let decoded = [0, 1].into_iter().filter_map(|version| Message::decode(bytes, version).ok());
    decoded.into_iter().find_map(|message| match message {
        Message::Sync(message) if message.base.kind == kind as u16 => Some(message),
        Message::Sync(_) | Message::Normal(_) => None,
    })
}

fn send(handle: &Handle, message: &[u8]) {
    await_that(handle, |_| match cpg::mcast_joined(handle, Guarantee::TypeAgreed, message) {
        Ok(()) => true,
        Err(CsError::CsErrTryAgain) => false,
        Err(error) => panic!("{error}"),
    });
}

fn await_that(handle: &Handle, mut condition: impl FnMut(&Seen) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        while cpg::dispatch(handle, DispatchFlags::OneNonblocking).is_ok() {}
        if SEEN.with_borrow(&mut condition) {
            return;
        }
        assert!(Instant::now() < deadline, "the group does not do what the intruder waits for");
        thread::sleep(PAUSE);
    }
}

fn on_deliver(_: &Handle, _group: String, node: NodeId, pid: u32, message: &[u8], _: usize) {
    // Daemons on this node are other processes.
    let from = if pid == std::process::id() { u32::from(node) } else { 0 };
    SEEN.with_borrow_mut(|seen| seen.delivered.push((from, message.to_vec())));
}

fn on_confchg(
    _: &Handle,
    _: &str,
    members: Vec<cpg::Address>,
    _left: Vec<cpg::Address>,
    _joined: Vec<cpg::Address>,
) {
    let is_member = members.iter().any(|member| member.pid == std::process::id());
    SEEN.with_borrow_mut(|seen| seen.members = if is_member { members.len() } else { 0 });
}
