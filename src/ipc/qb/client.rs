//! A client of a libqb service, ours or a stock one, without libqb. It knows nothing of the server
//! code. The server is checked as far as a client can: who runs it, the paths it names, the files
//! behind them, each chunk; and nothing is waited for without a limit, unless the caller says so.
//!
//! Two modules speak for it: `setup` connects, `files` opens the shared memory. Only the
//! shared-memory transport is there; the other one of libqb, sockets, would be a second [`Link`].

mod files;
mod setup;

use super::address::Namespace;
use super::mapping::page_size;
use super::ring::{Broken, Reader, Writer};
use super::sem;
use super::wire::{self, Malformed, REQUEST_HEADER_LEN, RESPONSE_HEADER_LEN, RequestHeader, ResponseHeader};
use crate::clock::Clock;
use crate::ipc::server::{Peer, Response};
use files::Files;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long a dead server goes unnoticed during a request.
const LIVENESS_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait before looking again whether there is room for a request.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// How long to wait for a server that does not take its doorbell bytes.
const BELL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no at connect; the positive errno it gave.
    #[error("the server refuses: {}", io::Error::from_raw_os_error(*.0))]
    Refused(i32),
    /// The server is gone, or was never there.
    #[error("not connected")]
    NotConnected,
    /// The time given is over. During a request this ends the connection, as the late answer would
    /// be taken for that of the next request.
    #[error("timed out")]
    TimedOut,
    /// There is no room for the request, or the server asks to hold back.
    #[error("the server is busy")]
    Busy,
    /// The request is longer than the message size agreed at connect.
    #[error("the message is too long")]
    TooLong,
    /// Another user than root or ourselves has taken the service's address.
    #[error("the server is run by user {0}, neither root nor us")]
    Untrusted(u32),
    /// It speaks another transport of libqb's.
    #[error("transport {0} is not supported")]
    Unsupported(i32),
    /// The server broke the protocol.
    #[error("protocol violation by the server: {0}")]
    Protocol(&'static str),
    /// Connecting failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Broken> for ClientError {
    fn from(Broken(what): Broken) -> Self {
        Self::Protocol(what)
    }
}

impl From<Malformed> for ClientError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Protocol(what)
    }
}

impl From<Errno> for ClientError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Where the service's setup socket is.
    pub namespace: Namespace,
    /// The longest message to ask for, header included.
    pub max_message_size: u32,
    /// How long the server may take to admit us; `None` = for ever.
    pub timeout: Option<Duration>,
}

/// A connection to a service.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    server: Peer,
    max_message_size: u32,
    link: Link,
    /// Reused for each answer.
    message: Vec<u8>,
    connected: bool,
    clock: Clock,
}

/// What carries messages.
#[derive(Debug)]
enum Link {
    Rings(Rings),
}

#[derive(Debug)]
struct Rings {
    requests: Writer,
    responses: Reader,
    files: Files,
}

/// A point in time until which to wait; `None` = for ever.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    clock: Clock,
    at: Option<Duration>,
}

impl Deadline {
    fn new(clock: Clock, timeout: Option<Duration>) -> Self {
        Self { clock, at: timeout.and_then(|timeout| clock.uptime().checked_add(timeout)) }
    }

    /// What is left, at most `slice`; `None` when it is over.
    fn slice(self, slice: Duration) -> Option<Duration> {
        let Some(at) = self.at else { return Some(slice) };
        let left = at.checked_sub(self.clock.uptime()).filter(|left| !left.is_zero());
        left.map(|left| left.min(slice))
    }
}

/// Waits for `events` on a socket for at most `limit`; tells which came, hang-ups included.
fn wait_for(socket: BorrowedFd<'_>, events: PollFlags, limit: Duration) -> nix::Result<PollFlags> {
    let mut fds = [PollFd::new(socket, events)];
    let limit = limit.max(Duration::from_millis(u64::from(!limit.is_zero())));
    match poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
        Err(Errno::EINTR) => Ok(PollFlags::empty()),
        result => result.map(|_| fds[0].revents().unwrap_or(PollFlags::all())),
    }
}

impl Client {
    /// Connects to `service` on this machine.
    ///
    /// # Errors
    /// If there is no such service, or it refuses or does not answer, or is not to be trusted.
    pub fn connect(service: &str, max_message_size: u32, timeout: Duration) -> Result<Self, ClientError> {
        let namespace = Namespace::Machine;
        let options = ConnectOptions { namespace, max_message_size, timeout: Some(timeout) };
        Self::connect_with(service, &options)
    }

    /// Connects with all options.
    ///
    /// # Errors
    /// As of [`Client::connect`].
    pub fn connect_with(service: &str, options: &ConnectOptions) -> Result<Self, ClientError> {
        let clock = Clock::start();
        let deadline = Deadline::new(clock, options.timeout);
        let socket = setup::connect(service, &options.namespace, deadline)?;
        let (response, server) = setup::authenticate(&socket, options.max_message_size, deadline)?;
        if response.error != 0 {
            return Err(ClientError::Refused(response.error.saturating_neg()));
        }
        if response.connection_type != wire::TYPE_SHM {
            return Err(ClientError::Unsupported(response.connection_type));
        }
        let max_message_size = response.max_message_size;
        let len =
            wire::ring_len(max_message_size, page_size()).ok_or(ClientError::Protocol("message size"))?;
        let (files, [requests, responses, _]) = Files::open(&response.rings, len)?;
        let (requests, responses) = (Writer::new(requests), Reader::new(responses));
        let link = Link::Rings(Rings { requests, responses, files });
        let (message, connected) = (Vec::new(), true);
        Ok(Self { socket, server, max_message_size, link, message, connected, clock })
    }

