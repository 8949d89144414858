//! Messages over shared memory: one ring for requests, one for answers, a byte on the setup socket
//! for each request. With a server of ours both are small at first, and give way to long ones when a message
//! needs that. The server is not trusted with our life: should it cut the files, that ends the connection,
//! not the program.

use super::files::Files;
use super::{ClientError, Deadline, LIVENESS_INTERVAL, wait_for};
use crate::ipc::qb::mapping::page_size;
use crate::ipc::qb::own;
use crate::ipc::qb::patience::Patience;
use crate::ipc::qb::ring::{Reader, Ring, Writer};
use crate::ipc::qb::sem;
use crate::ipc::qb::wire::{self, AuthResponse, RESPONSE_HEADER_LEN};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The strength of a request to hold back that libqb's clients respect by default.
const HOLD_BACK: u32 = 1;
/// The server and we.
const BOTH: u32 = 2;
/// The longest wait for room for a doorbell byte before the deadline is looked at again.
const BELL_SLICE: Duration = Duration::from_secs(1);
const CUT: ClientError = ClientError::Protocol("a file of a ring was cut");

#[derive(Debug)]
pub(super) struct Rings {
    requests: Writer,
    responses: Reader,
    patience: Patience,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Libqb(Files),
    /// The long rings are those not yet used.
    Own {
        requests: Option<own::LongRing>,
        responses: Option<Ring>,
    },
}

impl Rings {
    /// Opens what the server made for us.
    pub(super) fn open(response: &AuthResponse) -> Result<Self, ClientError> {
        let len = wire::ring_len(response.max_message_size, page_size());
        let len = len.ok_or(ClientError::Protocol("message size"))?;
        let (files, [requests, responses, _]) = Files::open(&response.rings, len)?;
        Ok(Self::new(requests, responses, Kind::Libqb(files)))
    }

    /// Opens what a server of ours has sent.
    pub(super) fn open_own(answer: &own::Answer, memory: OwnedFd) -> Result<Self, ClientError> {
        let memory = own::Memory::open(memory, answer).map_err(|error| match error {
            own::NoMemory::Malformed(malformed) => ClientError::from(malformed),
            own::NoMemory::Io(error) => error.into(),
        })?;
        let own::Memory { requests, answers, .. } = memory;
        let kind = Kind::Own { requests: Some(requests.long), responses: Some(answers.long.into_ring()) };
        Ok(Self::new(requests.short, answers.short, kind))
    }

    fn new(requests: Ring, responses: Ring, kind: Kind) -> Self {
        let (requests, responses) = (Writer::new(requests), Reader::new(responses));
        Self { requests, responses, patience: Patience::new(0), kind }
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
        let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        self.lengthen(len)?;
        let written = self.requests.put(parts);
        if self.requests.ring().is_cut() {
            return Err(CUT);
        }
        if !written? {
            return Err(ClientError::Busy);
        }
        ring_bell(setup, deadline)
    }

    /// Goes on with the long ring of requests if a message of this length is too long for the other.
    fn lengthen(&mut self, len: usize) -> Result<(), ClientError> {
        let Kind::Own { requests: unused, .. } = &mut self.kind else { return Ok(()) };
        if self.requests.ring().holds(len) {
            return Ok(());
        }
        let Some(long) = unused.take() else { return Ok(()) };
        // Nothing has happened yet if it fails.
        let moved = long.allocate().map_err(|_| ClientError::NoMemory);
        let moved = moved.and_then(|()| Ok(self.requests.put(&[&own::MOVED])?));
        if !matches!(moved, Ok(true)) {
            *unused = Some(long);
            return moved.and(Err(ClientError::Busy));
        }
        self.requests = Writer::new(long.into_ring());
        Ok(())
    }

    /// Waits for the next message.
    pub(super) fn receive(
        &mut self,
        setup: BorrowedFd<'_>,
        deadline: Deadline,
        message: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        self.take(setup, deadline, message)?;
        let Kind::Own { responses: unused, .. } = &mut self.kind else { return Ok(()) };
        if *message == own::MOVED {
            let long = unused.take().ok_or(ClientError::Protocol("a second move"))?;
            self.responses = Reader::new(long);
            self.take(setup, deadline, message)?;
        }
        Ok(())
    }

    /// Waits for what is next in the ring.
    fn take(
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
        let least = match &self.kind {
            Kind::Own { responses: Some(_), .. } => own::MOVED.len(),
            _ => RESPONSE_HEADER_LEN,
        };
        let taken = self.responses.take_announced(message, least, usize::MAX);
        if self.responses.ring().is_cut() { Err(CUT) } else { Ok(taken?) }
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

/// One byte for each request: a stock server waits for exactly as many.
fn ring_bell(setup: BorrowedFd<'_>, deadline: Deadline) -> Result<(), ClientError> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        match send(setup.as_raw_fd(), &[0], flags) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let slice = deadline.slice(BELL_SLICE).ok_or(ClientError::TimedOut)?;
                wait_for(setup, PollFlags::POLLOUT, slice)?;
            }
            Err(_) => return Err(ClientError::NotConnected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    /// A request that there is no memory for has not happened; all others are served.
    #[test]
    fn without_memory_for_a_long_request() {
        let answer = own::Answer::new(1 << 20).unwrap();
        let (server, file) = own::Memory::create(&answer).unwrap();
        let mut rings = Rings::open_own(&answer, file.try_clone().unwrap()).unwrap();
        let Kind::Own { requests: Some(long), .. } = &mut rings.kind else { panic!("{rings:?}") };
        long.exhaust();
        let (setup, _server) = UnixStream::pair().unwrap();
        let deadline = Deadline::new(Clock::start(), Some(Duration::from_secs(5)));
        for _ in 0..3 {
            let sent = rings.send(setup.as_fd(), &[&[1; 20_000]], deadline);
            assert!(matches!(sent, Err(ClientError::NoMemory)), "{sent:?}");
        }
        rings.send(setup.as_fd(), &[&[2; 100]], deadline).unwrap();
        let (mut reader, mut message) = (Reader::new(server.requests.short), Vec::new());
        assert_eq!(reader.take(&mut message, 1, 1000), Ok(true));
        assert_eq!(message, [2; 100]);
        assert_eq!(reader.take(&mut message, 1, 1000), Ok(false));
    }
}
