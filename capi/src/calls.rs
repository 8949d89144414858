//! A call for each kind of request.

use crate::answer::Answer;
use crate::boundary::{Failure, boundary, bytes, optional_text, reference, strings, text, unique};
use crate::client::Client;
use pmxcfs::ipc::calls;
use pmxcfs::ipc::ops::Op;
use std::ffi::{c_char, c_void};

/// Lowest priority of syslog. The daemon drops entries with a larger number.
const PRIORITY_MAX: u8 = 7;

/// Sends a request without a body.
///
/// # Safety
/// As the header asks.
unsafe fn ask(client: *mut Client, op: Op, answer: *mut Answer) -> i32 {
    // SAFETY: asked of the caller.
    unsafe { ask_with(client, op, answer, || Ok(Vec::new())) }
}

/// Sends a request whose answer is wanted.
///
/// # Safety
/// As the header asks.
unsafe fn ask_with(
    client: *mut Client,
    op: Op,
    answer: *mut Answer,
    body: impl FnOnce() -> Result<Vec<u8>, Failure>,
) -> i32 {
    boundary(|| {
        // SAFETY: asked of the caller.
        let (client, answer) = unsafe { (reference("client", client)?, unique("answer", answer)?) };
        answer.clear();
        client.ask(op.id(), &body()?, Some(answer))
    })
}

/// Sends a request whose answer is a yes or a no.
///
/// # Safety
/// As the header asks.
unsafe fn tell(client: *mut Client, op: Op, body: impl FnOnce() -> Result<Vec<u8>, Failure>) -> i32 {
    boundary(|| {
        // SAFETY: asked of the caller.
        let client = unsafe { reference("client", client) }?;
        client.ask(op.id(), &body()?, None)
    })
}

/// Fetches the text of `.version`: what has changed how often, as JSON.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_fs_version(client: *mut Client, answer: *mut Answer) -> i32 {
    // SAFETY: asked of the caller.
    unsafe { ask(client, Op::GetFsVersion, answer) }
}

/// Fetches the text of `.members`: the nodes of the cluster, as JSON.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_cluster_info(client: *mut Client, answer: *mut Answer) -> i32 {
    // SAFETY: asked of the caller.
    unsafe { ask(client, Op::GetClusterInfo, answer) }
}

/// Fetches the text of `.vmlist`: the guests of the cluster, as JSON.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_guest_list(client: *mut Client, answer: *mut Answer) -> i32 {
    // SAFETY: asked of the caller.
    unsafe { ask(client, Op::GetGuestList, answer) }
}

/// Sets a key of this node's status to the `len` bytes at `value`; none removes it. -EPERM for a client
/// that may only read, -EFBIG for more than PMXCFS_STATUS_MAX bytes, -ENAMETOOLONG.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_set_status(
    client: *mut Client,
    name: *const c_char,
    value: *const c_void,
    len: usize,
) -> i32 {
    // SAFETY: asked of the caller.
    let body = || unsafe { Ok(calls::set_status(text("name", name)?, bytes("value", value, len)?)?) };
    // SAFETY: asked of the caller.
    unsafe { tell(client, Op::SetStatus, body) }
}

/// Fetches a key of the status of `node`, or of this node if that is NULL or empty. -ENOENT if there
/// is none, -ENAMETOOLONG.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_status(
    client: *mut Client,
    name: *const c_char,
    node: *const c_char,
    answer: *mut Answer,
) -> i32 {
    // SAFETY: asked of the caller.
    let body =
        || unsafe { Ok(calls::get_status(text("name", name)?, optional_text(node).unwrap_or_default())?) };
    // SAFETY: asked of the caller.
    unsafe { ask_with(client, Op::GetStatus, answer, body) }
}

/// Fetches a file of the tree. `path` begins below the mount point, with or without a slash. -ENOENT
/// if it is not there, is a directory or is generated; -EPERM for a private file and a client that
/// may only read; -ENOBUFS for a file that is longer than pmxcfs_message_max less the 24 bytes of the
/// header, which only the longest files of the tree are.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_config(
    client: *mut Client,
    path: *const c_char,
    answer: *mut Answer,
) -> i32 {
    // SAFETY: asked of the caller.
    let body = || Ok(calls::get_config(unsafe { text("path", path) }?)?);
    // SAFETY: asked of the caller.
    unsafe { ask_with(client, Op::GetConfig, answer, body) }
}

