//! The bytes on the wire, for C programs that make and read them themselves. The core has them as
//! lengths and offsets; here they are structs, checked against those.

use pmxcfs::ipc::calls::{LOG_HEAD_LEN, NAME_LEN};
use pmxcfs::ipc::qb::wire::{REQUEST_HEADER_LEN, RESPONSE_HEADER_LEN};
use std::ffi::c_char;

/// The service of the daemon.
pub const PMXCFS_SERVICE: &str = "pve2";
/// The file that is there while the daemon is being restarted.
pub const PMXCFS_RESTART_FLAG: &str = "/run/pve-cluster/cfs-restart-flag";
/// The longest message, header included, that clients of the stack ask for.
pub const PMXCFS_MESSAGE_MAX: u32 = 1048576;
/// Size of a status key or node name on the wire, with its NUL.
pub const PMXCFS_NAME_SIZE: usize = 256;
/// The longest value of a status key.
pub const PMXCFS_STATUS_MAX: usize = 32768;
/// The longest ident and the longest tag of a message to the cluster log, without the NUL.
pub const PMXCFS_LOG_IDENT_MAX: usize = 254;
/// The largest file of the tree; what a request can fetch is shorter by the headers.
pub const PMXCFS_FILE_MAX: u32 = 1048576;
/// A time without limit.
pub const PMXCFS_NO_LIMIT: i32 = -1;

/// What begins every request. Integers are in host order; send the padding as zeros.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RequestHeader {
    /// What is asked: a number of cfs-ipc-ops.h.
    pub id: i32,
    pub id_padding: i32,
    /// Length of the whole request.
    pub size: i32,
    pub size_padding: i32,
}

/// What begins every answer.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ResponseHeader {
    /// The number of the request.
    pub id: i32,
    pub id_padding: i32,
    /// Length of the whole answer.
    pub size: i32,
    pub size_padding: i32,
    /// 0 or a negative errno.
    pub error: i32,
    pub error_padding: i32,
}

/// CFS_IPC_SET_STATUS; the value follows.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SetStatusRequest {
    pub name: [c_char; 256],
}

/// CFS_IPC_GET_STATUS.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GetStatusRequest {
    pub name: [c_char; 256],
    /// Empty for this node.
    pub node: [c_char; 256],
}

/// CFS_IPC_LOG_CLUSTER_MSG; ident, tag and message follow, each with its NUL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LogClusterMsgRequest {
    /// As of syslog, 0 to 7.
    pub priority: u8,
    /// With the NUL.
    pub ident_size: u8,
    /// With the NUL.
    pub tag_size: u8,
}

/// CFS_IPC_GET_CLUSTER_LOG; the user's name follows with its NUL, empty for all users.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GetClusterLogRequest {
    /// 0 for 50.
    pub entries_max: u32,
    /// Zeros.
    pub reserved: [u32; 3],
}

/// CFS_IPC_GET_GUEST_CONFIG_PROPERTY; the property's name follows with its NUL. In
/// CFS_IPC_GET_GUEST_CONFIG_PROPERTIES a byte follows that counts names, then those, each with its
/// NUL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GuestConfigPropertyRequest {
    /// 0 for all guests.
    pub vmid: u32,
}

const _: () = assert!(size_of::<RequestHeader>() == REQUEST_HEADER_LEN);
const _: () = assert!(size_of::<ResponseHeader>() == RESPONSE_HEADER_LEN);
const _: () = assert!(PMXCFS_NAME_SIZE == NAME_LEN);
const _: () = assert!(size_of::<SetStatusRequest>() == NAME_LEN);
const _: () = assert!(size_of::<GetStatusRequest>() == 2 * NAME_LEN);
const _: () = assert!(size_of::<GetClusterLogRequest>() == LOG_HEAD_LEN);
