//! A client's connection: one thread that sleeps on the setup socket until a byte rings, takes what
//! the request ring holds, asks the service, and answers. Whatever this client does, or fails to
//! do, happens to this thread only.
//!
//! The bytes are a doorbell and nothing more: their number and value say nothing, only the end of
//! the socket does.

use super::accept::refuse;
use super::auth::{respond, respond_to_own};
use super::mapping::Mapping;
use super::own;
use super::patience::Patience;
use super::places::Place;
use super::ring::{Broken, Reader, Ring, Writer};
use super::server::Shared;
use super::shm::RingFiles;
use super::sigbus;
use super::wire::{
    AuthResponse, Malformed, REQUEST_HEADER_LEN, RESPONSE_HEADER_LEN, RequestHeader, ResponseHeader, TYPE_SHM,
};
use crate::errno::ToErrno;
use crate::ipc::server::{Client, Link, Peer, Refused, Response, Unanswered, Wake, Watch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Rounds of taking and answering before the socket is looked at: a client that keeps its ring filled must not
/// keep us from noticing that it is gone.
const BATCH: usize = 64;
/// A buffer larger than this is not kept for the next request.
const BUFFER_KEPT: usize = 256 << 10;

/// A connection as the server's table has it.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    client: Client,
    socket: UnixStream,
    requests: AtomicU64,
    _place: Place,
    /// Removed when the connection ends, or when the server stops and the service does not return.
    files: Mutex<Option<RingFiles>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client is gone")]
    Gone,
    #[error("the client asked to disconnect")]
    Left,
    #[error("the server stops")]
    Stopping,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a file of its shared memory was cut, or memory ran out")]
    Cut,
    #[error("it does not read its answers")]
    NotReading,
}

impl Connection {
    pub(crate) fn new(id: u64, client: Client, socket: UnixStream, place: Place) -> Self {
        Self { id, client, socket, requests: AtomicU64::new(0), _place: place, files: Mutex::new(None) }
    }

    /// How much was asked.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Who is connected.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Wakes the thread out of whatever it waits for, for good.
    pub(crate) fn hang_up(&self) {
        // An error means that the client did it first.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Removes the files.
    pub(crate) fn remove_files(&self) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn fail(&self, shared: &Shared, refused: &Refused) {
        shared.complain(self.client.uid, format_args!("{} refused: {refused}", who(&self.client)));
        refuse(&self.socket, refused);
    }

    /// Makes the rings and tells the client of them; or why it gets none, and is told so.
    fn set_up(&self, shared: &Shared, size: u32, own: bool) -> Result<Rings, NoRings> {
        let answer = own::Answer::new(size).filter(|_| own);
        match answer.map(|answer| (answer, own::Memory::create(&answer))) {
            Some((answer, Ok((memory, file)))) => {
                respond_to_own(&self.socket, &answer, &file)?;
                let own::Memory { mapping, requests, answers } = memory;
                let long = Some((requests.long.into_ring(), answers.long));
                return Ok(Rings { mapping, requests: requests.short, responses: answers.short, long });
            }
            // Those of libqb can be had by every client.
            Some((_, Err(error))) => log::debug!("IPC: no rings for {}: {error}", who(&self.client)),
            None => {}
        }
        self.set_up_files(shared, size)
    }

    /// The same for a client of libqb.
    fn set_up_files(&self, shared: &Shared, size: u32) -> Result<Rings, NoRings> {
        let Client { pid, uid, gid, .. } = self.client;
        let peer = Peer { pid, uid, gid };
        let socket = self.socket.as_raw_fd();
        let made = RingFiles::create(&shared.shm, &shared.service_name, peer, socket, size);
        let (files, rings) = made.map_err(|error| NoRings::Refused(error.into()))?;
        let response = AuthResponse {
            error: 0,
            connection_type: TYPE_SHM,
            max_message_size: size,
            rings: files.base_paths(),
        };
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
        respond(&self.socket, &response)?;
        let (mapping, requests, responses) = rings.allocate_responses();
        Ok(Rings { mapping, requests, responses, long: None })
    }
}

/// Both rings of a connection.
struct Rings {
    mapping: Arc<Mapping>,
    requests: Ring,
    responses: Ring,
    /// Of a client of ours: what takes their places when a message is too long for them.
    long: Option<(Ring, own::LongRing)>,
}

/// Why there are none.
#[derive(Debug)]
enum NoRings {
    Refused(Refused),
    /// The client did not wait for them.
    Gone(io::Error),
}

impl From<io::Error> for NoRings {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Starts to serve an admitted connection, or tells the client that there can be no more.
pub(crate) fn start(shared: &Arc<Shared>, connection: Arc<Connection>, size: u32, own: bool) {
    let entry = Entry { shared: Arc::clone(shared), connection: Arc::clone(&connection) };
    if let Err(error) = shared.workers.run(Box::new(move || run(&entry, size, own))) {
        connection.fail(shared, &error.into());
    }
}

/// A connection's place in the table. Dropped last, when nothing of the connection is left.
struct Entry {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connection.remove_files();
        self.shared.remove(self.connection.id);
    }
}

fn run(entry: &Entry, size: u32, own: bool) {
    sigbus::unblock_in_this_thread();
    let Entry { shared, connection } = entry;
    let rings = match connection.set_up(shared, size, own) {
        Ok(rings) => rings,
        Err(NoRings::Refused(refused)) => return connection.fail(shared, &refused),
        Err(NoRings::Gone(error)) => {
            log::debug!("IPC: {} did not wait for its rings: {error}", who(connection.client()));
            return;
        }
    };
    let mut server = RingServer::new(shared, connection, rings, size);
    let end = server.serve();
    server.requests.ring().close();
    server.responses.ring().close();
    connection.hang_up();
    match end {
        End::Gone | End::Left | End::Stopping => log::debug!("IPC: {}: {end}", who(connection.client())),
        _ => {
            let client = connection.client();
            shared.complain(client.uid, format_args!("{} disconnected: {end}", who(client)));
        }
    }
}

fn who(client: &Client) -> String {
    format!("process {} of user {}", client.pid, client.uid)
}

/// Link to the client of a request under way.
struct SocketLink<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
}

