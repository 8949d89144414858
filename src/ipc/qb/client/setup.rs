//! The client's side of the handshake.

use super::{ClientError, Deadline, wait_for};
use crate::ipc::qb::address::{Address, Namespace};
use crate::ipc::qb::credentials::{Received, receive_with};
use crate::ipc::qb::holder::{Holder, is_trusted, listener_of};
use crate::ipc::qb::own;
use crate::ipc::qb::wire::{AUTH_RESPONSE_LEN, AuthRequest, AuthResponse};
use crate::ipc::server::Peer;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, connect as connect_socket, send, setsockopt, socket, sockopt,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Wait for a full queue after which the client looks for the process that holds the address. A process of another user
/// that accepts no connections would block it until the deadline.
const FULL_QUEUE_PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait before trying again when too many others are waiting to be accepted.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);
/// A wait without a limit is made of these.
const LONG: Duration = Duration::from_secs(3600);

/// Connects to the setup socket.
pub(super) fn connect(
    service: &str,
    namespace: &Namespace,
    deadline: Deadline,
) -> Result<OwnedFd, ClientError> {
    let name = Address::new(service, namespace);
    let address = name.to_nix()?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let mut waited = Duration::ZERO;
    loop {
        match connect_socket(fd.as_raw_fd(), &address) {
            Err(Errno::EAGAIN) => {
                let before = waited;
                waited += RETRY_INTERVAL;
                if before < FULL_QUEUE_PATIENCE && waited >= FULL_QUEUE_PATIENCE {
                    // Finding a listener that accepts nothing can need the rights of a debugger. Without them the
                    // client waits until its deadline.
                    Holder::at(&name).map_or(Ok(()), |holder| trust(holder.process))?;
                }
                let pause = deadline.slice(RETRY_INTERVAL).ok_or(ClientError::TimedOut)?;
                std::thread::sleep(pause);
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => break,
        }
    }
    // Any local user can bind an abstract address. Without this check a server that never responds would
    // block the client until its deadline.
    trust(listener_of(&fd)?)?;
    Ok(fd)
}

fn trust(server: Peer) -> Result<(), ClientError> {
    if is_trusted(server.uid) { Ok(()) } else { Err(ClientError::Untrusted(server)) }
}

/// What a server answers.
pub(super) enum Answer {
    /// What any server of libqb does.
    Libqb(AuthResponse),
    /// One of ours, to a marked request, with the memory that belongs to it.
    Own(own::Answer, OwnedFd),
}

/// Asks for a connection, with our mark or without, and reads the answer, which must come from root or from
/// our own user: an abstract address can be taken by anybody.
pub(super) fn authenticate(
    socket: &OwnedFd,
    max_message_size: u32,
    marked: bool,
    deadline: Deadline,
) -> Result<(Answer, Peer), ClientError> {
    setsockopt(socket, sockopt::PassCred, &true)?;
    let mut request = AuthRequest { max_message_size }.encode();
    if marked {
        own::mark(&mut request);
    }
    match send(socket.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL) {
        Ok(len) if len == request.len() => {}
        Err(Errno::EPIPE) | Ok(_) => return Err(ClientError::NotConnected),
        Err(error) => return Err(error.into()),
    }
    let mut descriptors = Vec::new();
    let (bytes, server) = read_answer(socket, deadline, &mut descriptors)?;
    setsockopt(socket, sockopt::PassCred, &false)?;
    // The response may come from another process than the listening one.
    trust(server)?;
    let answer = match (descriptors.pop(), descriptors.pop()) {
        (None, _) => Answer::Libqb(AuthResponse::parse(&bytes)?),
        (Some(memory), None) if marked => Answer::Own(own::Answer::parse(&bytes)?, memory),
        _ => return Err(ClientError::Protocol("descriptors that nobody asked for")),
    };
    Ok((answer, server))
}

/// Reads an answer of either kind, whole, and what descriptors came with it.
fn read_answer(
    socket: &OwnedFd,
    deadline: Deadline,
    descriptors: &mut Vec<OwnedFd>,
) -> Result<(Vec<u8>, Peer), ClientError> {
    let mut bytes = vec![0; AUTH_RESPONSE_LEN];
    let mut received = 0;
    let mut server = None;
    while received < bytes.len() && !own::Answer::is_whole(&bytes[..received]) {
        match receive_with(socket, &mut bytes[received..], descriptors) {
            Received::End => return Err(ClientError::NotConnected),
            Received::Bytes(len, peer) => {
                if *server.get_or_insert(peer) != peer {
                    return Err(ClientError::Protocol("an answer of two processes"));
                }
                received += len;
            }
            Received::Nothing => {
                let slice = deadline.slice(LONG).ok_or(ClientError::TimedOut)?;
                wait_for(socket.as_fd(), PollFlags::POLLIN, slice)?;
            }
        }
    }
    bytes.truncate(received);
    server.map(|server| (bytes, server)).ok_or(ClientError::NotConnected)
}