    /// The server's process and user, as the kernel vouches for them.
    pub fn server(&self) -> Peer {
        self.server
    }

    /// The longest message, header included, that was agreed on.
    pub fn max_message_size(&self) -> u32 {
        self.max_message_size
    }

    /// Whether the last call left the connection usable.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The socket whose hang-up is the end of the connection, to poll it beside others.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a request and waits for its answer; without `timeout` as long as the server lives.
    ///
    /// # Errors
    /// If the connection has broken or breaks, or the time is over.
    pub fn request(
        &mut self,
        id: i32,
        body: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let deadline = Deadline::new(self.clock, timeout);
        while let Err(error) = self.send(id, body) {
            // A stock server answers a request before it takes it out of the ring.
            if !matches!(error, ClientError::Busy) {
                return Err(error);
            }
            let pause = deadline.slice(BUSY_PAUSE).ok_or(ClientError::Busy)?;
            let hangup = wait_for(self.socket.as_fd(), PollFlags::empty(), pause)?;
            if !hangup.is_empty() {
                return self.note(Err(ClientError::NotConnected));
            }
        }
        let (answered, response) = self.receive_until(deadline)?;
        if answered != id {
            self.connected = false;
            return Err(ClientError::Protocol("an answer to another request"));
        }
        Ok(response)
    }

    /// Sends a request. Several may be on their way.
    ///
    /// # Errors
    /// If there is no room, or the connection is broken.
    pub fn send(&mut self, id: i32, body: &[u8]) -> Result<(), ClientError> {
        let len = REQUEST_HEADER_LEN.saturating_add(body.len());
        if len > self.max_message_size as usize {
            return Err(ClientError::TooLong);
        }
        let size = i32::try_from(len).map_err(|_| ClientError::TooLong)?;
        let header = RequestHeader { id, size }.encode();
        if !self.connected {
            return Err(ClientError::NotConnected);
        }
        let Link::Rings(rings) = &mut self.link;
        let sent = rings.send(&[&header, body]).and_then(|()| self.ring_bell());
        self.note(sent)
    }

    /// Waits for the next answer and the id it belongs to.
    ///
    /// # Errors
    /// If the time is over, or the connection is broken.
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<(i32, Response), ClientError> {
        self.receive_until(Deadline::new(self.clock, timeout))
    }

    fn receive_until(&mut self, deadline: Deadline) -> Result<(i32, Response), ClientError> {
        if !self.connected {
            return Err(ClientError::NotConnected);
        }
        let received = self.receive_message(deadline).and_then(|()| {
            let (header, data) = ResponseHeader::split(&self.message)?;
            Ok((header.id, Response { error: header.error, data: data.to_vec().into() }))
        });
        self.note(received)
    }

    /// After an error other than [`ClientError::Busy`] nobody knows what the rings hold.
    fn note<T>(&mut self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        self.connected = matches!(result, Ok(_) | Err(ClientError::Busy));
        result
    }

    /// One byte for each request: a stock server waits for exactly as many.
    fn ring_bell(&self) -> Result<(), ClientError> {
        let deadline = Deadline::new(self.clock, Some(BELL_TIMEOUT));
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match send(self.socket.as_raw_fd(), &[0], flags) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let slice = deadline.slice(BELL_TIMEOUT).ok_or(ClientError::TimedOut)?;
                    wait_for(self.socket.as_fd(), PollFlags::POLLOUT, slice)?;
                }
                Err(_) => return Err(ClientError::NotConnected),
            }
        }
    }

    fn receive_message(&mut self, deadline: Deadline) -> Result<(), ClientError> {
        let Link::Rings(rings) = &mut self.link;
        let mut alive = true;
        while !sem::try_take(rings.responses.ring().semaphore()) {
            if !alive {
                return Err(ClientError::NotConnected);
            }
            let slice = deadline.slice(LIVENESS_INTERVAL).ok_or(ClientError::TimedOut)?;
            if sem::take(rings.responses.ring().semaphore(), slice) {
                break;
            }
            // Its last answer may have come before its end: the ring is looked at once more.
            let events = wait_for(self.socket.as_fd(), PollFlags::empty(), Duration::ZERO)?;
            alive = events.is_empty();
        }
        // A stock server may send more than was agreed, as long as the ring holds it.
        rings.responses.take_announced(&mut self.message, RESPONSE_HEADER_LEN, usize::MAX)?;
        Ok(())
    }
}

impl Rings {
    fn send(&mut self, parts: &[&[u8]]) -> Result<(), ClientError> {
        use std::sync::atomic::Ordering::{Acquire, Relaxed};
        /// The strength of a request to hold back that libqb's clients respect by default.
        const HOLD_BACK: u32 = 1;
        /// The server and we.
        const BOTH: u32 = 2;
        let ring = self.requests.ring();
        if ring.references().load(Acquire) != BOTH {
            return Err(ClientError::NotConnected);
        }
        if ring.flow_control().load(Relaxed) == HOLD_BACK || !self.requests.put(parts)? {
            return Err(ClientError::Busy);
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Link::Rings(rings) = &self.link;
        rings.files.close();
        let server = Pid::from_raw(self.server.pid);
        if !self.connected && kill(server, None) == Err(Errno::ESRCH) {
            // It was killed and cannot do it any more; a stock server never sweeps.
            rings.files.remove();
        }
    }
}
