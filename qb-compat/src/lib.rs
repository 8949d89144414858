//! The part of libqb's binary interface that clients of `pmxcfs` use, on the core's own client: a
//! program built against libqb runs on it unchanged. It keeps to libqb's results also where a new
//! interface would do otherwise, and logs nothing.
#![allow(clippy::missing_safety_doc, reason = "libqb's documentation has the duties of callers")]

mod connection;
mod log;
mod real;

use connection::Connection;
use libc::{c_char, c_void, iovec, size_t, ssize_t};
use real::Calls;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a call; its result or a negative errno. No panic leaves it.
fn boundary<T: TryInto<ssize_t>>(call: impl FnOnce() -> Result<T, i32>) -> ssize_t {
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(libc::ENOTRECOVERABLE));
    match result {
        Ok(value) => value.try_into().unwrap_or(ssize_t::MAX),
        Err(errno) => -(errno as ssize_t),
    }
}

/// The same for results of libqb's `int32_t`.
fn boundary32(call: impl FnOnce() -> Result<i32, i32>) -> i32 {
    i32::try_from(boundary(|| call().map(|value| value as ssize_t))).unwrap_or(i32::MIN)
}

/// The type behind `qb_ipcc_connection_t`: a connection of this library or of the real one.
#[derive(Debug)]
pub enum Handle {
    /// A connection of this library.
    Own(Box<Connection>),
    /// A connection to corosync, with the real libqb's handle.
    Real(Calls, *mut c_void),
}

/// The connection of a handle.
///
/// # Safety
/// It is null, or of `qb_ipcc_connect` and not in use by another thread, as libqb asks.
unsafe fn connection<'a>(handle: *mut Handle) -> Result<&'a mut Connection, i32> {
    // SAFETY: the caller guarantees the same.
    match unsafe { handle.as_mut() } {
        Some(Handle::Own(connection)) => Ok(connection),
        _ => Err(libc::EINVAL),
    }
}

/// The functions and the handle of the real libqb, for a connection to corosync.
///
/// # Safety
/// As of [`connection()`].
unsafe fn real(handle: *mut Handle) -> Option<(Calls, *mut c_void)> {
    // SAFETY: the caller guarantees the same.
    match unsafe { handle.as_ref() } {
        Some(Handle::Real(calls, connection)) => Some((*calls, *connection)),
        _ => None,
    }
}

/// Connects to corosync by the real libqb.
fn connect_to_corosync(name: &CStr, max_msg_size: usize) -> Result<Handle, i32> {
    let calls = real::calls().ok_or(libc::ENOSYS)?;
    // SAFETY: a string with a NUL.
    let connection = unsafe { (calls.connect)(name.as_ptr(), max_msg_size) };
    if connection.is_null() {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
    }
    Ok(Handle::Real(calls, connection))
}

/// The parts of a message.
///
/// # Safety
/// There are `count` of them, each with the memory that it says.
unsafe fn parts<'a>(list: *const iovec, count: usize) -> Result<Vec<&'a [u8]>, i32> {
    if list.is_null() && count > 0 {
        return Err(libc::EINVAL);
    }
    let part = |index: usize| {
        // SAFETY: below `count`, the rest is asked of the caller.
        let iovec { iov_base, iov_len } = unsafe { *list.add(index) };
        match (iov_len, iov_base.is_null()) {
            // Perl passes no pointer for no data.
            (0, _) => Ok(&[][..]),
            (_, true) => Err(libc::EINVAL),
            (len, _) if isize::try_from(len).is_err() => Err(libc::EMSGSIZE),
            // SAFETY: not null, no longer than memory can be, the rest is asked of the caller.
            (len, false) => Ok(unsafe { std::slice::from_raw_parts(iov_base.cast(), len) }),
        }
    };
    (0..count).map(part).collect()
}

/// Where a message goes.
///
/// # Safety
/// There are `len` bytes that nothing else refers to, unless `pointer` is null.
unsafe fn buffer<'a>(pointer: *mut c_void, len: usize) -> Result<&'a mut [u8], i32> {
    if pointer.is_null() || isize::try_from(len).is_err() {
        return Err(libc::EINVAL);
    }
    // SAFETY: not null, no longer than memory can be, the rest is asked of the caller.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), len) })
}

/// Connects; null and errno else.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_connect(name: *const c_char, max_msg_size: size_t) -> *mut Handle {
    let mut made = std::ptr::null_mut();
    let result = boundary32(|| {
        if name.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: not null, the rest is asked of the caller.
        let name = unsafe { CStr::from_ptr(name) };
        let handle = if real::is_of_corosync(name) {
            connect_to_corosync(name, max_msg_size)?
        } else {
            let name = name.to_str().map_err(|_| libc::EINVAL)?;
            Handle::Own(Box::new(Connection::open(name, max_msg_size)?))
        };
        made = Box::into_raw(Box::new(handle));
        Ok(0)
    });
    if result < 0 {
        // SAFETY: errno is the thread's own.
        unsafe { *libc::__errno_location() = -result };
    }
    made
}

/// Ends a connection and frees it.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_disconnect(c: *mut Handle) {
    boundary32(|| {
        if !c.is_null() {
            // SAFETY: not null, so from `qb_ipcc_connect`; the rest is asked of the caller.
            let handle = unsafe { Box::from_raw(c) };
            if let Handle::Real(calls, connection) = *handle {
                // SAFETY: of the real libqb, and not used any more.
                unsafe { (calls.disconnect)(connection) };
            }
        }
        Ok(0)
    });
}

/// The socket to poll for events and for the end of the connection.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_fd_get(c: *mut Handle, fd: *mut i32) -> i32 {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.fd_get)(connection, fd) };
    }
    boundary32(|| {
        // SAFETY: asked of the caller.
        let (connection, fd) = unsafe { (connection(c)?, fd.as_mut().ok_or(libc::EINVAL)?) };
        *fd = connection.descriptor();
        Ok(0)
    })
}

