//! Server of the metrics on a listening socket, which a socket unit passes as standard input. One process
//! serves all connections, so no client waits for another. A silent client loses its place at a deadline, or
//! earlier if a new client needs the place. Without clients the process ends; systemd starts it again for the
//! next one.
//!
//! All requests that arrive within a second share one query, so a flood of requests does not reach the
//! daemon.

use super::http::{TIMEOUT, interrupted};
use super::request::{Answer, HEAD_MAX, Hosts, is_whole, respond};
use crate::clock::Clock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockaddrLike, SockaddrStorage, getsockname, getsockopt, recv, send, sockopt,
};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// Most clients at a time.
const CLIENTS_MAX: usize = 64;
/// Clients accepted before the others are served. Far below the number of places, so that a flood of
/// connections does not evict a client whose request is in transit.
const ACCEPT_BATCH: usize = 8;
/// Pause after a client could not be accepted because no descriptor was free.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Age at which the metrics are queried again.
const FRESH: Duration = Duration::from_secs(1);
/// Time without clients after which the process exits.
const IDLE: Duration = Duration::from_secs(90);

/// A listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Standard input, if it is a listening socket.
    pub(super) fn of_stdin() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        // The call fails if standard input is no socket.
        if !getsockopt(&stdin, sockopt::AcceptConn).unwrap_or(false) {
            return Ok(None);
        }
        let socket = stdin.as_fd().try_clone_to_owned()?;
        let address = getsockname::<SockaddrStorage>(socket.as_raw_fd())?;
        let listener = match address.family() {
            Some(AddressFamily::Unix) => Self::Unix(socket.into()),
            _ => Self::Tcp(socket.into()),
        };
        listener.set_nonblocking()?;
        Ok(Some(listener))
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }

    /// Accepts the next client. Its user is known only at a Unix socket.
    fn accept(&self) -> io::Result<(OwnedFd, Option<u32>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((stream.into(), None))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let user = getsockopt(&stream, sockopt::PeerCredentials).ok().map(|peer| peer.uid());
                Ok((stream.into(), user))
            }
        }
    }
}

/// A client.
struct Client {
    socket: OwnedFd,
    user: Option<u32>,
    /// Uptime at which the client is dropped.
    deadline: Duration,
    head: Vec<u8>,
    /// Rest of the response to send; `None` before there is one.
    answer: Option<Vec<u8>>,
}

/// State of a client after a read or write.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waits,
    /// The request is complete.
    Asked,
    Done,
}

impl Client {
    /// Reads available bytes.
    fn read(&mut self) -> Progress {
        let mut bytes = [0; 2048];
        while !is_whole(&self.head) && self.head.len() < HEAD_MAX {
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Progress::Done,
                Ok(len) => self.head.extend_from_slice(&bytes[..len]),
                Err(error) if error == interrupted() => {}
                Err(error) => return waits_or_done(error.into()),
            }
        }
        Progress::Asked
    }

    /// Sends as many bytes as the socket accepts.
    fn write(&mut self) -> Progress {
        let Some(answer) = &mut self.answer else { return Progress::Waits };
        while !answer.is_empty() {
            match send(self.socket.as_raw_fd(), answer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(len) => drop(answer.drain(..len)),
                Err(error) if error == interrupted() => {}
                Err(error) => return waits_or_done(error.into()),
            }
        }
        Progress::Done
    }
}

fn waits_or_done(error: io::Error) -> Progress {
    if error.kind() == io::ErrorKind::WouldBlock { Progress::Waits } else { Progress::Done }
}

/// The server.
struct Server<'a, M> {
    listener: Listener,
    hosts: &'a Hosts,
    metrics: M,
    /// The last metrics, and the uptime of their query.
    known: Option<(Duration, String)>,
    clock: Clock,
    /// Clients, oldest first.
    clients: Vec<Client>,
    /// Uptime of the last client.
    last: Duration,
}

/// Serves clients of `listener` until none has connected for [`IDLE`].
///
/// # Errors
/// If the socket cannot be polled.
pub(super) fn serve(listener: Listener, hosts: &Hosts, metrics: impl FnMut() -> String) -> io::Result<()> {
    let clock = Clock::start();
    let (clients, last) = (Vec::new(), Duration::ZERO);
    Server { listener, hosts, metrics, known: None, clock, clients, last }.run()
}

