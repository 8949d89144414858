//! The `pve2` service: who may ask what, and the answers. It owns no state and knows no transport;
//! what it answers with is shared, not copied, wherever it exists already.

mod answers;
mod counts;
pub mod parse;

use super::ops::Op;
use super::qb::Clients;
use super::server::{Access, Client, Link, NoLink, Peer, Refused, Response, ResponseData, Service};
use super::shares::Shares;
use crate::cfs::{Cfs, Generated, LogMessage};
use crate::errno::ToErrno;
use crate::guest_props::GuestError;
use crate::memdb::TreePath;
use crate::status::{NoSuchValue, SetError};
use counts::RequestCounts;
use parse::{Guests, ParseError, Request};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Most requests of users other than root that wait for a change at a time. Each change wakes all of them.
const WAITS_MAX: u64 = 256;
/// Most requests of one user other than root that wait for a change at a time.
const WAITS_PER_USER_MAX: u64 = 64;

/// Answers the requests of the `pve2` service.
#[derive(Debug)]
pub struct Requests {
    cfs: Arc<Cfs>,
    counts: RequestCounts,
    clients: OnceLock<Clients>,
    tree: OnceLock<MountedTree>,
    /// Requests that wait for a change.
    waits: Arc<Shares>,
}

/// Mount of the tree for the daemon status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedTree {
    /// Mount point, with symbolic links resolved.
    pub path: PathBuf,
    /// Device number, as `major:minor`; `None` if the system does not report it.
    pub device: Option<String>,
}

