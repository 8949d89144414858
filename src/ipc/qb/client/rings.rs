//! Messages over shared memory: one ring for requests, one for answers, a byte on the setup socket
//! for each request; with a server of ours, what is too long for the rings goes over that socket too. The
//! server is not trusted with our life: should it cut the files, that ends the connection, not the program.

use super::files::Files;
use super::{ClientError, Deadline, LIVENESS_INTERVAL, wait_for};
use crate::ipc::qb::mapping::page_size;
use crate::ipc::qb::own;
use crate::ipc::qb::patience::Patience;
use crate::ipc::qb::ring::{Reader, Writer};
use crate::ipc::qb::sem;
use crate::ipc::qb::wire::{self, AuthResponse, REQUEST_HEADER_LEN, RESPONSE_HEADER_LEN};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The strength of a request to hold back that libqb's clients respect by default.
const HOLD_BACK: u32 = 1;
/// The server and we.
const BOTH: u32 = 2;
/// The longest wait for the socket before the deadline is looked at again.
const SOCKET_SLICE: Duration = Duration::from_secs(1);
const CUT: ClientError = ClientError::Protocol("a file of a ring was cut");

#[derive(Debug)]
pub(super) struct Rings {
    requests: Writer,
    responses: Reader,
    patience: Patience,
    kind: Kind,
    /// A part of an answer was read, and the rest did not come in time.
    torn: bool,
}

#[derive(Debug)]
enum Kind {
    Libqb(Files),
    Own {
        /// The longest message of either end.
        longest: usize,
    },
}

impl Rings {
    /// Opens what the server made for us.
    pub(super) fn open(response: &AuthResponse) -> Result<Self, ClientError> {
        let len = wire::ring_len(response.max_message_size, page_size());
        let len = len.ok_or(ClientError::Protocol("message size"))?;
        let (files, [requests, responses, _]) = Files::open(&response.rings, len)?;
        Ok(Self::new(Writer::new(requests), Reader::new(responses), Kind::Libqb(files)))
    }

    /// Opens what a server of ours has sent.
    pub(super) fn open_own(answer: &own::Answer, memory: &OwnedFd) -> Result<Self, ClientError> {
        let memory = own::Memory::open(memory, answer).map_err(|error| match error {
            own::NoMemory::Malformed(malformed) => ClientError::from(malformed),
            own::NoMemory::Io(error) => error.into(),
        })?;
        let kind = Kind::Own { longest: answer.max_message_size as usize };
        Ok(Self::new(Writer::new(memory.requests), Reader::new(memory.answers), kind))
    }

    fn new(requests: Writer, responses: Reader, kind: Kind) -> Self {
        Self { requests, responses, patience: Patience::new(0), kind, torn: false }
    }

    /// Whether nothing that comes now can be understood.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Sends the message that the `parts` are together.
    pub(super) fn send(
        &mut self,
        setup: BorrowedFd<'_>,
        parts: &[&[u8]],
        deadline: Deadline,
    ) -> Result<(), ClientError> {
        let ring = self.requests.ring();
        if ring.references().load(Ordering::Acquire) != BOTH {
            return Err(if ring.is_cut() { CUT } else { ClientError::NotConnected });
        }
        if ring.flow_control().load(Ordering::Relaxed) == HOLD_BACK {
            return Err(ClientError::Busy);
        }
        let (chunk, rest) = self.split(parts)?;
        let written = self.requests.put(chunk);
        if self.requests.ring().is_cut() {
            return Err(CUT);
        }
        if !written? {
            return Err(ClientError::Busy);
        }
        ring_bell(setup, deadline, rest)
    }

