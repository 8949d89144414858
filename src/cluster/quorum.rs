//! A connection to corosync's quorum service: whether this node may change anything.

use rust_corosync::quorum::{self, Handle, Model1Data, Model1Flags, ModelData, RingId};
use rust_corosync::{CsError, DispatchFlags, NodeId, TrackFlags};
use std::cell::Cell;
use std::os::fd::RawFd;

thread_local! {
    /// What the last callback of the dispatch that runs in this thread said.
    static QUORATE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// The connection. Dropping it closes it.
pub(super) struct Connection {
    handle: Handle,
    fd: RawFd,
}

impl Connection {
    /// Connects and asks to be told of every change.
    pub(super) fn open() -> Result<Self, CsError> {
        let model = ModelData::ModelV1(Model1Data {
            flags: Model1Flags::None,
            quorum_notification_fn: Some(on_quorum),
            nodelist_notification_fn: None,
        });
        let (handle, _) = quorum::initialize(&model, 0)?;
        let fd = quorum::fd_get(&handle)?;
        quorum::trackstart(&handle, TrackFlags::Changes)?;
        Ok(Self { handle, fd })
    }

    /// Whether there is quorum, as of now.
    pub(super) fn ask(&self) -> Result<bool, CsError> {
        quorum::getquorate(&self.handle)
    }

    /// What was told since the last time, without waiting.
    pub(super) fn dispatch(&self) -> Result<Option<bool>, CsError> {
        match quorum::dispatch(&self.handle, DispatchFlags::OneNonblocking) {
            Ok(()) | Err(CsError::CsErrTryAgain) => Ok(QUORATE.take()),
            Err(error) => Err(error),
        }
    }

    /// To be polled for reading.
    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }
}

fn on_quorum(_: &Handle, quorate: bool, _: RingId, _members: Vec<NodeId>) {
    QUORATE.set(Some(quorate));
}