/// Why a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Malformed(#[from] ParseError),
    #[error("{0:?} is not for read-only clients")]
    ReadOnly(Op),
    #[error("the path is private, the client read-only")]
    Private,
    #[error("there is no such file")]
    NoFile,
    #[error("there is no such token")]
    NoToken,
    #[error("too many requests of this user wait for a change")]
    TooManyWaits,
    #[error(transparent)]
    Set(#[from] SetError),
    #[error(transparent)]
    Get(#[from] NoSuchValue),
    #[error(transparent)]
    Guest(#[from] GuestError),
}

impl Requests {
    /// The service of this node.
    pub fn new(cfs: Arc<Cfs>) -> Requests {
        Requests {
            cfs,
            counts: RequestCounts::default(),
            clients: OnceLock::new(),
            tree: OnceLock::new(),
            waits: Shares::new(WAITS_MAX, WAITS_PER_USER_MAX),
        }
    }

    /// From now on this is told of the clients that are connected. Only the first time counts.
    pub fn know_clients(&self, clients: Clients) {
        // The same server's, if there are others.
        let _ = self.clients.set(clients);
    }

    /// Sets the mount that the daemon status shows. Only the first call counts.
    pub fn know_tree(&self, tree: MountedTree) {
        // Fails if it is set already.
        let _ = self.tree.set(tree);
    }

    /// Answers request `id` of `client`, which never hangs up.
    pub fn answer(&self, client: &Client, id: i32, body: &[u8]) -> Result<ResponseData, RequestError> {
        self.answer_on(&NoLink, client, id, body)
    }

    fn answer_on(
        &self,
        link: &dyn Link,
        client: &Client,
        id: i32,
        body: &[u8],
    ) -> Result<ResponseData, RequestError> {
        let cfs = &*self.cfs;
        Ok(match self.request(client, id, body)? {
            Request::FsVersion => cfs.text(Generated::Version).into(),
            Request::ClusterInfo => cfs.text(Generated::Members).into(),
            Request::GuestList => cfs.text(Generated::VmList).into(),
            Request::SetStatus { name, value } => {
                cfs.set_status(name, value)?;
                ResponseData::Empty
            }
            Request::GetStatus { name, node } => cfs.status_value(node, name)?.into(),
            Request::GetConfig { path } => self.config(client, path)?,
            Request::LogClusterMsg { priority, ident, tag, message } => {
                let pid = u32::try_from(client.pid).unwrap_or(0);
                cfs.log(&LogMessage { priority, ident, tag, pid, message });
                ResponseData::Empty
            }
            Request::ClusterLog { user, max_entries } => {
                let max = usize::try_from(max_entries).unwrap_or(usize::MAX);
                cfs.cluster_log(user, max).into_bytes().into()
            }
            Request::RrdDump => cfs.rrd_dump().into(),
            Request::GuestProperties { guests: Guests::All, properties } => {
                cfs.properties_of_all(&properties).into()
            }
            Request::GuestProperties { guests: Guests::One(vmid), properties } => {
                cfs.properties_of_one(vmid, &properties)?.into()
            }
            Request::VerifyToken { token } if cfs.knows_token(token) => ResponseData::Empty,
            Request::VerifyToken { .. } => return Err(RequestError::NoToken),
            Request::DaemonStatus => self.daemon_status(client).into_bytes().into(),
            Request::Changes { cursor, wait_ms } => {
                self.changes(link, client, cursor, Duration::from_millis(wait_ms.into()))?.into()
            }
        })
    }

    /// Changes after `cursor`. Waits for one for at most `wait`, and only while the client is connected.
    fn changes(
        &self,
        link: &dyn Link,
        client: &Client,
        cursor: u64,
        wait: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        let gone = Arc::new(AtomicBool::new(false));
        if wait.is_zero() {
            return Ok(answers::changes(&self.cfs, client.access, cursor, wait, &gone).into_bytes());
        }
        let _share = self.waits.take(client.uid, 1).ok_or(RequestError::TooManyWaits)?;
        let (cfs, flag) = (Arc::clone(&self.cfs), Arc::clone(&gone));
        let _watch = link.on_hangup(Arc::new(move || {
            flag.store(true, Ordering::Release);
            cfs.changes.wake();
        }));
        Ok(answers::changes(&self.cfs, client.access, cursor, wait, &gone).into_bytes())
    }

    /// Reads a request. Of several faults the one counts that clients are used to see first.
    fn request<'a>(&self, client: &Client, id: i32, body: &'a [u8]) -> Result<Request<'a>, RequestError> {
        if let Some(op @ (Op::SetStatus | Op::LogClusterMsg)) = Op::from_id(id) {
            if client.access == Access::ReadOnly {
                return Err(RequestError::ReadOnly(op));
            }
        }
        Request::parse(id, body).map_err(|error| match error {
            ParseError::Properties(Guests::One(vmid)) if !self.cfs.has_guest(vmid) => {
                GuestError::Unknown(vmid).into()
            }
            error => error.into(),
        })
    }

    /// A file's contents. What is private is decided by the path as the tree reads it: a doubled
    /// slash must not open what a single one does not.
    fn config(&self, client: &Client, path: &[u8]) -> Result<ResponseData, RequestError> {
        let path = TreePath::new(path);
        if client.access == Access::ReadOnly && path.is_private() {
            return Err(RequestError::Private);
        }
        Ok(self.cfs.config(&path).ok_or(RequestError::NoFile)?.into())
    }
}

impl Service for Requests {
    fn accept(&self, peer: Peer) -> Result<Access, Refused> {
        if peer.gid == self.cfs.node.www_data_gid {
            return Ok(Access::ReadOnly);
        }
        if peer.uid == 0 && peer.gid == 0 {
            return Ok(Access::ReadWrite);
        }
        Err(Refused::Stranger)
    }

