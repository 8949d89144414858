//! A client of a libqb service, ours or a stock one, without libqb. It knows nothing of the server
//! code. The server is checked as far as a client can: who runs it, the paths it names, the files
//! behind them, each chunk; and nothing is waited for without a limit, unless the caller says so.
//!
//! `setup` connects; `rings` and `sockets` carry the messages over the transport that the server
//! chose; `files` opens what they share with it.

mod files;
mod rings;
mod setup;
mod sockets;

use super::address::Namespace;
use super::ring::Broken;
use super::wire::{
    AuthResponse, Malformed, REQUEST_HEADER_LEN, RESPONSE_HEADER_LEN, RequestHeader, ResponseHeader,
    TYPE_SHM, TYPE_SOCKET,
};
use crate::clock::Clock;
use crate::ipc::server::{Peer, Response};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use rings::Rings;
use setup::Answer;
use sockets::Sockets;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    /// The time given is over. In [`Client::request`] this ends the connection, as the late answer
    /// would be taken for that of the next request.
    #[error("timed out")]
    TimedOut,
    /// There is no room for the request, or the server asks to hold back.
    #[error("the server is busy")]
    Busy,
    /// There is no memory for so long a request.
    #[error("no memory for the request")]
    NoMemory,
    /// The request is longer than the message size agreed at connect.
    #[error("the message is too long")]
    TooLong,
    /// The process that serves the service's address belongs neither to root nor to this user.
    #[error("the server, process {} of user {}, belongs neither to root nor to this user", .0.pid, .0.uid)]
    Untrusted(Peer),
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
    /// To do as libqb does with a server of ours too, though it could be had faster.
    pub as_libqb: bool,
}

/// A connection to a service.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    server: Peer,
    max_message_size: u32,
    link: Link,
    connected: bool,
    /// True when a request could not be sent because the server has ended: its last responses can still be
    /// received.
    draining: bool,
    /// False when the server is not to hear of our end.
    ours: bool,
    clock: Clock,
}

/// What carries messages.
#[derive(Debug)]
enum Link {
    Rings(Rings),
    Sockets(Sockets),
}

impl Link {
    /// Opens what a libqb server has made.
    fn open(response: &AuthResponse) -> Result<Self, ClientError> {
        if response.error != 0 {
            return Err(ClientError::Refused(response.error.saturating_neg()));
        }
        match response.connection_type {
            TYPE_SHM => Ok(Link::Rings(Rings::open(response)?)),
            TYPE_SOCKET => Ok(Link::Sockets(Sockets::open(response)?)),
            other => Err(ClientError::Unsupported(other)),
        }
    }
}

/// A point in time until which to wait; `None` = for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    clock: Clock,
    at: Option<Duration>,
}

impl Deadline {
    pub(crate) fn new(clock: Clock, timeout: Option<Duration>) -> Self {
        Self { clock, at: timeout.and_then(|timeout| clock.uptime().checked_add(timeout)) }
    }

    /// What is left; `None` = for ever.
    pub(crate) fn left(self) -> Result<Option<Duration>, ClientError> {
        let left = |at: Duration| at.checked_sub(self.clock.uptime()).ok_or(ClientError::TimedOut);
        self.at.map(left).transpose()
    }

