//! Reading from a socket that tells who sends: bytes with the kernel's word for their sender.

use crate::ipc::server::Peer;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, from this process.
    Bytes(usize, Peer),
    /// Nothing for now.
    Nothing,
    /// The end, or bytes whose sender is not known: the same as nothing that can be used.
    End,
}

/// Reads into `bytes`, which is not empty, without waiting. Descriptors sent along are closed.
pub(crate) fn receive(socket: &impl AsRawFd, bytes: &mut [u8]) -> Received {
    let mut parts = [IoSliceMut::new(bytes)];
    // Room for the credentials only: the kernel closes descriptors for which there is none.
    let mut control = cmsg_space!(UnixCredentials);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Err(Errno::EAGAIN | Errno::EINTR) => return Received::Nothing,
        Err(_) => return Received::End,
        Ok(message) => message,
    };
    let Ok(control) = message.cmsgs() else { return Received::End };
    let mut peers = control.map(|message| match message {
        ControlMessageOwned::ScmCredentials(from) => {
            Some(Peer { pid: from.pid(), uid: from.uid(), gid: from.gid() })
        }
        _ => None,
    });
    match (message.bytes, peers.next().flatten(), peers.next()) {
        (0, ..) => Received::End,
        (len, Some(peer), None) => Received::Bytes(len, peer),
        _ => Received::End,
    }
}
