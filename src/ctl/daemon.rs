//! The daemon that is asked.

use super::CtlError;
use super::options::Options;
use crate::errno::UNKNOWN_REQUEST;
use crate::ipc::calls;
use crate::ipc::ops::Op;
use crate::ipc::qb::Namespace;
use crate::ipc::qb::client::{Client, ConnectOptions};
use crate::ipc::server::{Peer, Response};
use serde_json::Value;
use std::io;
use std::time::Duration;

/// The longest message that the stack's programs ask for.
const MESSAGE_MAX: u32 = 8192 * 128;
/// How much longer than a request itself waits its answer may take.
const SLACK: Duration = Duration::from_secs(5);

/// A connection.
pub(super) struct Daemon<'a> {
    client: Client,
    options: &'a Options,
}

/// Why the daemon gave no data, with the request that was made.
pub(super) enum NoAnswer {
    /// It does not know such requests.
    Unknown,
    /// There is no such thing.
    Missing,
    Other(CtlError),
}

impl From<NoAnswer> for CtlError {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Unknown => Self::Unsupported("that"),
            NoAnswer::Missing => Self::Failed("there is nothing of that name".to_owned()),
            NoAnswer::Other(error) => error,
        }
    }
}

impl<'a> Daemon<'a> {
    pub(super) fn connect(options: &'a Options) -> Result<Self, CtlError> {
        let connect = ConnectOptions {
            namespace: Namespace::Machine,
            max_message_size: MESSAGE_MAX,
            timeout: Some(options.timeout),
            as_libqb: false,
        };
        let client = Client::connect_with(&options.service, &connect);
        Ok(Self { client: client.map_err(|error| CtlError::of_client(error, options))?, options })
    }

    /// The daemon's process.
    pub(super) fn process(&self) -> Peer {
        self.client.server()
    }

    /// Asks, and says what `what` is if it may not be asked.
    pub(super) fn ask(&mut self, op: Op, body: &[u8], what: &str) -> Result<Vec<u8>, NoAnswer> {
        self.ask_within(op, body, what, self.options.timeout)
    }

    fn ask_within(
        &mut self,
        op: Op,
        body: &[u8],
        what: &str,
        timeout: Duration,
    ) -> Result<Vec<u8>, NoAnswer> {
        let response = self.client.request(op.id(), body, Some(timeout));
        let response = response.map_err(|error| NoAnswer::Other(CtlError::of_client(error, self.options)))?;
        data(response, what)
    }

    /// Asks for a text that is JSON.
    pub(super) fn ask_json(&mut self, op: Op, body: &[u8], what: &str) -> Result<Value, NoAnswer> {
        let data = self.ask(op, body, what)?;
        parse(&data, what)
    }

    /// What this daemon is and does; None if it is a stock one, which does not tell.
    pub(super) fn status(&mut self) -> Result<Option<Value>, CtlError> {
        match self.ask_json(Op::GetDaemonStatus, &[], "the daemon's status") {
            Ok(status) => Ok(Some(status)),
            Err(NoAnswer::Unknown) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// What changed after `cursor`; waits for it, for as long as `wait` says.
    pub(super) fn changes(&mut self, cursor: u64, wait: Duration) -> Result<Value, NoAnswer> {
        let what = "changes";
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let data =
            self.ask_within(Op::GetChanges, &calls::get_changes(cursor, wait_ms), what, wait + SLACK)?;
        parse(&data, what)
    }
}

fn data(response: Response, what: &str) -> Result<Vec<u8>, NoAnswer> {
    let error = match response.error {
        0 => return Ok(response.data.as_bytes().to_vec()),
        error if error == -UNKNOWN_REQUEST => return Err(NoAnswer::Unknown),
        error => io::Error::from_raw_os_error(error.saturating_neg()),
    };
    match error.kind() {
        io::ErrorKind::NotFound => Err(NoAnswer::Missing),
        io::ErrorKind::PermissionDenied => Err(NoAnswer::Other(CtlError::NoPermission(what.to_owned()))),
        _ => Err(NoAnswer::Other(CtlError::Failed(format!("the daemon refuses {what}: {error}")))),
    }
}

fn parse(data: &[u8], what: &str) -> Result<Value, NoAnswer> {
    // A stock daemon puts what clients set into its texts unescaped and in any encoding.
    let text = String::from_utf8_lossy(data);
    serde_json::from_str(&text).map_err(|error| {
        NoAnswer::Other(CtlError::Failed(format!("the daemon's answer about {what} is no JSON: {error}")))
    })
}
