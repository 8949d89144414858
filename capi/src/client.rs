//! The handle of a connection, and the calls that are not about one kind of request.

use crate::answer::Answer;
use crate::boundary::{Failure, boundary, bytes, reference, unique, value};
use crate::options::{Options, limit};
use pmxcfs::ipc::session::Session;
use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

/// A connection to the daemon. It is made anew, by the next call, when the daemon was restarted,
/// when a request took too long, and in the child after a fork.
#[derive(Debug)]
pub struct Client {
    state: Mutex<State>,
    /// The process that last used it.
    process: AtomicU32,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// Of calls that name no time of their own.
    timeout: Option<Duration>,
    /// For answers that nobody wants to see.
    scratch: Answer,
}

// SAFETY: the answer's pointers lead to memory that only it has.
unsafe impl Send for State {}

impl Drop for State {
    fn drop(&mut self) {
        self.scratch.free();
    }
}

impl Client {
    fn lock(&self) -> Result<MutexGuard<'_, State>, Failure> {
        let process = std::process::id();
        if self.process.load(Ordering::Relaxed) != process {
            // In the child of a fork, nobody unlocks what another thread had locked in the parent.
            match self.state.try_lock() {
                Err(TryLockError::WouldBlock) if self.process.load(Ordering::Relaxed) != process => {
                    let text = "forked while another thread was inside of a call with this client";
                    return Err(Failure::new(libc::EDEADLK, text));
                }
                _ => self.process.store(process, Ordering::Relaxed),
            }
        }
        Ok(self.state.lock().unwrap_or_else(|poisoned| {
            // A call has panicked: nobody knows what is on its way.
            self.state.clear_poison();
            let mut state = poisoned.into_inner();
            state.session.disconnect();
            state
        }))
    }

    /// Sends a request with the client's own time limit; without `answer` only its error counts.
    pub(crate) fn ask(&self, id: i32, body: &[u8], answer: Option<&mut Answer>) -> Result<(), Failure> {
        let mut state = self.lock()?;
        let State { session, timeout, scratch } = &mut *state;
        answer.unwrap_or(scratch).fill(|message| session.request(id, body, *timeout, message))
    }
}

/// Connects to the daemon. `options` may be NULL for what pmxcfs_options_init gives.
///
/// Returns 0 and the connection in `client`, which pmxcfs_disconnect frees; or a negative errno and
/// NULL in `client`: -ECONNREFUSED if there is no daemon, -EACCES if it does not serve this user,
/// -ETIMEDOUT, -EPERM if another user than root or this one has taken the service's name, -EINVAL.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_connect(options: *const Options, client: *mut *mut Client) -> i32 {
    boundary(|| {
        // SAFETY: asked of the caller.
        let client = unsafe { unique("client", client) }?;
        *client = std::ptr::null_mut();
        // SAFETY: asked of the caller.
        let (options, timeout) = unsafe { Options::read(options) }?;
        let session = Session::open(options)?;
        let state = Mutex::new(State { session, timeout, scratch: Answer::default() });
        *client = Box::into_raw(Box::new(Client { state, process: AtomicU32::new(std::process::id()) }));
        Ok(())
    })
}

/// Ends a connection and frees it; no other call with it may be under way or follow. NULL is fine. In
/// the child of a fork the parent's connection goes on.
// SAFETY: no other symbol has this name; of the pointer is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_disconnect(client: *mut Client) {
    if !client.is_null() {
        boundary(|| {
            // SAFETY: not null, so from `pmxcfs_connect`; the rest is asked of the caller.
            drop(unsafe { Box::from_raw(client) });
            Ok(())
        });
    }
}

/// The socket of the connection, to be polled beside others: it hangs up when the daemon ends.
/// Nothing else may be done with it, and it may be another one after each call. -ENOTCONN while
/// there is no connection, -EINVAL.
// SAFETY: no other symbol has this name; of the pointer is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_fd(client: *const Client) -> i32 {
    let socket = value(|| {
        // SAFETY: asked of the caller.
        let state = unsafe { reference("client", client) }?.lock()?;
        let socket = state.session.socket().map(|socket| socket.as_raw_fd());
        socket.ok_or_else(|| Failure::new(libc::ENOTCONN, "not connected"))
    });
    socket.unwrap_or_else(|errno| -errno)
}

/// The longest message, header included, that the daemon has agreed to. -ENOTCONN while there is no
/// connection, -EINVAL.
// SAFETY: no other symbol has this name; of the pointer is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_message_max(client: *const Client) -> i32 {
    let size = value(|| {
        // SAFETY: asked of the caller.
        let state = unsafe { reference("client", client) }?.lock()?;
        let size = state.session.max_message_size().and_then(|size| i32::try_from(size).ok());
        size.ok_or_else(|| Failure::new(libc::ENOTCONN, "not connected"))
    });
    size.unwrap_or_else(|errno| -errno)
}

/// Changes how long the calls that name no time of their own may take; negative is no limit. Returns
/// 0 or -EINVAL.
// SAFETY: no other symbol has this name; of the pointer is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_set_timeout(client: *mut Client, timeout_ms: i32) -> i32 {
    boundary(|| {
        // SAFETY: asked of the caller.
        unsafe { reference("client", client) }?.lock()?.timeout = limit(timeout_ms);
        Ok(())
    })
}

/// Sends any request: the number `id` with the `body_len` bytes at `body`, which is what follows the
/// header. Waits for the answer for `timeout_ms`; negative is as long as there is a daemon.
///
/// Returns 0, or the negative errno that the daemon answered with (answer->error is the same then),
/// or another one: -ETIMEDOUT; -ENOTCONN if the daemon has ended, or -ECONNREFUSED if it is not back;
/// -EAGAIN if it took no more requests in that time; -EMSGSIZE; -ENOMEM if there is no memory for so
/// long a request or answer; -EBADMSG if what answers is no daemon; -EINVAL.
// SAFETY: no other symbol has this name; of the pointers is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_request(
    client: *mut Client,
    id: i32,
    body: *const c_void,
    body_len: usize,
    timeout_ms: i32,
    answer: *mut Answer,
) -> i32 {
    boundary(|| {
        // SAFETY: asked of the caller.
        let (client, answer) = unsafe { (reference("client", client)?, unique("answer", answer)?) };
        answer.clear();
        // SAFETY: asked of the caller.
        let body = unsafe { bytes("body", body, body_len) }?;
        let mut state = client.lock()?;
        answer.fill(|message| state.session.request(id, body, limit(timeout_ms), message))
    })
}
