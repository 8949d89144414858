//! A connection with libqb's habits: messages are the program's own, a late answer is kept for whoever
//! receives next, and so is one that is too long for the buffer it was to go to.

use pmxcfs::clock::Clock;
use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::{Client, ClientError, ConnectOptions};
use pmxcfs::ipc::qb::wire::AUTH_RESPONSE_LEN;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How long a request waits for room in the ring: a stock server answers a request before it takes
/// it out, so the next one may come too early.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);
const ROOM_PAUSE: Duration = Duration::from_micros(200);

/// A connection of this library, with the last message that it received.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    /// The last message; when `kept`, nobody has got it yet.
    message: Vec<u8>,
    kept: bool,
    /// False after an error that libqb takes for the end of a connection.
    connected: bool,
}

/// libqb's time in milliseconds: negative is no limit.
fn limit(milliseconds: i32) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

impl Connection {
    pub(crate) fn open(service: &str, max_message_size: usize) -> Result<Self, i32> {
        // libqb never asks for less than its handshake needs; a stock server agrees to any size.
        let max_message_size =
            u32::try_from(max_message_size).unwrap_or(u32::MAX).max(AUTH_RESPONSE_LEN as u32);
        // libqb has no limit either.
        let (namespace, timeout) = (Namespace::Machine, None);
        let options = ConnectOptions { namespace, max_message_size, timeout, as_libqb: true };
        let client = Client::connect_with(service, &options).map_err(|error| error.to_errno())?;
        Ok(Self { client, message: Vec::new(), kept: false, connected: true })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected && self.client.is_connected()
    }

    pub(crate) fn message_max(&self) -> u32 {
        self.client.max_message_size()
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.client.event_socket().as_raw_fd()
    }

    /// Sends a message; how long it is.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) -> Result<usize, i32> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len == 0 {
            // Nothing to take out on the other side.
            return Err(libc::EINVAL);
        }
        self.client.send_message(parts).map_err(|error| error.to_errno())?;
        Ok(len)
    }

    /// The same, but waits a while for room.
    pub(crate) fn send_waiting(&mut self, parts: &[&[u8]], ms_timeout: i32) -> Result<usize, i32> {
        let clock = Clock::start();
        let limit = limit(ms_timeout).unwrap_or(ROOM_TIMEOUT).min(ROOM_TIMEOUT);
        loop {
            match self.send(parts) {
                Err(libc::EAGAIN) if clock.uptime() < limit => std::thread::sleep(ROOM_PAUSE),
                result => return result,
            }
        }
    }

    /// Waits for an event, which no service of pmxcfs sends, for this time or until the server ends.
    pub(crate) fn receive_event(&self, ms_timeout: i32) -> Result<usize, i32> {
        if !self.is_connected() {
            return Err(libc::ENOTCONN);
        }
        let mut event = libc::pollfd { fd: self.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor of this connection.
        match unsafe { libc::poll(&raw mut event, 1, ms_timeout) } {
            0 => Err(libc::EAGAIN),
            1.. => Err(libc::ENOTCONN),
            _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    /// Waits for the next message; how long it is.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], ms_timeout: i32) -> Result<usize, i32> {
        if !self.kept {
            let received = self.client.receive_message(limit(ms_timeout), &mut self.message);
            received.map_err(|error: ClientError| error.to_errno())?;
        }
        let len = self.message.len();
        self.kept = len > buffer.len();
        let Some(room) = buffer.get_mut(..len) else {
            self.connected = false;
            return Err(libc::ENOBUFS);
        };
        room.copy_from_slice(&self.message);
        Ok(len)
    }
}
