//! The `pve2` service: who may ask what, and the answers. It owns no state and knows no transport;
//! what it answers with is shared, not copied, wherever it exists already.

pub mod parse;

use super::ops::Op;
use super::server::{Access, Client, Peer, Refused, Response, ResponseData, Service};
use crate::cfs::{Cfs, Generated, LogMessage};
use crate::errno::ToErrno;
use crate::guest_props::GuestError;
use crate::memdb::TreePath;
use crate::status::{NoSuchValue, SetError};
use parse::{Guests, ParseError, Request};
use std::sync::Arc;

/// Answers the requests of the `pve2` service.
#[derive(Debug)]
pub struct Requests {
    cfs: Arc<Cfs>,
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
        Requests { cfs }
    }

    /// Answers request number `id` of `client`.
    pub fn answer(&self, client: &Client, id: i32, body: &[u8]) -> Result<ResponseData, RequestError> {
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
        })
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
        log::error!(target: "ipcs", "connection from bad user {}! - rejected", peer.uid);
        Err(Refused::Stranger)
    }

    fn handle(&self, client: &Client, id: i32, body: &[u8]) -> Response {
        match self.answer(client, id, body) {
            Ok(data) => Response::ok(data),
            Err(error) => {
                log::debug!(target: "ipcs", "request {id} of process {}: {error}", client.pid);
                Response::error(error.to_errno())
            }
        }
    }
}
