//! The client of rrdcached's text protocol, as far as updates need it. Every wait is bounded: a
//! daemon that hangs is left alone for a while.

use crate::clock::Clock;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a daemon that hung is not asked again.
const REST: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_MAX: usize = 16384;

#[derive(Debug)]
pub(super) struct Rrdcached {
    socket: PathBuf,
    clock: Clock,
    connection: Option<UnixStream>,
    /// Uptime before which the daemon is not asked.
    rest_until: Duration,
}

/// Why rrdcached did not take an update.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no daemon, or it does not answer in time, or in another language.
    #[error("{0}")]
    Away(io::Error),
    /// It hung a short while ago and is not asked.
    #[error("it hung")]
    Resting,
    /// Its own words.
    #[error("{0}")]
    Refused(String),
}

impl Rrdcached {
    pub(super) fn new(socket: PathBuf, clock: Clock) -> Rrdcached {
        Rrdcached { socket, clock, connection: None, rest_until: Duration::ZERO }
    }

    /// Hands over one set of values (`time:value:...`) for a file.
    pub(super) fn update(&mut self, file: &Path, values: &[u8]) -> Result<(), Error> {
        if self.clock.uptime() < self.rest_until {
            return Err(Error::Resting);
        }
        let mut line = b"UPDATE ".to_vec();
        push_escaped(&mut line, file.as_os_str().as_bytes());
        line.push(b' ');
        line.extend_from_slice(values);
        line.push(b'\n');
        // A connection from before may have lost its daemon since; a new one tells.
        let had_one = self.connection.is_some();
        let answer = match self.ask(&line) {
            Err(error) if had_one && !is_timeout(&error) => self.ask(&line),
            answer => answer,
        };
        let answer = answer.map_err(|error| {
            if is_timeout(&error) {
                self.rest_until = self.clock.uptime() + REST;
            }
            Error::Away(error)
        })?;
        if answer.starts_with('-') { Err(Error::Refused(answer)) } else { Ok(()) }
    }

    /// Sends a line and reads the answer's first. A connection that failed is not used again.
    fn ask(&mut self, line: &[u8]) -> io::Result<String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.socket)?,
        };
        connection.set_write_timeout(Some(PATIENCE))?;
        connection.write_all(line)?;
        let answer = self.read_answer(&mut connection)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// An answer is a line that begins with how many lines follow, or with a negative number.
    fn read_answer(&self, connection: &mut UnixStream) -> io::Result<String> {
        let deadline = self.clock.uptime() + PATIENCE;
        let mut read = Vec::new();
        loop {
            if let Some(first) = complete(&read)? {
                return Ok(first);
            }
            let left = deadline.saturating_sub(self.clock.uptime());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            connection.set_read_timeout(Some(left))?;
            let mut chunk = [0; 512];
            let count = connection.read(&mut chunk)?;
            read.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if count == 0 || read.len() > ANSWER_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it broke off its answer"));
            }
        }
    }
}

/// The first line of an answer once all its lines are there.
fn complete(read: &[u8]) -> io::Result<Option<String>> {
    let Some(end) = read.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let first = String::from_utf8_lossy(read.get(..end).unwrap_or_default()).into_owned();
    let number = first.split(' ').next().and_then(|number| number.parse::<i64>().ok());
    let number = number.ok_or(io::Error::new(io::ErrorKind::InvalidData, "its answer is no rrdcached's"))?;
    let lines = read.iter().filter(|&&byte| byte == b'\n').count();
    let wanted = usize::try_from(number).unwrap_or(0).saturating_add(1);
    Ok((lines >= wanted).then_some(first))
}

/// Space and backslash end or escape a field.
fn push_escaped(line: &mut Vec<u8>, field: &[u8]) {
    for &byte in field {
        if byte == b' ' || byte == b'\\' {
            line.push(b'\\');
        }
        line.push(byte);
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Connects without waiting for a daemon that accepts nothing: the kernel then says so at once.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let connection = UnixStream::from(socket);
    connection.set_nonblocking(false)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_complete_with_their_lines() {
        assert_eq!(
            complete(b"0 errors, enqueued 1 value(s).\n").unwrap().unwrap(),
            "0 errors, enqueued 1 value(s)."
        );
        assert_eq!(complete(b"0 err").unwrap(), None);
        assert_eq!(complete(b"2 lines follow\none\n").unwrap(), None);
        assert_eq!(complete(b"2 lines follow\none\ntwo\n").unwrap().unwrap(), "2 lines follow");
        assert_eq!(complete(b"-1 No such file: /x\n").unwrap().unwrap(), "-1 No such file: /x");
        assert!(complete(b"HTTP/1.1 400 Bad Request\n").is_err());
        assert!(complete(b"\n").is_err());
        assert_eq!(complete(b"9223372036854775807 x\n").unwrap(), None);
    }

    #[test]
    fn fields_are_escaped() {
        let mut line = Vec::new();
        push_escaped(&mut line, br"/db/a b\c");
        assert_eq!(line, br"/db/a\ b\\c");
    }

    /// A daemon that has stopped to accept, and whose queue of connections is full.
    #[test]
    fn a_full_backlog_is_not_waited_for() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sock");
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        socket::bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&listener, socket::Backlog::new(1).unwrap()).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match connect(&path) {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100);
        };
        assert!(is_timeout(&full), "{full}");
        let mut rrdcached = Rrdcached::new(path, Clock::start());
        assert!(matches!(rrdcached.update(Path::new("/x"), b"1:2"), Err(Error::Away(_))));
        assert!(matches!(rrdcached.update(Path::new("/x"), b"1:2"), Err(Error::Resting)));
    }

    #[test]
    fn a_missing_daemon_is_asked_again() {
        let mut rrdcached = Rrdcached::new(PathBuf::from("/nonexistent/sock"), Clock::start());
        for _ in 0..2 {
            assert!(matches!(rrdcached.update(Path::new("/x"), b"1:2"), Err(Error::Away(_))));
        }
    }
}
