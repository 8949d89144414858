//! The setup socket after the handshake, as the server uses it: it rings for requests, and hangs up at the
//! end. On a connection of our own it also carries what is too long for the rings: the body of a request
//! right behind the byte that rings for it, the data of an answer by itself.
//!
//! For libqb's clients the bytes are a doorbell and nothing more: their number and value say nothing, only
//! the end of the socket does. Ours ring once for each request; so it is known where a body begins.

use super::connection::End;
use super::server::Shared;
use super::wire::{Malformed, REQUEST_HEADER_LEN, message_len};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Bytes that are read at once when they mean nothing.
const BELLS: usize = 256;

/// The server's end.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    socket: &'a UnixStream,
    /// Of a connection of our own: how many requests more were taken than rung for. It may be -1.
    ahead: Option<i64>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(socket: &'a UnixStream, own: bool) -> Self {
        Self { socket, ahead: own.then_some(0) }
    }

    /// Whether what is too long for the rings goes over the socket.
    pub(crate) fn is_own(&self) -> bool {
        self.ahead.is_some()
    }

    /// Waits for the bell if there is nothing else to do; notices the end of the client.
    pub(crate) fn wait(&mut self, idle: bool) -> Result<(), End> {
        let flags = if idle { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        loop {
            let mut bells = [0; BELLS];
            let most = match self.ahead {
                None => BELLS,
                // Up to the bell for the next request: behind that may be its body.
                Some(ahead) => usize::try_from(ahead + 1).map_or(0, |most| most.min(BELLS)),
            };
            match (most, idle) {
                (0, true) => return Err(Malformed("a bell without a request").into()),
                (0, false) => return Ok(()),
                _ => {}
            }
            let heard = match recv(self.socket.as_raw_fd(), &mut bells[..most], flags) {
                Ok(0) => return Err(End::Gone),
                Ok(heard) => heard,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(_) => return Err(End::Gone),
            };
            let Some(ahead) = &mut self.ahead else { return Ok(()) };
            *ahead -= heard as i64;
            // They were for requests that were found in the ring before.
            let late = *ahead >= 0;
            if !(late && idle) {
                return Ok(());
            }
        }
    }

    /// Notes that `message` was taken from the ring, and reads the rest of it if it is only the begin.
    pub(crate) fn take_rest(&mut self, message: &mut Vec<u8>, longest: usize) -> Result<(), End> {
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        *ahead += 1;
        let len = message_len(message).unwrap_or(0);
        if message.len() != REQUEST_HEADER_LEN || len <= REQUEST_HEADER_LEN {
            return Ok(());
        }
        if len > longest {
            return Err(Malformed("length of a request").into());
        }
        let mut bells = [0; BELLS];
        while *ahead > 0 {
            let most = usize::try_from(*ahead).unwrap_or(BELLS).min(BELLS);
            *ahead -= Self::read(self.socket, &mut bells[..most])? as i64;
        }
        message.resize(len, 0);
        let mut read = REQUEST_HEADER_LEN;
        while let Some(rest @ [_, ..]) = message.get_mut(read..) {
            read += Self::read(self.socket, rest)?;
        }
        Ok(())
    }

    fn read(socket: &UnixStream, bytes: &mut [u8]) -> Result<usize, End> {
        loop {
            match recv(socket.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return Err(End::Gone),
                Ok(len) => return Ok(len),
            }
        }
    }

    /// Sends as much of an answer's data as the socket takes now.
    pub(crate) fn offer(&self, data: &[u8]) -> Result<usize, End> {
        match send(self.socket.as_raw_fd(), data, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            Ok(sent) => Ok(sent),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM) => Ok(0),
            Err(_) => Err(End::Gone),
        }
    }

    /// Sends all of it; the client reads meanwhile.
    pub(crate) fn send(&self, shared: &Shared, mut data: &[u8]) -> Result<(), End> {
        let mut since = shared.clock.uptime();
        while !data.is_empty() {
            let sent = self.offer(data)?;
            if sent > 0 {
                data = data.get(sent..).unwrap_or_default();
                since = shared.clock.uptime();
                continue;
            }
            let waited = shared.clock.uptime().saturating_sub(since);
            let left = shared.options.room_timeout.checked_sub(waited).ok_or(End::NotReading)?;
            let timeout = left.max(Duration::from_millis(1));
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Err(End::Gone),
            }
        }
        Ok(())
    }
}