/// Puts an entry into the cluster log. `priority` is one of syslog, 0 to 7; `ident` is the user,
/// `tag` the program, both up to PMXCFS_LOG_IDENT_MAX bytes. -EPERM for a client that may only read,
/// -ENAMETOOLONG, -EINVAL for another priority.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_log_cluster_msg(
    client: *mut Client,
    priority: u8,
    ident: *const c_char,
    tag: *const c_char,
    message: *const c_char,
) -> i32 {
    let body = || {
        if priority > PRIORITY_MAX {
            let text = format!("priority {priority} is not one of 0 to {PRIORITY_MAX}");
            return Err(Failure::new(libc::EINVAL, text));
        }
        // SAFETY: asked of the caller.
        let (ident, tag) = unsafe { (text("ident", ident)?, text("tag", tag)?) };
        // SAFETY: asked of the caller.
        let message = unsafe { text("message", message) }?;
        Ok(calls::log_cluster_msg(priority, ident, tag, message)?)
    };
    // SAFETY: asked of the caller.
    unsafe { tell(client, Op::LogClusterMsg, body) }
}

/// Fetches the newest entries of the cluster log, as JSON: at most `entries_max`, 0 for 50; those of
/// `user`, or of all if that is NULL or empty.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_cluster_log(
    client: *mut Client,
    entries_max: u32,
    user: *const c_char,
    answer: *mut Answer,
) -> i32 {
    // SAFETY: asked of the caller.
    let body =
        || unsafe { Ok(calls::get_cluster_log(entries_max, optional_text(user).unwrap_or_default())?) };
    // SAFETY: asked of the caller.
    unsafe { ask_with(client, Op::GetClusterLog, answer, body) }
}

/// Fetches the newest values of all RRD keys. The NUL at its end is part of the answer.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_rrd_dump(client: *mut Client, answer: *mut Answer) -> i32 {
    // SAFETY: asked of the caller.
    unsafe { ask(client, Op::GetRrdDump, answer) }
}

/// Fetches one property of a guest's configuration, or of all guests' for `vmid` 0, as JSON. -ENOENT
/// if there is no such guest, -EINVAL for a VMID below 100.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_guest_config_property(
    client: *mut Client,
    vmid: u32,
    property: *const c_char,
    answer: *mut Answer,
) -> i32 {
    // SAFETY: asked of the caller.
    let body = || Ok(calls::get_guest_config_property(vmid, unsafe { text("property", property) }?)?);
    // SAFETY: asked of the caller.
    unsafe { ask_with(client, Op::GetGuestConfigProperty, answer, body) }
}

/// Checks whether an API token is known: `token` is "user!name value". Returns 0 if it is, -ENOENT if
/// not, also for a text that is no token; -EINVAL if it is empty or has a line break.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_verify_token(client: *mut Client, token: *const c_char) -> i32 {
    // SAFETY: asked of the caller.
    let body = || Ok(calls::verify_token(unsafe { text("token", token) }?)?);
    // SAFETY: asked of the caller.
    unsafe { tell(client, Op::VerifyToken, body) }
}

/// Fetches `count` properties, 1 to 255, of a guest's configuration, or of all guests' for `vmid` 0, as
/// JSON. -ENOENT if there is no such guest, -EINVAL for a VMID below 100 or a name that does not begin
/// with a letter from a to z.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_get_guest_config_properties(
    client: *mut Client,
    vmid: u32,
    properties: *const *const c_char,
    count: usize,
    answer: *mut Answer,
) -> i32 {
    let body = || {
        // One too many is refused by its number; more need not be looked at.
        // SAFETY: asked of the caller.
        let names = unsafe { strings("properties", properties, count.min(256)) }?;
        Ok(calls::get_guest_config_properties(vmid, &names)?)
    };
    // SAFETY: asked of the caller.
    unsafe { ask_with(client, Op::GetGuestConfigProperties, answer, body) }
}
