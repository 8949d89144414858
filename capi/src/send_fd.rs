//! Passing an open file to another process, as programs of the stack do with those that they start.

use crate::boundary::{Failure, bytes, value};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::ffi::c_void;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

/// Sends `fd` with the `len` bytes at `data` over a connected Unix socket, waiting until there is
/// room for it. On a stream nothing is sent without data: send at least a byte.
///
/// Returns how many bytes of `data` were sent, or a negative errno; no SIGPIPE is raised. It may be
/// called from any thread and after a fork.
// SAFETY: no other symbol has this name; of the pointer is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_send_fd(socket: i32, fd: i32, data: *const c_void, len: usize) -> isize {
    let sent = value(|| {
        if socket < 0 || fd < 0 {
            return Err(Failure::new(libc::EBADF, "no descriptor"));
        }
        // SAFETY: asked of the caller.
        let data = unsafe { bytes("data", data, len) }?;
        send(socket, fd, data).map_err(|errno| Failure::new(errno as i32, errno.desc()))
    });
    match sent {
        Ok(sent) => isize::try_from(sent).unwrap_or(isize::MAX),
        Err(errno) => -(errno as isize),
    }
}

fn send(socket: i32, fd: i32, data: &[u8]) -> nix::Result<usize> {
    let (parts, fds) = ([IoSlice::new(data)], [fd]);
    let rights = [ControlMessage::ScmRights(&fds)];
    loop {
        match sendmsg::<()>(socket, &parts, &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait_for_room(socket)?,
            result => return result,
        }
    }
}

fn wait_for_room(socket: i32) -> nix::Result<()> {
    /// A datagram socket may say that there is room when its peer has none.
    const PAUSE_MS: u16 = 10;
    // SAFETY: not negative, and sendmsg has just used it; it is not closed here.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    match poll(&mut [PollFd::new(socket, PollFlags::POLLOUT)], PollTimeout::from(PAUSE_MS)) {
        Err(errno) if errno != Errno::EINTR => Err(errno),
        _ => Ok(()),
    }
}