    /// What is left, at most `slice`; `None` when it is over.
    pub(crate) fn slice(self, slice: Duration) -> Option<Duration> {
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

/// Waits until `ready` is readable for at most `limit`, or until the setup socket is hung up; tells
/// whether it is not.
fn wait_beside(setup: BorrowedFd<'_>, ready: BorrowedFd<'_>, limit: Duration) -> nix::Result<bool> {
    let mut fds = [PollFd::new(setup, PollFlags::empty()), PollFd::new(ready, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
        Err(Errno::EINTR) => Ok(true),
        result => result.map(|_| fds[0].revents() == Some(PollFlags::empty())),
    }
}

impl Client {
    /// Connects to `service` on this machine.
    ///
    /// # Errors
    /// If there is no such service, or it refuses or does not answer, or is not to be trusted.
    pub fn connect(service: &str, max_message_size: u32, timeout: Duration) -> Result<Self, ClientError> {
        let namespace = Namespace::Machine;
        let options = ConnectOptions { namespace, max_message_size, timeout: Some(timeout), as_libqb: false };
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
        let marked = !options.as_libqb;
        let (answer, server) = setup::authenticate(&socket, options.max_message_size, marked, deadline)?;
        let (max_message_size, link) = match answer {
            Answer::Own(answer, memory) => {
                (answer.max_message_size, Link::Rings(Rings::open_own(&answer, memory)?))
            }
            Answer::Libqb(response) => (response.max_message_size, Link::open(&response)?),
        };
        Ok(Self {
            socket,
            server,
            max_message_size,
            link,
            connected: true,
            draining: false,
            ours: true,
            clock,
        })
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

    /// The socket on which events would come, as libqb gives it to programs that poll it.
    pub fn event_socket(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Rings(_) => self.socket.as_fd(),
            Link::Sockets(sockets) => sockets.events(),
        }
    }

    /// Lets go of the connection without a word to the server: it is somebody else's. A forked
    /// process does that with what it has of its parent's.
    pub fn abandon(mut self) {
        self.ours = false;
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
        let mut message = Vec::new();
        let header = self.request_into(id, body, timeout, &mut message)?;
        let data = message.get(RESPONSE_HEADER_LEN..).unwrap_or_default().to_vec();
        Ok(Response { error: header.error, data: data.into() })
    }

    /// The same, with the whole answer, its header included, in `message`.
    ///
    /// # Errors
    /// As of [`Client::request`]; `message` then holds nothing of use.
    pub fn request_into(
        &mut self,
        id: i32,
        body: &[u8],
        timeout: Option<Duration>,
        message: &mut Vec<u8>,
    ) -> Result<ResponseHeader, ClientError> {
        let size = i32::try_from(REQUEST_HEADER_LEN.saturating_add(body.len()));
        let size = size.map_err(|_| ClientError::TooLong)?;
        let header = RequestHeader { id, size }.encode();
        let deadline = Deadline::new(self.clock, timeout);
        while let Err(error) = self.send_until(&[&header, body], deadline) {
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
        let received = self.receive_until(deadline, message);
        // A late answer would be taken for that of the next request.
        self.connected &= received.is_ok();
        let header = received?;
        if header.id != id {
            return self.note(Err(ClientError::Protocol("an answer to another request")));
        }
        Ok(header)
    }

    /// Sends a request. Several may be on their way.
    ///
    /// # Errors
    /// If there is no room, or the connection is broken.
    pub fn send(&mut self, id: i32, body: &[u8]) -> Result<(), ClientError> {
        let size = i32::try_from(REQUEST_HEADER_LEN.saturating_add(body.len()));
        let size = size.map_err(|_| ClientError::TooLong)?;
        self.send_message(&[&RequestHeader { id, size }.encode(), body])
    }

    /// Sends a message that the caller has made, header and all.
    ///
    /// # Errors
    /// As of [`Client::send`].
    pub fn send_message(&mut self, parts: &[&[u8]]) -> Result<(), ClientError> {
        self.send_until(parts, Deadline::new(self.clock, Some(BELL_TIMEOUT)))
    }

    /// Waits for the next answer and the id it belongs to.
    ///
    /// # Errors
    /// If the time is over, or the connection is broken.
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<(i32, Response), ClientError> {
        let mut message = Vec::new();
        let header = self.receive_until(Deadline::new(self.clock, timeout), &mut message)?;
        let data = message.get(RESPONSE_HEADER_LEN..).unwrap_or_default().to_vec();
        Ok((header.id, Response { error: header.error, data: data.into() }))
    }

    /// Waits for the next answer, and leaves it as it came, header and all.
    ///
    /// # Errors
    /// As of [`Client::receive`].
    pub fn receive_message(
        &mut self,
        timeout: Option<Duration>,
        message: &mut Vec<u8>,
    ) -> Result<ResponseHeader, ClientError> {
        self.receive_until(Deadline::new(self.clock, timeout), message)
    }

    fn send_until(&mut self, parts: &[&[u8]], deadline: Deadline) -> Result<(), ClientError> {
        let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        if len > self.max_message_size as usize {
            return Err(ClientError::TooLong);
        }
        if !self.connected {
            return Err(ClientError::NotConnected);
        }
        let sent = match &mut self.link {
            Link::Rings(rings) => rings.send(self.socket.as_fd(), parts, deadline),
            Link::Sockets(sockets) => sockets.send(parts),
        };
        self.draining = matches!(sent, Err(ClientError::NotConnected));
        self.note(sent)
    }

    fn receive_until(
        &mut self,
        deadline: Deadline,
        message: &mut Vec<u8>,
    ) -> Result<ResponseHeader, ClientError> {
        if !self.connected && !self.draining {
            return Err(ClientError::NotConnected);
        }
        let received = match &mut self.link {
            Link::Rings(rings) => rings.receive(self.socket.as_fd(), deadline, message),
            Link::Sockets(sockets) => sockets.receive(self.socket.as_fd(), deadline, message),
        };
        let header = match received {
            // Nothing was taken: the answer can still be waited for.
            Err(ClientError::TimedOut) => return Err(ClientError::TimedOut),
            received => received.and_then(|()| Ok(ResponseHeader::split(message)?.0)),
        };
        self.draining &= header.is_ok();
        self.note(header)
    }

    /// After an error other than these nobody knows what the rings hold.
    fn note<T>(&mut self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        self.connected &= matches!(result, Ok(_) | Err(ClientError::Busy | ClientError::NoMemory));
        result
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        // Killed, it cannot clean up any more, and a stock server never sweeps.
        let server = Pid::from_raw(self.server.pid);
        let killed = !self.connected && kill(server, None) == Err(Errno::ESRCH);
        match &self.link {
            Link::Rings(rings) => rings.close(killed),
            Link::Sockets(sockets) if killed => sockets.remove(),
            Link::Sockets(_) => {}
        }
    }
}