impl Link for SocketLink<'_> {
    fn on_hangup(&self, wake: Wake) -> Option<Box<dyn Watch + '_>> {
        match self.shared.hangups.watch(self.connection.socket.as_fd(), wake) {
            Ok(watch) => Some(Box::new(watch)),
            Err(error) => {
                log::debug!("IPC: no watch on {}: {error}", who(self.connection.client()));
                None
            }
        }
    }
}

/// Serves one client.
struct RingServer<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    mapping: Arc<Mapping>,
    requests: Reader,
    responses: Writer,
    /// Those not yet used.
    long_requests: Option<Ring>,
    long_responses: Option<own::LongRing>,
    /// The longest message.
    size: usize,
    /// The request that is being answered.
    message: Vec<u8>,
    patience: Patience,
}

impl<'a> RingServer<'a> {
    fn new(shared: &'a Shared, connection: &'a Connection, rings: Rings, size: u32) -> Self {
        let (long_requests, long_responses) = rings.long.unzip();
        Self {
            shared,
            connection,
            mapping: rings.mapping,
            requests: Reader::new(rings.requests),
            responses: Writer::new(rings.responses),
            long_requests,
            long_responses,
            size: size as usize,
            message: Vec::new(),
            // A new client has to open its files first.
            patience: Patience::new(1),
        }
    }

    fn serve(&mut self) -> End {
        loop {
            let answered = self.answer_all();
            let waited = answered.and_then(|drained| self.wait(drained));
            if let Err(end) = waited {
                return if self.mapping.is_broken() { End::Cut } else { end };
            }
        }
    }

