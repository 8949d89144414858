//! A connection to corosync's configuration map: the node list, and word of its changes.

use super::node_list::{self, Value};
use crate::status::ClusterInfo;
use rust_corosync::cmap::{self, CmapIterStart, Data, Handle, Map, NotifyCallback, TrackHandle, TrackType};
use rust_corosync::{CsError, DispatchFlags};
use std::cell::Cell;
use std::os::fd::RawFd;

/// Changes taken by one dispatch.
const CHANGES_AT_ONCE: usize = 256;

thread_local! {
    /// A callback of the dispatch that runs in this thread was called.
    static CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// The connection. Dropping it closes it.
pub(super) struct Connection {
    handle: Handle,
    fd: RawFd,
}

impl Connection {
    /// Connects and asks to be told when the configuration was loaded anew.
    pub(super) fn open() -> Result<Self, CsError> {
        let handle = cmap::initialize(Map::Icmap)?;
        let fd = cmap::fd_get(&handle)?;
        let callback = NotifyCallback { notify_fn: Some(on_change) };
        let changes = || TrackType::ADD | TrackType::DELETE | TrackType::MODIFY;
        cmap::track_add(&handle, node_list::NODE_PREFIX, changes() | TrackType::PREFIX, &callback, 0)?;
        cmap::track_add(&handle, node_list::CONFIG_VERSION, changes(), &callback, 0)?;
        Ok(Self { handle, fd })
    }

    /// The node list as it is now.
    pub(super) fn node_list(&self) -> Result<ClusterInfo, CsError> {
        let mut keys = Vec::new();
        for prefix in [node_list::NODE_PREFIX, node_list::CLUSTER_NAME, node_list::CONFIG_VERSION] {
            for item in CmapIterStart::new(&self.handle, prefix)? {
                keys.extend(value_of(item.data()).map(|value| (item.key_name().to_owned(), value)));
            }
        }
        Ok(node_list::read(keys))
    }

    /// Whether anything changed since the last time, without waiting.
    pub(super) fn dispatch(&self) -> Result<bool, CsError> {
        for _ in 0..CHANGES_AT_ONCE {
            match cmap::dispatch(&self.handle, DispatchFlags::OneNonblocking) {
                Ok(()) => {}
                Err(CsError::CsErrTryAgain) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(CHANGED.take())
    }

    /// To be polled for reading.
    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }
}

fn value_of(data: &Data) -> Option<Value> {
    let number = match data {
        Data::UInt8(number) => u64::from(*number),
        Data::UInt16(number) => u64::from(*number),
        Data::UInt32(number) => u64::from(*number),
        Data::UInt64(number) => *number,
        Data::Int8(number) => u64::try_from(*number).ok()?,
        Data::Int16(number) => u64::try_from(*number).ok()?,
        Data::Int32(number) => u64::try_from(*number).ok()?,
        Data::Int64(number) => u64::try_from(*number).ok()?,
        Data::String(text) => return Some(Value::Text(text.trim_end_matches('\0').to_owned())),
        Data::Float(_) | Data::Double(_) | Data::Binary(_) | Data::Unknown => return None,
    };
    Some(Value::Number(number))
}

fn on_change(_: &Handle, _: &TrackHandle, _: TrackType, _key: &str, _new: &Data, _old: &Data, _: u64) {
    CHANGED.set(true);
}