impl<M: FnMut() -> String> Server<'_, M> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            let now = self.clock.uptime();
            self.advance(&ready);
            // Finished clients free their places first.
            if ready.last().is_some_and(|&listener| listener) {
                self.accept();
            }
            self.answer();
            self.expire();
            if self.clients.is_empty() && now.saturating_sub(self.last) >= IDLE {
                return Ok(());
            }
        }
    }

    /// Waits for an event or a deadline. Returns the ready sockets; the listener is the last.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let now = self.clock.uptime();
        let wake = self.clients.iter().map(|client| client.deadline).min().unwrap_or(self.last + IDLE);
        let wanted = |client: &Client| match client.answer {
            None => PollFlags::POLLIN,
            Some(_) => PollFlags::POLLOUT,
        };
        let mut fds: Vec<PollFd> =
            self.clients.iter().map(|client| PollFd::new(client.socket.as_fd(), wanted(client))).collect();
        fds.push(PollFd::new(self.listener.fd(), PollFlags::POLLIN));
        let left = wake.saturating_sub(now) + Duration::from_millis(1);
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(error) if error == interrupted() => Ok(vec![false; fds.len()]),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(fds.iter().map(|fd| fd.any().unwrap_or(true)).collect()),
        }
    }

    /// Reads and writes on the ready sockets.
    fn advance(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        self.clients.retain_mut(|client| {
            if ready.next() != Some(&true) {
                return true;
            }
            let progress = if client.answer.is_some() { client.write() } else { client.read() };
            progress != Progress::Done
        });
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT_BATCH {
            let (socket, user) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return std::thread::sleep(EXHAUSTED_PAUSE),
            };
            self.last = self.clock.uptime();
            self.make_room();
            let deadline = self.last + TIMEOUT;
            let mut client = Client { socket, user, deadline, head: Vec::new(), answer: None };
            // The client has usually sent its request already.
            if client.read() != Progress::Done {
                self.clients.push(client);
            }
        }
    }

    /// Frees a place for one more client. Drops a client that has not sent its request: the oldest one of the
    /// user with the most places.
    fn make_room(&mut self) {
        if self.clients.len() < CLIENTS_MAX {
            return;
        }
        let held = |user| self.clients.iter().filter(|client| client.user == user).count();
        // `max_by_key` returns the last of equals: reversed, that is the oldest.
        let places = self.clients.iter().enumerate().rev();
        let victim = places.max_by_key(|(_, client)| (client.answer.is_none(), held(client.user)));
        if let Some((victim, _)) = victim {
            self.clients.remove(victim);
        }
    }

    /// Answers complete requests.
    fn answer(&mut self) {
        let now = self.clock.uptime();
        let (known, metrics) = (&mut self.known, &mut self.metrics);
        let asked = |client: &&mut Client| {
            client.answer.is_none() && (is_whole(&client.head) || client.head.len() >= HEAD_MAX)
        };
        for client in self.clients.iter_mut().filter(asked) {
            let answer = respond(&client.head, self.hosts, || {
                if known.as_ref().is_none_or(|(at, _)| now.saturating_sub(*at) >= FRESH) {
                    *known = Some((now, metrics()));
                }
                known.as_ref().map(|(_, text)| text.clone()).unwrap_or_default()
            });
            client.answer = Some(answer.encode());
            client.deadline = now + TIMEOUT;
        }
        // While the daemon was queried, no client could be read or written: their deadlines move.
        let spent = self.clock.uptime().saturating_sub(now);
        self.clients.retain_mut(|client| {
            client.deadline += spent;
            client.answer.is_none() || client.write() != Progress::Done
        });
    }

    /// Drops clients whose deadline passed. A client without a request gets a timeout response, if its socket
    /// accepts one.
    fn expire(&mut self) {
        let now = self.clock.uptime();
        self.clients.retain_mut(|client| {
            if now < client.deadline {
                return true;
            }
            if client.answer.is_none() {
                client.answer = Some(Answer::too_late().encode());
                client.write();
            }
            false
        });
    }
}