    /// Answers what is in the ring; tells whether it is empty now.
    fn answer_all(&mut self) -> Result<bool, End> {
        for _ in 0..BATCH {
            if self.shared.is_stopping() {
                return Err(End::Stopping);
            }
            let least = self.long_requests.as_ref().map_or(REQUEST_HEADER_LEN, |_| own::MOVED.len());
            let taken = self.requests.take(&mut self.message, least, self.size)?;
            if self.mapping.is_broken() {
                return Err(End::Cut);
            }
            if taken && self.message == own::MOVED {
                let long = self.long_requests.take().ok_or(Malformed("short request"))?;
                self.requests = Reader::new(long);
            } else if taken {
                self.answer()?;
            } else if !self.patience.linger(self.requests.ring()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for the doorbell if there is nothing else to do; notices the end of the client.
    fn wait(&self, drained: bool) -> Result<(), End> {
        let mut bells = [0; 4 * BATCH];
        let flags = if drained { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        match recv(self.connection.socket.as_raw_fd(), &mut bells, flags) {
            Ok(0) => Err(End::Gone),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(_) => Err(End::Gone),
        }
    }

    fn answer(&mut self) -> Result<(), End> {
        let header = RequestHeader::parse(&self.message)?;
        if header.is_disconnect() {
            return Err(End::Left);
        }
        let Some(body) = header.body(&self.message) else {
            return self.respond(header.id, Response::error(Unanswered::BadLength.to_errno()));
        };
        let (service, client) = (&self.shared.service, self.connection.client());
        self.connection.requests.fetch_add(1, Ordering::Relaxed);
        let link = SocketLink { shared: self.shared, connection: self.connection };
        let handle = AssertUnwindSafe(|| service.handle(client, &link, header.id, body));
        let response = catch_unwind(handle).unwrap_or_else(|_| {
            log::error!("IPC: request {} of {} panicked", header.id, who(client));
            Response::error(Unanswered::Panicked.to_errno())
        });
        if self.message.capacity() > BUFFER_KEPT {
            self.message = Vec::new();
        }
        self.respond(header.id, response)
    }

    fn respond(&mut self, id: i32, mut response: Response) -> Result<(), End> {
        let len = RESPONSE_HEADER_LEN + response.data.as_bytes().len();
        if len > self.size {
            response = Response::error(Unanswered::TooLong.to_errno());
        } else if !self.lengthen(len)? {
            response = Response::error(Unanswered::NoMemory.to_errno());
        }
        let data = response.data.as_bytes();
        // At most the agreed size, which was made to fit.
        let size = (RESPONSE_HEADER_LEN + data.len()) as i32;
        let header = ResponseHeader { id, size, error: response.error }.encode();
        self.put(&[&header, data])
    }

    /// Goes on with the long ring of answers if a message of this length is too long for the other; tells
    /// whether there is memory for it.
    fn lengthen(&mut self, len: usize) -> Result<bool, End> {
        if self.responses.ring().holds(len) {
            return Ok(true);
        }
        let Some(long) = self.long_responses.take() else { return Ok(true) };
        if let Err(error) = long.allocate() {
            let uid = self.connection.client.uid;
            self.shared.complain(uid, format_args!("no memory for an answer of {len} bytes: {error}"));
            self.long_responses = Some(long);
            return Ok(false);
        }
        self.put(&[&own::MOVED])?;
        self.responses = Writer::new(long.into_ring());
        Ok(true)
    }

    /// Puts a message into the ring of answers, once there is room for it.
    fn put(&mut self, parts: &[&[u8]]) -> Result<(), End> {
        let mut waited = RoomWait::default();
        while !self.responses.put(parts)? {
            waited.more(self.shared, &self.connection.socket)?;
        }
        Ok(())
    }
}

/// Waiting for a client to read its answers. Nothing tells when it does, so we look again, at
/// growing intervals; a hang-up ends the wait at once.
#[derive(Default)]
struct RoomWait {
    since: Option<Duration>,
    step: Duration,
}

impl RoomWait {
    fn more(&mut self, shared: &Shared, socket: &UnixStream) -> Result<(), End> {
        const STEP_MIN: Duration = Duration::from_millis(1);
        const STEP_MAX: Duration = Duration::from_millis(50);
        let now = shared.clock.uptime();
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) >= shared.options.room_timeout {
            return Err(End::NotReading);
        }
        self.step = (self.step * 2).clamp(STEP_MIN, STEP_MAX);
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        let timeout = PollTimeout::try_from(self.step).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => Ok(()),
            _ => Err(End::Gone),
        }
    }
}
