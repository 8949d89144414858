//! What an IPC service and the transport below it agree on: who asks, what is asked, what is
//! answered. It holds no socket and no shared memory; the transport is `ipc/qb`.

use std::fmt;
use std::sync::Arc;

/// Who connects, as the kernel vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id, seen from here.
    pub pid: i32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Ask only.
    ReadOnly,
}

/// Why a peer gets no connection. It is told the errno.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The service does not serve this user.
    #[error("not allowed")]
    Stranger,
    /// This user, or all users together, hold as many connections as may be.
    #[error("too many connections")]
    TooMany,
    /// The connections of this user, or of all users together, have reached the limit of memory.
    #[error("its connections hold too much memory")]
    Memory,
    /// Its shared memory could not be made.
    #[error("cannot make the shared memory: {0}")]
    Setup(#[from] std::io::Error),
}

/// Why a request is answered by the transport, not by the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The service panicked on it.
    #[error("the request failed inside the daemon")]
    Panicked,
    /// The answer is longer than the message size agreed at connect.
    #[error("the answer is too long for this client")]
    TooLong,
    /// The header of the request gives a length that the message does not have.
    #[error("the request is shorter than its header says")]
    BadLength,
    /// There is no memory to put the answer into.
    #[error("there is no memory for the answer")]
    NoMemory,
}

/// A connected client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Process id at connect.
    pub pid: i32,
    /// Real user id at connect.
    pub uid: u32,
    /// Real group id at connect.
    pub gid: u32,
    /// What [`Service::accept`] granted.
    pub access: Access,
}

/// Called by another thread to wake a waiting request.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Watch on the hang-up of a client; dropping it ends the watch.
pub trait Watch {}

/// Connection of a request, for services with requests that wait.
pub trait Link {
    /// Calls `wake` once if the client hangs up, or has done so, while the result lives. If this returns
    /// `None` the request must time out by itself.
    fn on_hangup(&self, wake: Wake) -> Option<Box<dyn Watch + '_>>;
}

/// Link of a caller in this process, which never hangs up.
#[derive(Debug)]
pub struct NoLink;

impl Link for NoLink {
    fn on_hangup(&self, _: Wake) -> Option<Box<dyn Watch + '_>> {
        None
    }
}

/// What a service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 0, or a negative errno.
    pub error: i32,
    /// What follows the header; sent as it is, also beside an error.
    pub data: ResponseData,
}

impl Response {
    /// Success with `data`.
    pub fn ok(data: impl Into<ResponseData>) -> Self {
        Self { error: 0, data: data.into() }
    }

    /// Failure without data; `errno` is positive, as [`crate::errno::ToErrno`] gives it.
    pub fn error(errno: i32) -> Self {
        Self { error: -errno, data: ResponseData::Empty }
    }
}

/// The bytes of an answer, shared wherever the service has them already.
#[derive(Clone, PartialEq, Eq)]
pub enum ResponseData {
    /// No data.
    Empty,
    /// A cached text.
    Shared(Arc<[u8]>),
    /// The content of a file of the tree.
    File(Arc<Vec<u8>>),
    /// Made for this request.
    Owned(Vec<u8>),
}

impl ResponseData {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Shared(bytes) => bytes,
            Self::File(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for ResponseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl From<()> for ResponseData {
    fn from((): ()) -> Self {
        Self::Empty
    }
}

impl From<Arc<[u8]>> for ResponseData {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

impl From<Arc<Vec<u8>>> for ResponseData {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        Self::File(bytes)
    }
}

impl From<Vec<u8>> for ResponseData {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

/// A service: who may use it and what it answers. Both calls come from many threads at once.
pub trait Service: Send + Sync + 'static {
    /// Decides on a new peer.
    ///
    /// # Errors
    /// [`Refused::Stranger`] for whoever may not use this service.
    fn accept(&self, peer: Peer) -> Result<Access, Refused>;

    /// Answers one request. `body` is what follows the request header, a private copy of what the
    /// client sent. It may take long: other clients are served meanwhile. A request that waits for an event
    /// ends when its `link` hangs up, so that the client's place is free again.
    fn handle(&self, client: &Client, link: &dyn Link, id: i32, body: &[u8]) -> Response;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_bytes_reads_back() {
        let text = b"abc".to_vec();
        let sources: [ResponseData; 3] =
            [text.clone().into(), Arc::<[u8]>::from(&text[..]).into(), Arc::new(text).into()];
        for source in sources {
            assert_eq!(source.as_bytes(), b"abc");
            assert_eq!(format!("{source:?}"), "\"abc\"");
        }
        assert_eq!(ResponseData::from(()).as_bytes(), b"");
    }

    #[test]
    fn an_error_is_negative_on_the_wire() {
        assert_eq!(Response::error(2).error, -2);
        assert_eq!(Response::ok(()).error, 0);
    }
}
