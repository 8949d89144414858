//! How C programs say how to connect.

use crate::boundary::{Failure, boundary, optional_text, reference, text, unique};
use crate::layout::{PMXCFS_MESSAGE_MAX, PMXCFS_NO_LIMIT};
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::ConnectOptions;
use pmxcfs::ipc::session::{self, Restart};
use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// How to connect. Have pmxcfs_options_init fill it, then change what you want. Strings need only
/// live until pmxcfs_connect returns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// sizeof(pmxcfs_options) of the program, so that later versions of the library may add to it.
    pub size: usize,
    /// The service. At first PMXCFS_SERVICE.
    pub service: *const c_char,
    /// The longest message to send or receive, header included. At first PMXCFS_MESSAGE_MAX; the
    /// daemon never agrees to more.
    pub message_max: u32,
    /// How long one attempt to connect may take. At first 10 s.
    pub connect_timeout_ms: i32,
    /// How long the calls that name no time of their own may take. At first PMXCFS_NO_LIMIT: as long
    /// as there is a daemon, as stock clients do.
    pub timeout_ms: i32,
    /// While this file is there, a daemon that cannot be reached is waited for. At first
    /// PMXCFS_RESTART_FLAG, as stock clients do; NULL for not to wait.
    pub restart_flag: *const c_char,
    /// How long to wait for it; after that the file is removed. At first 10 s.
    pub restart_timeout_ms: i32,
    /// Not 0: if the daemon ends before it has answered a request, connect anew and send that once
    /// more, as stock clients do. At first 1. A request that takes too long is never sent again.
    pub resend: u32,
}

/// A time as C has it: negative is no limit.
pub(crate) fn limit(milliseconds: i32) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

impl Options {
    fn new() -> Self {
        Self {
            size: size_of::<Self>(),
            service: c"pve2".as_ptr(),
            message_max: PMXCFS_MESSAGE_MAX,
            connect_timeout_ms: 10_000,
            timeout_ms: PMXCFS_NO_LIMIT,
            restart_flag: c"/run/pve-cluster/cfs-restart-flag".as_ptr(),
            restart_timeout_ms: 10_000,
            resend: 1,
        }
    }

    /// What C passes; null is what pmxcfs_options_init gives.
    ///
    /// # Safety
    /// `pointer` is null or points to options whose strings are strings or null.
    pub(crate) unsafe fn read(pointer: *const Self) -> Result<(session::Options, Option<Duration>), Failure> {
        let defaults = Self::new();
        let given = if pointer.is_null() {
            defaults
        } else {
            // SAFETY: options of each version begin with their size.
            let size = unsafe { reference("options", pointer.cast::<usize>()) }?;
            if *size != size_of::<Self>() {
                let text = format!("options of {size} bytes: not filled by pmxcfs_options_init?");
                return Err(Failure::new(libc::EINVAL, text));
            }
            // SAFETY: asked of the caller, and they have the size of ours.
            *unsafe { reference("options", pointer) }?
        };
        // SAFETY: asked of the caller.
        let (service, flag) = unsafe { (text("service", given.service)?, optional_text(given.restart_flag)) };
        let service = std::str::from_utf8(service).ok().filter(|name| !name.is_empty());
        let service = service.ok_or_else(|| Failure::new(libc::EINVAL, "not the name of a service"))?;
        let connect = ConnectOptions {
            namespace: Namespace::Machine,
            max_message_size: given.message_max,
            timeout: limit(given.connect_timeout_ms),
            as_libqb: false,
        };
        let restart = flag.map(|flag| Restart {
            flag: PathBuf::from(OsStr::from_bytes(flag)),
            patience: limit(given.restart_timeout_ms).unwrap_or(Duration::MAX),
        });
        let service = service.to_owned();
        let options = session::Options { service, connect, restart, resend: given.resend != 0 };
        Ok((options, limit(given.timeout_ms)))
    }
}

/// Fills options with what a stock client does. Returns 0, or -EINVAL if options is NULL.
// SAFETY: no other symbol has this name; of the pointer is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_options_init(options: *mut Options) -> i32 {
    boundary(|| {
        // SAFETY: asked of the caller.
        *unsafe { unique("options", options) }? = Options::new();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{PMXCFS_RESTART_FLAG, PMXCFS_SERVICE};

    fn read(options: &Options) -> Result<(session::Options, Option<Duration>), i32> {
        // SAFETY: options that this module has filled, with its strings.
        unsafe { Options::read(options) }.map_err(|failure| failure.errno)
    }

    #[test]
    fn without_any_they_are_those_of_a_stock_client() {
        // SAFETY: null is allowed.
        let (options, timeout) = unsafe { Options::read(std::ptr::null()) }.unwrap();
        assert_eq!((options.service.as_str(), options.resend, timeout), (PMXCFS_SERVICE, true, None));
        assert_eq!(options.restart.unwrap().flag.to_str(), Some(PMXCFS_RESTART_FLAG));
        assert_eq!(options.connect.max_message_size, 8192 * 128);
    }

    #[test]
    fn each_is_read() {
        let (service, restart_flag) = (c"other".as_ptr(), std::ptr::null());
        let all = Options { service, restart_flag, timeout_ms: 7, connect_timeout_ms: -1, ..Options::new() };
        let (options, timeout) = read(&Options { resend: 0, ..all }).unwrap();
        assert_eq!((options.service.as_str(), options.resend), ("other", false));
        assert!(options.restart.is_none() && options.connect.timeout.is_none());
        assert_eq!(timeout, Some(Duration::from_millis(7)));
        assert_eq!(read(&Options { size: 8, ..all }).map(drop), Err(libc::EINVAL));
        assert_eq!(read(&Options { service: std::ptr::null(), ..all }).map(drop), Err(libc::EINVAL));
        assert_eq!(read(&Options { service: c"".as_ptr(), ..all }).map(drop), Err(libc::EINVAL));
        assert_eq!(read(&Options { service: c"\xff".as_ptr(), ..all }).map(drop), Err(libc::EINVAL));
    }
}
