//! Poll on corosync's descriptors, which its libraries own and hand out as numbers.
#![allow(unsafe_code, reason = "borrows descriptors of corosync's libraries")]

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

/// Blocks until the wakeup fires, a descriptor is readable or broken, or the timeout passes. Returns the
/// readiness of the wakeup and of each descriptor. They are checked in order, so a descriptor that became
/// readable before an earlier one is reported in the same call.
pub(super) fn poll_for_reading<const N: usize>(
    wakeup: BorrowedFd<'_>,
    fds: [Option<RawFd>; N],
    most: Duration,
) -> (bool, [bool; N]) {
    let watched = |fd: RawFd| {
        // SAFETY: the number comes from a connection that the caller holds across this call, and
        // whose library closes the descriptor only when the connection is closed.
        PollFd::new(unsafe { BorrowedFd::borrow_raw(fd) }, PollFlags::POLLIN)
    };
    let mut polled = vec![PollFd::new(wakeup, PollFlags::POLLIN)];
    polled.extend(fds.iter().flatten().map(|fd| watched(*fd)));
    // Rounded up, so that what is due is due when this returns.
    let milliseconds = u16::try_from(most.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX);
    match poll(&mut polled, PollTimeout::from(milliseconds)) {
        // A signal is handled elsewhere; all is looked at again.
        Err(Errno::EINTR) => return (true, fds.map(|fd| fd.is_some())),
        Err(error) => log::error!(target: "main", "waiting for corosync: {error}"),
        Ok(_) => {}
    }
    let mut results = polled.iter().map(|fd| fd.revents().is_none_or(|events| !events.is_empty()));
    let wakeup = results.next().unwrap_or(true);
    (wakeup, fds.map(|fd| fd.is_some() && results.next().unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_what_can_be_read_is_told() {
        let (wakeup, _ring) = UnixStream::pair().expect("sockets");
        let (quiet, _other) = UnixStream::pair().expect("sockets");
        let (talking, mut other) = UnixStream::pair().expect("sockets");
        other.write_all(b"x").expect("written");
        let (broken, gone) = UnixStream::pair().expect("sockets");
        drop(gone);
        let fds = [Some(quiet.as_raw_fd()), None, Some(talking.as_raw_fd()), Some(broken.as_raw_fd())];
        assert_eq!(
            poll_for_reading(wakeup.as_fd(), fds, Duration::from_secs(60)),
            (false, [false, false, true, true])
        );
        let none = [Some(quiet.as_raw_fd()), None];
        assert_eq!(poll_for_reading(wakeup.as_fd(), none, Duration::ZERO), (false, [false, false]));
    }
}