/// 1 or 0.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_is_connected(c: *mut Handle) -> i32 {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.is_connected)(connection) };
    }
    // SAFETY: asked of the caller.
    let connected = boundary32(|| unsafe { connection(c) }.map(|c| i32::from(c.is_connected())));
    connected.max(0)
}

/// The longest message that was agreed on.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_get_buffer_size(c: *mut Handle) -> i32 {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.buffer_size)(connection) };
    }
    boundary32(|| {
        // SAFETY: asked of the caller.
        let size = unsafe { connection(c) }?.message_max();
        Ok(i32::try_from(size).unwrap_or(i32::MAX))
    })
}

/// Sends a message; its length.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_send(c: *mut Handle, msg_ptr: *const c_void, msg_len: size_t) -> ssize_t {
    let whole = iovec { iov_base: msg_ptr.cast_mut(), iov_len: msg_len };
    // SAFETY: asked of the caller.
    unsafe { qb_ipcc_sendv(c, &raw const whole, 1) }
}

/// Sends a message in parts; its length.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_sendv(c: *mut Handle, iov: *const iovec, iov_len: size_t) -> ssize_t {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.sendv)(connection, iov, iov_len) };
    }
    boundary(|| {
        // SAFETY: asked of the caller.
        let (connection, parts) = unsafe { (connection(c)?, parts(iov, iov_len)?) };
        connection.send(&parts)
    })
}

/// Waits for a message; its length.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_recv(
    c: *mut Handle,
    msg_ptr: *mut c_void,
    msg_len: size_t,
    ms_timeout: i32,
) -> ssize_t {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.recv)(connection, msg_ptr, msg_len, ms_timeout) };
    }
    boundary(|| {
        // SAFETY: asked of the caller.
        let (connection, buffer) = unsafe { (connection(c)?, buffer(msg_ptr, msg_len)?) };
        connection.receive(buffer, ms_timeout)
    })
}

/// Sends a message and waits for the next one; its length.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_sendv_recv(
    c: *mut Handle,
    iov: *const iovec,
    iov_len: u32,
    msg_ptr: *mut c_void,
    msg_len: size_t,
    ms_timeout: i32,
) -> ssize_t {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.sendv_recv)(connection, iov, iov_len, msg_ptr, msg_len, ms_timeout) };
    }
    boundary(|| {
        // SAFETY: asked of the caller.
        let (connection, parts) = unsafe { (connection(c)?, parts(iov, iov_len as usize)?) };
        // SAFETY: asked of the caller.
        let buffer = unsafe { buffer(msg_ptr, msg_len) }?;
        connection.send_waiting(&parts, ms_timeout)?;
        connection.receive(buffer, ms_timeout)
    })
}

/// Waits for an event; its length. A service of pmxcfs sends none, so this ends with the time or the
/// connection.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_event_recv(
    c: *mut Handle,
    msg_ptr: *mut c_void,
    msg_len: size_t,
    ms_timeout: i32,
) -> ssize_t {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.event_recv)(connection, msg_ptr, msg_len, ms_timeout) };
    }
    // SAFETY: the caller keeps libqb's rules.
    boundary(|| unsafe { connection(c) }?.receive_event(ms_timeout))
}

/// Sets how strong a request to hold back is respected: 0 to 2.
// SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qb_ipcc_fc_enable_max_set(c: *mut Handle, max: u32) -> i32 {
    // SAFETY: the caller keeps libqb's rules.
    if let Some((calls, connection)) = unsafe { real(c) } {
        // SAFETY: the same, for the real libqb's handle.
        return unsafe { (calls.fc_enable_max_set)(connection, max) };
    }
    boundary32(|| {
        // SAFETY: the caller keeps libqb's rules.
        unsafe { connection(c) }?;
        // A service of pmxcfs asks for the weakest only, which is always respected.
        if max > 2 { Err(libc::EINVAL) } else { Ok(0) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_panic_crosses() {
        assert_eq!(boundary32(|| panic!("as the test wants")), -libc::ENOTRECOVERABLE);
        assert_eq!(boundary32(|| Ok(5)), 5);
        assert_eq!(boundary(|| Err::<usize, i32>(libc::EAGAIN)), -(libc::EAGAIN as ssize_t));
    }

    #[test]
    fn null_is_refused() {
        let (none, iov) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: null is what is tested; nothing else is passed.
        unsafe {
            assert!(qb_ipcc_connect(std::ptr::null(), 0).is_null());
            qb_ipcc_disconnect(none);
            assert_eq!(qb_ipcc_fd_get(none, std::ptr::null_mut()), -libc::EINVAL);
            assert_eq!(qb_ipcc_is_connected(none), 0);
            assert_eq!(qb_ipcc_event_recv(none, std::ptr::null_mut(), 0, 0), -(libc::EINVAL as ssize_t));
            assert_eq!(qb_ipcc_fc_enable_max_set(none, 1), -libc::EINVAL);
            assert_eq!(qb_ipcc_get_buffer_size(none), -libc::EINVAL);
            assert_eq!(qb_ipcc_send(none, std::ptr::null(), 0), -(libc::EINVAL as ssize_t));
            assert_eq!(qb_ipcc_sendv(none, iov, 0), -(libc::EINVAL as ssize_t));
            assert_eq!(qb_ipcc_recv(none, std::ptr::null_mut(), 0, 0), -(libc::EINVAL as ssize_t));
            let result = qb_ipcc_sendv_recv(none, iov, 0, std::ptr::null_mut(), 0, 0);
            assert_eq!(result, -(libc::EINVAL as ssize_t));
        }
    }
}
