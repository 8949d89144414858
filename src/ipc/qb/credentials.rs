//! Reading from a socket that tells who sends: bytes with the kernel's word for their sender, and, where
//! they are wanted, the descriptors sent along.
#![allow(unsafe_code, reason = "takes over descriptors from the kernel")]

use crate::ipc::server::Peer;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

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

/// The same, and puts the descriptors sent along to `descriptors`. Of more than a few the kernel closes some.
pub(crate) fn receive_with(
    socket: &impl AsRawFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Received {
    // In words, as a header must be aligned; for credentials and two descriptors.
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message names two buffers with their lengths, which nothing else uses during the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let len = match (usize::try_from(received), Errno::last()) {
        (Ok(len), _) => len,
        (Err(_), Errno::EAGAIN | Errno::EINTR) => return Received::Nothing,
        (Err(_), _) => return Received::End,
    };
    let mut peer = None;
    // SAFETY: the kernel has filled in the message, and the buffer of its control part is still there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: not null, so a header inside of the buffer, which is aligned for it.
        let header = unsafe { *next };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(next) };
        match header.cmsg_type {
            libc::SCM_RIGHTS => {
                // What is left of the length behind the header and its padding.
                // SAFETY: computes a length.
                let before = unsafe { libc::CMSG_LEN(0) } as usize;
                let count = header.cmsg_len.saturating_sub(before) / size_of::<RawFd>();
                // SAFETY: that many numbers are there, of descriptors that the kernel has opened for us alone.
                let opened = (0..count).map(|index| unsafe {
                    OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned())
                });
                descriptors.extend(opened);
            }
            libc::SCM_CREDENTIALS => {
                // SAFETY: the kernel has put credentials there, whole, as there is room for them.
                let from = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                peer = Some(Peer { pid: from.pid, uid: from.uid, gid: from.gid });
            }
            _ => {}
        }
        // SAFETY: as of the first.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    match (len, peer) {
        (1.., Some(peer)) => Received::Bytes(len, peer),
        _ => Received::End,
    }
}
