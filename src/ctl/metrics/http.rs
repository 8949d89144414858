//! One HTTP request on standard input, with the response on standard output: for a socket unit with
//! `Accept=yes`. `listen` serves listening sockets.

use super::request::{Answer, HEAD_MAX, Hosts, is_whole, respond};
use crate::clock::Clock;
use crate::ctl::CtlError;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long a request may take to come.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);

/// Answers the request on standard input. `metrics` is called only if the request is for them.
pub(super) fn serve_one(
    out: &mut dyn Write,
    hosts: &Hosts,
    metrics: impl FnOnce() -> String,
) -> Result<(), CtlError> {
    let answer = match read_head() {
        Ok(head) => respond(&head, hosts, metrics),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Answer::too_late(),
        Err(error) => return Err(CtlError::Failed(format!("cannot read the request: {error}"))),
    };
    out.write_all(&answer.encode())?;
    Ok(out.flush()?)
}

/// What was sent up to the empty line, or as much as a head may have.
fn read_head() -> io::Result<Vec<u8>> {
    let (clock, mut input) = (Clock::start(), io::stdin().lock());
    let mut head = Vec::new();
    while !is_whole(&head) && head.len() < HEAD_MAX {
        let left = TIMEOUT.checked_sub(clock.uptime()).ok_or(io::ErrorKind::TimedOut)?;
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) if error != interrupted() => return Err(error.into()),
            _ => {}
        }
        // All that came, so that the socket is readable again only when there is more.
        let came = input.fill_buf()?;
        let length = came.len();
        head.extend_from_slice(came);
        input.consume(length);
        if length == 0 {
            break;
        }
    }
    Ok(head)
}

pub(super) fn interrupted() -> Errno {
    crate::errno::INTERRUPTED
}
