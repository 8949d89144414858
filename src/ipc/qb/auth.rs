//! The server's side of the handshake: peers that have connected and not yet said what they want.
//! They hold a descriptor each, so they are few, and they have a deadline.

use super::credentials::{Received, receive};
use super::own;
use super::wire::{AUTH_REQUEST_LEN, AuthRequest, AuthResponse};
use crate::ipc::server::Peer;
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, send, sendmsg, setsockopt, sockopt};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A peer before its request is complete.
#[derive(Debug)]
pub(crate) struct Pending {
    socket: UnixStream,
    /// Who holds the place, for a fair choice when places run out; not who is served.
    uid: u32,
    /// The uptime at which it is dropped.
    deadline: Duration,
    request: [u8; AUTH_REQUEST_LEN],
    received: usize,
    /// Whom the bytes so far are from.
    sender: Option<Peer>,
}

/// What a peer's bytes have come to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Not yet enough.
    Waiting(Pending),
    /// Someone asks for a connection.
    Asked(UnixStream, Peer, Asked),
    /// To be dropped without a word, as libqb does.
    Dropped,
}

/// What a peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) request: AuthRequest,
    /// Whether the peer knows connections of our own.
    pub(crate) own: bool,
}

impl Pending {
    /// A peer that has just connected.
    pub(crate) fn new(socket: UnixStream, deadline: Duration) -> Self {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials);
        Self::of_user(socket, credentials.map_or(u32::MAX, |credentials| credentials.uid()), deadline)
    }

    /// A peer that counts as one of user `uid`.
    pub(super) fn of_user(socket: UnixStream, uid: u32, deadline: Duration) -> Self {
        Self { socket, uid, deadline, request: [0; AUTH_REQUEST_LEN], received: 0, sender: None }
    }

    /// The socket, to poll.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The user that holds this place.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// The uptime at which it is dropped.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Reads what has arrived.
    pub(crate) fn advance(mut self) -> Progress {
        while self.received < AUTH_REQUEST_LEN {
            match receive(&self.socket, &mut self.request[self.received..]) {
                Received::Nothing => return Progress::Waiting(self),
                Received::End => return Progress::Dropped,
                Received::Bytes(_, sender) if self.sender.is_some_and(|first| first != sender) => {
                    return Progress::Dropped;
                }
                Received::Bytes(len, sender) => {
                    self.received += len;
                    self.sender = Some(sender);
                }
            }
        }
        match (AuthRequest::parse(&self.request), self.sender) {
            (Ok(request), Some(sender)) => {
                let own = own::is_marked(&self.request);
                Progress::Asked(self.socket, sender, Asked { request, own })
            }
            _ => Progress::Dropped,
        }
    }
}

/// Whether the kernel could name the peer: without a process it is nobody, and a user or group of
/// an unmapped namespace shows as the overflow id, which others may share.
pub(crate) fn is_authentic(peer: Peer) -> bool {
    const OVERFLOW_ID: u32 = 65534;
    let real = |id| id != OVERFLOW_ID && id != u32::MAX;
    peer.pid > 0 && real(peer.uid) && real(peer.gid)
}

/// Sends the answer to a marked request, with the memory that it is about.
///
/// # Errors
/// If the client is gone.
pub(crate) fn respond_to_own(socket: &UnixStream, answer: &own::Answer, memory: &OwnedFd) -> io::Result<()> {
    setsockopt(socket, sockopt::PassCred, &false)?;
    let bytes = answer.encode();
    let descriptors = [memory.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &control, flags, None)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Sends the response. A stock client fails if not all of it is there at once, so it is one send,
/// for which the empty buffer of the new connection has room.
///
/// # Errors
/// If the client is gone, or a part of it did not fit.
pub(crate) fn respond(socket: &UnixStream, response: &AuthResponse) -> io::Result<()> {
    setsockopt(socket, sockopt::PassCred, &false)?;
    let bytes = response.encode().ok_or(io::ErrorKind::InvalidInput)?;
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    if send(socket.as_raw_fd(), &bytes, flags)? != bytes.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn pair() -> (Pending, UnixStream) {
        let (server, client) = UnixStream::pair().unwrap();
        setsockopt(&server, sockopt::PassCred, &true).unwrap();
        (Pending::new(server, Duration::from_secs(1)), client)
    }

    #[test]
    fn a_request_in_pieces_is_put_together() {
        let (mut pending, mut client) = pair();
        let request = AuthRequest { max_message_size: 4711 };
        for byte in request.encode() {
            pending = match pending.advance() {
                Progress::Waiting(pending) => pending,
                other => panic!("{other:?}"),
            };
            client.write_all(&[byte]).unwrap();
        }
        let Progress::Asked(_, peer, asked) = pending.advance() else { panic!("not asked") };
        assert_eq!(asked, Asked { request, own: false });
        let (pid, uid, gid) = (std::process::id(), nix::unistd::getuid(), nix::unistd::getgid());
        assert_eq!((peer.pid as u32, peer.uid, peer.gid), (pid, uid.as_raw(), gid.as_raw()));
    }

    #[test]
    fn a_mark_is_seen() {
        let (pending, mut client) = pair();
        let request = AuthRequest { max_message_size: 4711 };
        let mut bytes = request.encode();
        own::mark(&mut bytes);
        client.write_all(&bytes).unwrap();
        let Progress::Asked(_, _, asked) = pending.advance() else { panic!("not asked") };
        assert_eq!(asked, Asked { request, own: true });
    }

    #[test]
    fn a_peer_that_leaves_or_says_something_else_is_dropped() {
        let (pending, client) = pair();
        drop(client);
        assert!(matches!(pending.advance(), Progress::Dropped));
        let (pending, mut client) = pair();
        client.write_all(&[0; AUTH_REQUEST_LEN]).unwrap();
        assert!(matches!(pending.advance(), Progress::Dropped));
    }

    #[test]
    fn descriptors_sent_along_are_not_taken() {
        let (pending, client) = pair();
        let (mut read, write) = UnixStream::pair().unwrap();
        let request = AuthRequest { max_message_size: 1 }.encode();
        let fds = [write.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        let data = [IoSlice::new(&request)];
        sendmsg::<()>(client.as_raw_fd(), &data, &control, MsgFlags::empty(), None).unwrap();
        assert!(matches!(pending.advance(), Progress::Dropped));
        drop(write);
        assert_eq!(read.read(&mut [0]).unwrap(), 0, "no copy of the descriptor is open");
    }

    #[test]
    fn nobody_and_unmapped_ids_are_not_authentic() {
        let peer = Peer { pid: 1, uid: 0, gid: 0 };
        assert!(is_authentic(peer));
        assert!(!is_authentic(Peer { pid: 0, ..peer }));
        assert!(!is_authentic(Peer { uid: 65534, ..peer }));
        assert!(!is_authentic(Peer { gid: 65534, ..peer }));
        assert!(!is_authentic(Peer { gid: u32::MAX, ..peer }));
    }

    #[test]
    fn a_response_arrives_whole() {
        let (server, mut client) = UnixStream::pair().unwrap();
        respond(&server, &AuthResponse::refusal(13)).unwrap();
        drop(server);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(AuthResponse::parse(&bytes).unwrap().error, -13);
    }
}
