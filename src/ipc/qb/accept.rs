//! The thread that accepts connections. It never waits for a peer: it polls the listening socket,
//! the peers that have not yet asked, and a word to stop. Who is admitted gets a thread of its own.

use super::auth::{Asked, Pending, Progress, is_authentic, respond};
use super::connection;
use super::listener::{Bound, Taken};
use super::places::Place;
use super::priority;
use super::server::{OnReach, Reach, Shared};
use super::throttle::{self, Throttle};
use super::waiting::WaitingPeers;
use super::wire::{AuthResponse, agreed_message_size};
use crate::errno::ToErrno;
use crate::ipc::server::{Access, Client, Peer, Refused};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Connections accepted before others are looked at.
const ACCEPT_BATCH: usize = 64;
/// How long not to accept when descriptors or memory ran out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Setup socket of the service; absent while another process has the address.
pub(crate) enum Door {
    Open(Bound),
    /// Another process has the address.
    Taken(Taken),
}

impl Door {
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self::Open(_) => Reach::Served,
            Self::Taken(taken) => Reach::Taken(taken.holder().cloned()),
        }
    }
}

/// The state of the accepting thread.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    door: Door,
    on_reach: OnReach,
    /// Throttle for lines about users that the service does not serve.
    strangers: Throttle,
    /// Readable when the thread shall end.
    stop: Arc<EventFd>,
    pending: WaitingPeers,
    /// Not to accept before this uptime.
    resume: Option<Duration>,
}

/// What poll found.
struct Ready {
    stop: bool,
    listener: bool,
    hangups: bool,
    /// As the pending peers.
    pending: Vec<bool>,
}

impl Acceptor {
    pub(crate) fn new(shared: Arc<Shared>, door: Door, on_reach: OnReach, stop: Arc<EventFd>) -> Self {
        let strangers = Throttle::default();
        Self { shared, door, on_reach, strangers, stop, pending: WaitingPeers::default(), resume: None }
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        if let Err(errno) = priority::raise() {
            log::debug!("IPC: the accepting thread keeps its priority: {errno}");
        }
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
            if ready.hangups {
                if let Err(error) = self.shared.hangups.dispatch() {
                    self.shared.complain(0, format_args!("cannot watch for clients that hang up: {error}"));
                }
            }
            self.advance(&ready.pending);
            if ready.listener {
                self.accept();
            }
            self.report_suppressed();
            self.try_to_open();
        }
    }

    /// Binds the address if another process had it and has released it.
    fn try_to_open(&mut self) {
        let Door::Taken(taken) = &mut self.door else { return };
        let before = taken.holder().cloned();
        match taken.try_again(self.shared.clock.uptime()) {
            Ok(Some(bound)) => {
                if let Err(error) = self.shared.sweep() {
                    log::warn!("IPC: cannot list what a killed daemon left: {error}");
                }
                self.door = Door::Open(bound);
                (self.on_reach)(&Reach::Served);
            }
            Ok(None) if taken.holder() != before.as_ref() => (self.on_reach)(&self.door.reach()),
            Ok(None) => {}
            Err(error) => self.shared.complain(0, format_args!("cannot bind the service's name: {error}")),
        }
    }

    fn report_suppressed(&mut self) {
        for (uid, count) in self.strangers.take_due(self.shared.clock.uptime()) {
            let user = throttle::user(uid);
            log::error!(target: "ipcs", "connections from bad {user} - {count} more rejected");
        }
        self.shared.report_suppressed();
    }

    /// Uptime of the next work that no event announces.
    fn next_deadline(&self) -> Option<Duration> {
        let bind = match &self.door {
            Door::Open(_) => None,
            Door::Taken(taken) => Some(taken.next()),
        };
        let reports = self.strangers.next_due().into_iter().chain(self.shared.next_report());
        self.pending.iter().map(Pending::deadline).chain(self.resume).chain(bind).chain(reports).min()
    }

    fn wait(&mut self) -> nix::Result<Ready> {
        let now = self.shared.clock.uptime();
        self.resume = self.resume.filter(|&resume| resume > now);
        let timeout = self.next_deadline().map_or(PollTimeout::NONE, |wake| until(now, wake));
        let listener = match &self.door {
            Door::Open(bound) if self.resume.is_none() => Some(bound.listener()),
            _ => None,
        };
        let mut fds = vec![
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.hangups.fd(), PollFlags::POLLIN),
        ];
        fds.extend(listener.map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        let pending = self.pending.iter().map(|peer| PollFd::new(peer.fd(), PollFlags::POLLIN));
        fds.extend(pending);
        poll(&mut fds, timeout)?;
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        Ok(Ready {
            stop: ready.next().unwrap_or(true),
            hangups: ready.next().unwrap_or(true),
            listener: listener.is_some() && ready.next().unwrap_or(true),
            pending: ready.collect(),
        })
    }

    /// Reads from the peers that have sent something, and drops those that are late.
    fn advance(&mut self, ready: &[bool]) {
        let now = self.shared.clock.uptime();
        let peers = self.pending.take();
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
            let Door::Open(bound) = &self.door else { return };
            match bound.listener().accept() {
                Ok((socket, _)) => {
                    self.shared.accepted.fetch_add(1, Ordering::Relaxed);
                    let deadline = self.shared.clock.uptime() + self.shared.options.auth_timeout;
                    self.pending.make_room();
                    // It has usually sent its request already.
                    self.proceed(Pending::new(socket, deadline));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.shared.complain(0, format_args!("cannot accept a client: {error}"));
                    self.resume = Some(self.shared.clock.uptime() + EXHAUSTED_PAUSE);
                    return;
                }
            }
        }
    }

    /// Admits a peer or tells it why not.
    fn decide(&mut self, socket: UnixStream, peer: Peer, asked: Asked) {
        let size = agreed_message_size(asked.request.max_message_size, self.shared.options.max_message_size);
        match self.admit(peer, size) {
            Err(refused) => {
                self.log_refused(peer, &refused);
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                refuse(&socket, &refused);
            }
            Ok((access, place)) => {
                let Peer { pid, uid, gid } = peer;
                let client = Client { pid, uid, gid, access };
                let connection = self.shared.insert(socket, client, place);
                connection::start(&self.shared, connection, size, asked.own);
            }
        }
    }

    fn log_refused(&mut self, peer: Peer, refused: &Refused) {
        let Peer { pid, uid, .. } = peer;
        log::debug!("IPC: process {pid} of user {uid} refused: {refused}");
        match refused {
            Refused::Stranger => {
                if self.strangers.admit(uid, self.shared.clock.uptime()) {
                    log::error!(target: "ipcs", "connection from bad user {uid}! - rejected");
                }
            }
            _ => self.shared.complain(uid, format_args!("process {pid} of user {uid} refused: {refused}")),
        }
    }

    fn admit(&self, peer: Peer, size: u32) -> Result<(Access, Place), Refused> {
        if !is_authentic(peer) {
            return Err(Refused::Stranger);
        }
        let accept = AssertUnwindSafe(|| self.shared.service.accept(peer));
        let access = catch_unwind(accept).unwrap_or(Err(Refused::Stranger))?;
        Ok((access, self.shared.take_place(peer, size)?))
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
