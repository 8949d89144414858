//! A connection to corosync's process groups, for one group. Callbacks of the library only collect
//! what is reported; it is handled after the call, in order, by the caller.

use crate::dfsm::wire::MemberId;
use rust_corosync::cpg::{self, Address, Guarantee, Handle, Model1Data, Model1Flags, ModelData};
use rust_corosync::{CsError, DispatchFlags, NodeId};
use std::cell::RefCell;
use std::os::fd::RawFd;

/// What the group reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    Deliver { from: MemberId, bytes: Vec<u8> },
    Confchg { members: Vec<MemberId>, joined: bool },
}

/// How a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// Corosync has no room or no ring at present.
    TryAgain,
}

thread_local! {
    /// What the callbacks of the dispatch that runs in this thread saw. The library hands them no
    /// context of ours, and calls them in the thread that dispatches.
    static REPORTS: RefCell<Vec<Report>> = const { RefCell::new(Vec::new()) };
}

/// One group's connection. Dropping it leaves the group and closes it.
pub(super) struct Connection {
    handle: Handle,
    fd: RawFd,
    local: MemberId,
    /// As it travels: with its NUL, as stock counts it.
    group: String,
    /// Bytes of the longest message that corosync takes as one.
    one_part_bytes_max: usize,
}

impl Connection {
    pub(super) fn open(group: &str) -> Result<Self, CsError> {
        let model = ModelData::ModelV1(Model1Data {
            flags: Model1Flags::None,
            deliver_fn: Some(on_deliver),
            confchg_fn: Some(on_confchg),
            totem_confchg_fn: None,
        });
        let handle = cpg::initialize(&model, 0)?;
        let fd = cpg::fd_get(&handle)?;
        let node = cpg::local_get(&handle)?;
        let local = MemberId { node: u32::from(node), pid: std::process::id() };
        let one_part_bytes_max = cpg::max_atomic_msgsize_get(&handle)?;
        let one_part_bytes_max = usize::try_from(one_part_bytes_max).unwrap_or(usize::MAX);
        Ok(Self { handle, fd, local, group: format!("{group}\0"), one_part_bytes_max })
    }

    /// This process as a member.
    pub(super) fn local(&self) -> MemberId {
        self.local
    }

    pub(super) fn join(&self) -> Result<(), CsError> {
        cpg::join(&self.handle, &self.group)
    }

    pub(super) fn leave(&self) -> Result<(), CsError> {
        cpg::leave(&self.handle, &self.group)
    }

    /// Whether the library sends a message of this length in one part. Members get all of it or nothing.
    pub(super) fn fits_in_one_part(&self, bytes: usize) -> bool {
        bytes <= self.one_part_bytes_max
    }

    pub(super) fn send(&self, message: &[u8]) -> Result<Sent, CsError> {
        match cpg::mcast_joined(&self.handle, Guarantee::TypeAgreed, message) {
            Ok(()) => Ok(Sent::Yes),
            Err(CsError::CsErrTryAgain) => Ok(Sent::TryAgain),
            // The membership changed between two parts. Receivers drop the first parts, so the message is
            // sent again from its start.
            Err(CsError::CsErrInterrupt) if !self.fits_in_one_part(message.len()) => Ok(Sent::TryAgain),
            Err(error) => Err(error),
        }
    }

    /// What was reported since the last time, without waiting; no more than `most` of it. What was
    /// reported before an error comes with it.
    pub(super) fn dispatch(&self, most: usize) -> (Vec<Report>, Result<(), CsError>) {
        let mut outcome = Ok(());
        for _ in 0..most {
            match cpg::dispatch(&self.handle, DispatchFlags::OneNonblocking) {
                Ok(()) => {}
                // Nothing there.
                Err(CsError::CsErrTryAgain) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        (REPORTS.with_borrow_mut(std::mem::take), outcome)
    }

    /// To be polled for reading.
    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }
}

fn member(address: &Address) -> MemberId {
    MemberId { node: u32::from(address.nodeid), pid: address.pid }
}

fn on_deliver(_: &Handle, _group: String, node: NodeId, pid: u32, message: &[u8], _len: usize) {
    let from = MemberId { node: u32::from(node), pid };
    REPORTS.with_borrow_mut(|reports| reports.push(Report::Deliver { from, bytes: message.to_vec() }));
}

fn on_confchg(_: &Handle, _: &str, members: Vec<Address>, _left: Vec<Address>, joined: Vec<Address>) {
    let members = members.iter().map(member).collect();
    let report = Report::Confchg { members, joined: !joined.is_empty() };
    REPORTS.with_borrow_mut(|reports| reports.push(report));
}