    fn handle(&self, client: &Client, link: &dyn Link, id: i32, body: &[u8]) -> Response {
        self.counts.asked(id);
        match self.answer_on(link, client, id, body) {
            Ok(data) => Response::ok(data),
            Err(error) => {
                self.counts.failed();
                log::debug!(target: "ipcs", "request {id} of process {}: {error}", client.pid);
                Response::error(error.to_errno())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cfs::testing::{TestNode, WWW_DATA};

    fn client(access: Access) -> Client {
        Client { pid: 4711, uid: 0, gid: 0, access }
    }

    #[test]
    fn root_may_all_www_data_may_read_and_nobody_else_gets_in() {
        let requests = Requests::new(TestNode::new().cfs);
        let accept = |uid, gid| requests.accept(Peer { pid: 1, uid, gid });
        assert!(matches!(accept(0, 0), Ok(Access::ReadWrite)));
        assert!(matches!(accept(WWW_DATA, WWW_DATA), Ok(Access::ReadOnly)));
        assert!(matches!(accept(1000, WWW_DATA), Ok(Access::ReadOnly)));
        assert!(matches!(accept(0, WWW_DATA), Ok(Access::ReadOnly)));
        for (uid, gid) in [(1000, 1000), (0, 1000), (1000, 0), (WWW_DATA, 1000), (u32::MAX, u32::MAX)] {
            assert!(matches!(accept(uid, gid), Err(Refused::Stranger)), "{uid} {gid}");
        }
    }

    #[test]
    fn a_read_only_client_reads_what_is_not_private() {
        let node = TestNode::new();
        node.write("storage.cfg", b"s");
        node.write("priv/token.cfg", b"u!t v\n");
        node.write("nodes/n1/priv/key", b"k");
        node.write("nodes/n1/lxc/100.conf", b"name: a\n");
        let requests = Requests::new(Arc::clone(&node.cfs));
        let reader = client(Access::ReadOnly);
        let ask = |op: Op, body: &[u8]| requests.answer(&reader, op.id(), body);
        let config = |path: &str| ask(Op::GetConfig, [path.as_bytes(), b"\0"].concat().as_slice());
        assert_eq!(config("/storage.cfg").map(|data| data.as_bytes().to_vec()), Ok(b"s".to_vec()));
        for path in [
            "priv",
            "priv/token.cfg",
            "//priv//token.cfg",
            "priv/missing",
            "nodes/n1/priv/key",
            "nodes//n1/priv/key",
            "nodes/n1//priv/key",
            "nodes/n1/priv",
        ] {
            assert_eq!(config(path), Err(RequestError::Private), "{path}");
        }
        // A path is not walked like a shell's: these name nothing.
        for path in ["./priv/token.cfg", "x/../priv/token.cfg", "nodes/./n1/priv/key", "local/priv/key"] {
            assert_eq!(config(path), Err(RequestError::NoFile), "{path}");
        }
        assert_eq!(ask(Op::SetStatus, b""), Err(RequestError::ReadOnly(Op::SetStatus)));
        assert_eq!(ask(Op::LogClusterMsg, b""), Err(RequestError::ReadOnly(Op::LogClusterMsg)));
        assert_eq!(ask(Op::VerifyToken, b"u!t v\0"), Ok(ResponseData::Empty));
        assert!(ask(Op::GetFsVersion, b"").is_ok());
        assert!(ask(Op::GetGuestConfigProperty, b"\x64\0\0\0name\0").is_ok());
    }

    #[test]
    fn of_several_faults_the_first_that_clients_know_is_reported() {
        let requests = Requests::new(TestNode::new().cfs);
        let ask = |op: Op, body: &[u8]| requests.answer(&client(Access::ReadWrite), op.id(), body);
        for op in [Op::GetGuestConfigProperty, Op::GetGuestConfigProperties] {
            assert_eq!(ask(op, b"\x64\0\0\0"), Err(GuestError::Unknown(100).into()), "{op:?}");
            assert_eq!(ask(op, b"\x63\0\0\0"), Err(ParseError::Vmid(99).into()), "{op:?}");
            assert_eq!(ask(op, b"\0\0\0\0"), Err(ParseError::Properties(Guests::All).into()), "{op:?}");
        }
        let mut set = b"nodeip".to_vec();
        set.resize(256 + 32769, 0);
        assert_eq!(ask(Op::SetStatus, &set), Err(SetError::ValueTooLong(32769).into()));
        assert_eq!(ask(Op::SetStatus, &set[..256]), Err(SetError::NotAnAddress.into()));
    }

    #[test]
    fn a_file_is_answered_with_its_own_bytes() {
        let node = TestNode::new();
        node.write("storage.cfg", b"s");
        let requests = Requests::new(Arc::clone(&node.cfs));
        let answer =
            requests.handle(&client(Access::ReadOnly), &NoLink, Op::GetConfig.id(), b"storage.cfg\0");
        let ResponseData::File(data) = answer.data else { panic!("{answer:?}") };
        let file = node.cfs.config(&"storage.cfg".into()).expect("a file");
        assert!(Arc::ptr_eq(&data, &file));
        assert_eq!(answer.error, 0);
    }
}
