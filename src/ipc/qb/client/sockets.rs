//! Messages over datagram sockets: one for requests and answers, one for events, which nobody here
//! reads. All have abstract names, below one that the server gave. A small file, shared with the
//! server, counts what is on its way.

use super::files::open_file;
use super::{ClientError, Deadline, LIVENESS_INTERVAL, wait_beside};
use crate::ipc::qb::mapping::Mapping;
use crate::ipc::qb::wire::{AuthResponse, RESPONSE_HEADER_LEN, control_file};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, UnixAddr, bind, connect, getsockopt, recv,
    sendmsg, setsockopt, socket, sockopt,
};
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// libqb passes the whole address, so the NULs behind the name are part of it.
const NAME_LEN: usize = 107;
/// libqb cuts longer names.
const NAME_MAX: usize = 106;
/// The strength of a request to hold back that libqb's clients respect by default.
const HOLD_BACK: u32 = 1;
const CUT: ClientError = ClientError::Protocol("the control file was cut");

#[derive(Debug)]
pub(super) struct Sockets {
    messages: OwnedFd,
    events: OwnedFd,
    control: Mapping,
    control_path: PathBuf,
    /// The longest message to take; a server may send a little more than was agreed.
    longest: usize,
}

impl Sockets {
    /// Connects to the sockets that the server made for us.
    pub(super) fn open(response: &AuthResponse) -> Result<Self, ClientError> {
        let [control_path, base, _] = &response.rings;
        let control_path = Path::new(OsStr::from_bytes(control_path));
        if !control_path.is_absolute() || base.first() != Some(&b'/') {
            return Err(ClientError::Protocol("path of a control file"));
        }
        let file = open_file(control_path, control_file::LEN)?;
        let (control, _) = Mapping::of_files(&[(file.as_fd(), control_file::LEN)])?;
        let size = response.max_message_size as usize;
        let messages = open_socket(base, b"-response", b"-request", size)?;
        let events = open_socket(base, b"-event", b"-event-tx", size)?;
        let longest = size.saturating_mul(2);
        Ok(Self { messages, events, control, control_path: control_path.into(), longest })
    }

    /// The socket of events.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn counter(&self, offset: usize) -> &AtomicU32 {
        self.control.u32(offset)
    }

    /// Sends the message that the `parts` are together.
    pub(super) fn send(&mut self, parts: &[&[u8]]) -> Result<(), ClientError> {
        if self.counter(control_file::FLOW_CONTROL).load(Ordering::Relaxed) == HOLD_BACK {
            return Err(ClientError::Busy);
        }
        let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = loop {
            match sendmsg::<()>(self.messages.as_raw_fd(), &parts, &[], flags, None) {
                Err(Errno::EINTR) => {}
                sent => break sent,
            }
        };
        match sent {
            Ok(_) => self.counter(control_file::REQUESTS_SENT).fetch_add(1, Ordering::AcqRel),
            Err(Errno::EAGAIN | Errno::ENOBUFS) => return Err(ClientError::Busy),
            Err(Errno::EMSGSIZE) => return Err(ClientError::TooLong),
            Err(_) => return Err(ClientError::NotConnected),
        };
        if self.control.is_broken() { Err(CUT) } else { Ok(()) }
    }

    /// Waits for the next message.
    pub(super) fn receive(
        &mut self,
        setup: BorrowedFd<'_>,
        deadline: Deadline,
        message: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let mut alive = true;
        while !self.take(message)? {
            if !alive {
                return Err(ClientError::NotConnected);
            }
            let slice = deadline.slice(LIVENESS_INTERVAL).ok_or(ClientError::TimedOut)?;
            // Its last answer may have come before its end: the socket is looked at once more.
            alive = wait_beside(setup, self.messages.as_fd(), slice)?;
        }
        self.counter(control_file::RESPONSES_SENT).fetch_sub(1, Ordering::AcqRel);
        if self.control.is_broken() { Err(CUT) } else { Ok(()) }
    }

    /// Takes the message that is there, if any.
    fn take(&self, message: &mut Vec<u8>) -> Result<bool, ClientError> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let len = match recv(self.messages.as_raw_fd(), &mut [], flags | MsgFlags::MSG_PEEK) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(_) => return Err(ClientError::NotConnected),
            Ok(len) if len > self.longest => return Err(ClientError::Protocol("length of a datagram")),
            // libqb's way to say goodbye.
            Ok(len) if len < RESPONSE_HEADER_LEN => return Err(ClientError::NotConnected),
            Ok(len) => len,
        };
        message.resize(len, 0);
        match recv(self.messages.as_raw_fd(), message, flags) {
            Ok(received) if received == len => Ok(true),
            _ => Err(ClientError::Protocol("a datagram that vanished")),
        }
    }

    /// Removes the control file and its directory in the place of a server that was killed, as far
    /// as we may: what is left, the next server removes.
    pub(super) fn remove(&self) {
        let _ = std::fs::remove_file(&self.control_path);
        if let Some(directory) = self.control_path.parent() {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// A socket with the name `base` and `own`, connected to that of `base` and `peer`.
fn open_socket(base: &[u8], own: &[u8], peer: &[u8], size: usize) -> Result<OwnedFd, ClientError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    // Before it has a name: from here on only the peer can send to it.
    connect(fd.as_raw_fd(), &address(base, peer)?)?;
    bind(fd.as_raw_fd(), &address(base, own)?)?;
    // Without privileges the kernel gives what it allows; longer messages are refused then.
    if getsockopt(&fd, sockopt::SndBuf)? <= size {
        setsockopt(&fd, sockopt::SndBuf, &size)?;
    }
    if getsockopt(&fd, sockopt::RcvBuf)? <= size {
        setsockopt(&fd, sockopt::RcvBuf, &size)?;
    }
    Ok(fd)
}

fn address(base: &[u8], suffix: &[u8]) -> Result<UnixAddr, ClientError> {
    let mut name = [base, suffix].concat();
    name.truncate(NAME_MAX);
    name.resize(NAME_LEN, 0);
    let address = UnixAddr::new_abstract(&name)?;
    debug_assert_eq!(address.len() as usize, NAME_LEN + 3);
    Ok(address)
}
