//! The thread that accepts connections. It never waits for a peer: it polls the listening socket,
//! the peers that have not yet asked, and a word to stop. Who is admitted gets a thread of its own.

use super::auth::{Asked, Pending, Progress, is_authentic, respond};
use super::connection;
use super::server::Shared;
use super::wire::{AuthResponse, agreed_message_size};
use crate::errno::ToErrno;
use crate::ipc::server::{Access, Client, Peer, Refused};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Peers that may be waited for at once.
const PENDING_MAX: usize = 128;
/// Connections accepted before others are looked at.
const ACCEPT_BATCH: usize = 64;
/// How long not to accept when descriptors or memory ran out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The state of the accepting thread.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    listener: UnixListener,
    /// Readable when the thread shall end.
    stop: Arc<EventFd>,
    /// Oldest first.
    pending: Vec<Pending>,
    /// Not to accept before this uptime.
    resume: Option<Duration>,
}

/// What poll found.
struct Ready {
    stop: bool,
    listener: bool,
    /// As the pending peers.
    pending: Vec<bool>,
}

impl Acceptor {
    pub(crate) fn new(shared: Arc<Shared>, listener: UnixListener, stop: Arc<EventFd>) -> Self {
        Self { shared, listener, stop, pending: Vec::new(), resume: None }
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    log::error!("IPC: cannot poll, no more clients are accepted: {error}");
                    return;
                }
            };
            if ready.stop {
                return;
            }
            self.advance(&ready.pending);
            if ready.listener {
                self.accept();
            }
        }
    }

    fn wait(&mut self) -> nix::Result<Ready> {
        let now = self.shared.clock.uptime();
        self.resume = self.resume.filter(|&resume| resume > now);
        let wake = self.pending.iter().map(Pending::deadline).chain(self.resume).min();
        let timeout = wake.map_or(PollTimeout::NONE, |wake| until(now, wake));
        let accepts = if self.resume.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut fds = vec![
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), accepts),
        ];
        let pending = self.pending.iter().map(|peer| PollFd::new(peer.fd(), PollFlags::POLLIN));
        fds.extend(pending);
        poll(&mut fds, timeout)?;
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        Ok(Ready {
            stop: ready.next().unwrap_or(true),
            listener: ready.next().unwrap_or(true) && self.resume.is_none(),
            pending: ready.collect(),
        })
    }

    /// Reads from the peers that have sent something, and drops those that are late.
    fn advance(&mut self, ready: &[bool]) {
        let now = self.shared.clock.uptime();
        let peers = std::mem::take(&mut self.pending);
        for (peer, &ready) in peers.into_iter().zip(ready) {
            if ready {
                self.proceed(peer);
            } else if peer.deadline() > now {
                self.pending.push(peer);
            }
        }
    }

    fn proceed(&mut self, peer: Pending) {
        match peer.advance() {
            Progress::Waiting(peer) => self.pending.push(peer),
            Progress::Asked(socket, peer, asked) => self.decide(socket, peer, asked),
            Progress::Dropped => {}
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT_BATCH {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    let deadline = self.shared.clock.uptime() + self.shared.options.auth_timeout;
                    self.make_room();
                    // It has usually sent its request already.
                    self.proceed(Pending::new(socket, deadline));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.shared.complain(format_args!("cannot accept a client: {error}"));
                    self.resume = Some(self.shared.clock.uptime() + EXHAUSTED_PAUSE);
                    return;
                }
            }
        }
    }

    /// Makes room for one more peer at the cost of the user that holds the most places, so that
    /// nobody keeps others out by connecting and saying nothing.
    fn make_room(&mut self) {
        if self.pending.len() < PENDING_MAX {
            return;
        }
        let held = |uid| self.pending.iter().filter(|peer| peer.uid() == uid).count();
        // Of equals the last: reversed, so that it is the oldest.
        let places = self.pending.iter().enumerate().rev();
        if let Some((oldest, _)) = places.max_by_key(|(_, peer)| held(peer.uid())) {
            self.pending.remove(oldest);
        }
    }

    /// Admits a peer or tells it why not.
    fn decide(&self, socket: UnixStream, peer: Peer, asked: Asked) {
        match self.admit(peer) {
            Err(refused) => {
                log::debug!("IPC: process {} of user {} refused: {refused}", peer.pid, peer.uid);
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                refuse(&socket, &refused);
            }
            Ok(access) => {
                let Peer { pid, uid, gid } = peer;
                let limit = self.shared.options.max_message_size;
                let size = agreed_message_size(asked.request.max_message_size, limit);
                let client = Client { pid, uid, gid, access };
                let connection = self.shared.insert(socket, client);
                connection::start(&self.shared, connection, size, asked.own);
            }
        }
    }

    fn admit(&self, peer: Peer) -> Result<Access, Refused> {
        if !is_authentic(peer) {
            return Err(Refused::Stranger);
        }
        let accept = AssertUnwindSafe(|| self.shared.service.accept(peer));
        let access = catch_unwind(accept).unwrap_or(Err(Refused::Stranger))?;
        self.shared.has_room(peer.uid)?;
        Ok(access)
    }
}

/// Tells a peer why it gets no connection, and ends it. It may be gone already.
pub(crate) fn refuse(socket: &UnixStream, refused: &Refused) {
    let sent = respond(socket, &AuthResponse::refusal(refused.to_errno()))
        .and_then(|()| socket.shutdown(Shutdown::Both));
    if let Err(error) = sent {
        log::debug!("IPC: a refused client did not wait for the answer: {error}");
    }
}

/// From `now` until `then`, rounded up so that it is past when poll returns.
fn until(now: Duration, then: Duration) -> PollTimeout {
    let left = then.saturating_sub(now) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