    /// What of a message goes into the ring, and what goes over the socket: all of its body, if the ring
    /// cannot hold that.
    fn split<'a, 'b>(&self, parts: &'b [&'a [u8]]) -> Result<(&'b [&'a [u8]], &'a [u8]), ClientError> {
        let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        match (&self.kind, parts) {
            (Kind::Libqb(_), _) => Ok((parts, &[])),
            _ if self.requests.ring().holds(len) => Ok((parts, &[])),
            (_, [header, body]) if header.len() == REQUEST_HEADER_LEN => Ok((&parts[..1], body)),
            _ => Err(ClientError::TooLong),
        }
    }

    /// Waits for the next message.
    pub(super) fn receive(
        &mut self,
        setup: BorrowedFd<'_>,
        deadline: Deadline,
        message: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        self.patience.linger(self.responses.ring());
        let mut alive = true;
        while !sem::try_take(self.responses.ring().semaphore()) {
            if self.responses.ring().is_cut() {
                return Err(CUT);
            }
            if !alive {
                return Err(ClientError::NotConnected);
            }
            let slice = deadline.slice(LIVENESS_INTERVAL).ok_or(ClientError::TimedOut)?;
            if sem::take(self.responses.ring().semaphore(), slice) {
                break;
            }
            // Its last answer may have come before its end: the ring is looked at once more.
            alive = wait_for(setup, PollFlags::empty(), Duration::ZERO)?.is_empty();
        }
        // A stock server may send more than was agreed, as long as the ring holds it.
        let taken = self.responses.take_announced(message, RESPONSE_HEADER_LEN, usize::MAX);
        if self.responses.ring().is_cut() {
            return Err(CUT);
        }
        taken?;
        let Kind::Own { longest } = self.kind else { return Ok(()) };
        let rest = take_rest(setup, deadline, message, longest);
        self.torn |= rest.is_err();
        rest
    }

    /// Tells the server that we are done; does its work where it was killed.
    pub(super) fn close(&self, killed: bool) {
        match &self.kind {
            Kind::Libqb(files) => {
                files.close();
                if killed {
                    files.remove();
                }
            }
            Kind::Own { .. } => {
                self.requests.ring().close();
                self.responses.ring().close();
            }
        }
    }
}

/// Reads the data of an answer of which only the header was in the ring.
fn take_rest(
    setup: BorrowedFd<'_>,
    deadline: Deadline,
    message: &mut Vec<u8>,
    longest: usize,
) -> Result<(), ClientError> {
    let len = wire::message_len(message).unwrap_or(0);
    if message.len() != RESPONSE_HEADER_LEN || len <= RESPONSE_HEADER_LEN {
        return Ok(());
    }
    if len > longest {
        return Err(ClientError::Protocol("length of an answer"));
    }
    message.resize(len, 0);
    let mut read = RESPONSE_HEADER_LEN;
    while let Some(rest @ [_, ..]) = message.get_mut(read..) {
        match recv(setup.as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(ClientError::NotConnected),
            Ok(len) => read += len,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let slice = deadline.slice(SOCKET_SLICE).ok_or(ClientError::TimedOut)?;
                wait_for(setup, PollFlags::POLLIN, slice)?;
            }
            Err(_) => return Err(ClientError::NotConnected),
        }
    }
    Ok(())
}

/// One byte for each request: a stock server waits for exactly as many. Behind it, what of the request is
/// not in the ring.
fn ring_bell(setup: BorrowedFd<'_>, deadline: Deadline, mut rest: &[u8]) -> Result<(), ClientError> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let mut bell: &[u8] = &[0];
    while !(bell.is_empty() && rest.is_empty()) {
        let sent = if rest.is_empty() {
            send(setup.as_raw_fd(), bell, flags)
        } else {
            let parts = [IoSlice::new(bell), IoSlice::new(rest)];
            sendmsg::<()>(setup.as_raw_fd(), &parts, &[], flags, None)
        };
        match sent {
            Ok(sent) => {
                rest = rest.get(sent.saturating_sub(bell.len())..).unwrap_or_default();
                bell = bell.get(sent..).unwrap_or_default();
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let slice = deadline.slice(SOCKET_SLICE).ok_or(ClientError::TimedOut)?;
                wait_for(setup, PollFlags::POLLOUT, slice)?;
            }
            Err(_) => return Err(ClientError::NotConnected),
        }
    }
    Ok(())
}
