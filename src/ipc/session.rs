//! What a program keeps for life to talk to the daemon: a connection that is made when it is needed,
//! and again when the daemon was restarted, or when the program has forked. Programs of the stack
//! expect that of whatever connects them.

use super::qb::client::{Client, ClientError, ConnectOptions, Deadline};
use super::qb::wire::ResponseHeader;
use crate::clock::Clock;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long to wait before looking again whether the daemon is back.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What to do while the daemon is being restarted.
#[derive(Debug, Clone)]
pub struct Restart {
    /// The file that is there meanwhile.
    pub flag: PathBuf,
    /// How long that may last. After that the file is removed: whoever made it will not.
    pub patience: Duration,
}

/// How to connect, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// The service.
    pub service: String,
    /// How to connect to it once.
    pub connect: ConnectOptions,
    /// Whether to wait for a daemon that is being restarted.
    pub restart: Option<Restart>,
    /// Whether to send a request again, once, if the daemon ended before it was answered.
    pub resend: bool,
}

/// A connection that comes back.
#[derive(Debug)]
pub struct Session {
    options: Options,
    client: Option<Client>,
    /// The process that `client` belongs to.
    owner: u32,
    clock: Clock,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// As of [`Client::connect_with`], for the last attempt.
    pub fn open(options: Options) -> Result<Self, ClientError> {
        let clock = Clock::start();
        let mut session = Self { options, client: None, owner: std::process::id(), clock };
        session.client()?;
        Ok(session)
    }

    /// Sends a request and waits for its answer, which is in `message` then, its header included.
    /// Without `timeout` as long as there is a daemon.
    ///
    /// # Errors
    /// As of [`Client::request`], and of [`Session::open`] if there is no connection any more.
    pub fn request(
        &mut self,
        id: i32,
        body: &[u8],
        timeout: Option<Duration>,
        message: &mut Vec<u8>,
    ) -> Result<ResponseHeader, ClientError> {
        let deadline = Deadline::new(self.clock, timeout);
        match self.request_once(id, body, deadline, message) {
            Err(ClientError::NotConnected) if self.options.resend => {
                self.request_once(id, body, deadline, message)
            }
            result => result,
        }
    }

    /// Ends the connection; the next request makes a new one.
    pub fn disconnect(&mut self) {
        self.leave_to_parent();
        self.client = None;
    }

    /// The socket of the connection, as long as there is one.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.current().map(Client::socket)
    }

    /// The longest message that was agreed on, as long as there is a connection.
    pub fn max_message_size(&self) -> Option<u32> {
        self.current().map(Client::max_message_size)
    }

    fn current(&self) -> Option<&Client> {
        self.client.as_ref().filter(|client| client.is_connected() && self.owner == std::process::id())
    }

    fn request_once(
        &mut self,
        id: i32,
        body: &[u8],
        deadline: Deadline,
        message: &mut Vec<u8>,
    ) -> Result<ResponseHeader, ClientError> {
        let client = self.client_until(deadline)?;
        let result = client.request_into(id, body, deadline.left()?, message);
        if !client.is_connected() {
            self.client = None;
        }
        result
    }

    fn client(&mut self) -> Result<&mut Client, ClientError> {
        self.client_until(Deadline::new(self.clock, None))
    }

    /// The connection, made anew if need be.
    fn client_until(&mut self, deadline: Deadline) -> Result<&mut Client, ClientError> {
        self.leave_to_parent();
        let client = match self.client.take() {
            Some(client) => client,
            None => self.connect(deadline)?,
        };
        Ok(self.client.insert(client))
    }

    /// After a fork, two processes would write into the same rings.
    fn leave_to_parent(&mut self) {
        let process = std::process::id();
        if self.owner != process {
            self.owner = process;
            if let Some(client) = self.client.take() {
                client.abandon();
            }
        }
    }

    fn connect(&self, deadline: Deadline) -> Result<Client, ClientError> {
        let restart = self.options.restart.as_ref();
        // Held open, to know later whether it is still the same.
        let flag = restart.and_then(|restart| Some((restart, File::open(&restart.flag).ok()?)));
        let patience = Deadline::new(self.clock, restart.map(|restart| restart.patience));
        loop {
            let error = match self.connect_once(deadline) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let Some((restart, flag)) = flag.as_ref().filter(|_| may_come_back(&error)) else {
                return Err(error);
            };
            let Some(pause) = patience.slice(RETRY_INTERVAL) else {
                if flag.metadata().is_ok_and(|metadata| metadata.nlink() > 0) {
                    // If we may not, another may.
                    let _ = std::fs::remove_file(&restart.flag);
                }
                return Err(error);
            };
            std::thread::sleep(deadline.slice(pause).unwrap_or_default());
            if deadline.left().is_err() {
                return Err(error);
            }
        }
    }

    fn connect_once(&self, deadline: Deadline) -> Result<Client, ClientError> {
        let left = deadline.left()?;
        let own = self.options.connect.timeout;
        let timeout = own.into_iter().chain(left).min();
        let options = ConnectOptions { timeout, ..self.options.connect.clone() };
        Client::connect_with(&self.options.service, &options)
    }
}

/// Whether a daemon that is being restarted may answer like that.
fn may_come_back(error: &ClientError) -> bool {
    matches!(error, ClientError::Io(_) | ClientError::NotConnected | ClientError::TimedOut)
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave_to_parent();
    }
}
