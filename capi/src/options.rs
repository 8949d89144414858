//! How C programs say how to connect.

use crate::boundary::{Failure, boundary, null, optional_text, reference, text};
use crate::layout::{PMXCFS_MESSAGE_MAX, PMXCFS_NO_LIMIT};
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::ConnectOptions;
use pmxcfs::ipc::session::{self, Restart};
use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// How to connect. Set it to PMXCFS_OPTIONS_INIT or call pmxcfs_options_init, then change single
/// fields. Strings need only live until pmxcfs_connect returns.
///
/// Later versions may add fields at the end, for which 0 is the behaviour of today. The library reads
/// and writes no more than `size` bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// sizeof(pmxcfs_options) as the program was compiled. A larger size than the library knows is fine
    /// if all bytes that the library does not know are 0.
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

/// Size of the options of 0.1.0 and 0.2.0, the smallest there is: the fields up to `resend`.
const SIZE_FIRST: usize = 48;
/// Limit on the size of options. A larger value is not a size but uninitialized memory.
const SIZE_MAX: usize = 4096;

const _: () = assert!(size_of::<Options>() >= SIZE_FIRST && size_of::<Options>() <= SIZE_MAX);
const _: () = assert!(std::mem::offset_of!(Options, resend) + size_of::<u32>() == SIZE_FIRST);

/// A time as C has it: negative is no limit.
pub(crate) fn limit(milliseconds: i32) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

impl Options {
    fn defaults() -> Self {
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

    /// Options that C passes, of the size that they give; null gives the defaults.
    ///
    /// # Safety
    /// `pointer` is null or points to options of that size whose strings are strings or null.
    unsafe fn copy(pointer: *const Self) -> Result<Self, Failure> {
        let mut known = Self::defaults();
        if pointer.is_null() {
            return Ok(known);
        }
        // SAFETY: options of each version begin with their size.
        let size = checked_size(*unsafe { reference("options", pointer.cast::<usize>()) }?)?;
        let both = size.min(size_of::<Self>());
        // SAFETY: the caller has `size` bytes, and they do not change meanwhile.
        let later = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(both), size - both) };
        if later.iter().any(|&byte| byte != 0) {
            let text = "options have a field set that this version of the library does not know";
            return Err(Failure::new(libc::E2BIG, text));
        }
        // SAFETY: both structs have that many bytes. Options of C are integers and raw pointers, for which all
        // values are valid.
        unsafe { std::ptr::copy_nonoverlapping(pointer.cast(), (&raw mut known).cast::<u8>(), both) };
        Ok(known)
    }

    /// Writes the defaults to memory of `size` bytes and clears the bytes that the library does not know.
    ///
    /// # Safety
    /// `pointer` is null or points to that many bytes.
    unsafe fn write_defaults(pointer: *mut Self, size: usize) -> Result<(), Failure> {
        let size = checked_size(size)?;
        if pointer.is_null() {
            return Err(null("options"));
        }
        let defaults = Self { size, ..Self::defaults() };
        let known = size.min(size_of::<Self>());
        // SAFETY: the caller has `size` bytes, and `known` is at most that and at most the length of ours.
        unsafe {
            pointer.cast::<u8>().write_bytes(0, size);
            std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), pointer.cast(), known);
        }
        Ok(())
    }

    /// Options that C passes, as the core has them; null gives the defaults.
    ///
    /// # Safety
    /// As of [`Self::copy`].
    pub(crate) unsafe fn read(pointer: *const Self) -> Result<(session::Options, Option<Duration>), Failure> {
        // SAFETY: the caller guarantees the same.
        let given = unsafe { Self::copy(pointer) }?;
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

/// The size of options that a caller gives, if it can be one.
fn checked_size(size: usize) -> Result<usize, Failure> {
    if (SIZE_FIRST..=SIZE_MAX).contains(&size) {
        return Ok(size);
    }
    let text = format!("options of {size} bytes: not set to PMXCFS_OPTIONS_INIT or by pmxcfs_options_init");
    Err(Failure::new(libc::EINVAL, text))
}

/// Sets options of `size` bytes to the defaults, which are those of stock clients. Call
/// pmxcfs_options_init instead, a macro that passes the size. Returns 0; -EINVAL if options is NULL or
/// no version has options of this size.
// SAFETY: no other symbol has this name; the header states the duties of callers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_options_init_sized(options: *mut Options, size: usize) -> i32 {
    // SAFETY: the caller has that many bytes.
    boundary(|| unsafe { Options::write_defaults(options, size) })
}

/// Sets options to the defaults, which are those of stock clients. Returns 0, or -EINVAL if options is
/// NULL.
///
/// In C and C++ this is a macro for pmxcfs_options_init_sized. The function of this name is for programs
/// compiled against 0.1.0 or 0.2.0: it writes the fields up to `resend` and no others.
// SAFETY: no other symbol has this name; the header states the duties of callers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_options_init(options: *mut Options) -> i32 {
    // SAFETY: the caller has options of 0.1.0 or longer ones.
    boundary(|| unsafe { Options::write_defaults(options, SIZE_FIRST) })
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
        let all =
            Options { service, restart_flag, timeout_ms: 7, connect_timeout_ms: -1, ..Options::defaults() };
        let (options, timeout) = read(&Options { resend: 0, ..all }).unwrap();
        assert_eq!((options.service.as_str(), options.resend), ("other", false));
        assert!(options.restart.is_none() && options.connect.timeout.is_none());
        assert_eq!(timeout, Some(Duration::from_millis(7)));
        assert_eq!(read(&Options { service: std::ptr::null(), ..all }).map(drop), Err(libc::EINVAL));
        assert_eq!(read(&Options { service: c"".as_ptr(), ..all }).map(drop), Err(libc::EINVAL));
        assert_eq!(read(&Options { service: c"\xff".as_ptr(), ..all }).map(drop), Err(libc::EINVAL));
    }

    /// Options of a later version: two more fields.
    #[repr(C)]
    struct Later {
        options: Options,
        more: [u64; 2],
    }

    fn later(more: [u64; 2]) -> Result<(), i32> {
        let size = size_of::<Later>();
        let later = Later { options: Options { size, ..Options::defaults() }, more };
        // SAFETY: options of their size, with the strings of this module.
        unsafe { Options::copy((&raw const later).cast()) }.map(drop).map_err(|failure| failure.errno)
    }

    #[test]
    fn options_with_unknown_fields_must_be_zero() {
        assert_eq!(later([0, 0]), Ok(()));
        assert_eq!(later([1, 0]), Err(libc::E2BIG));
        assert_eq!(later([0, 1 << 63]), Err(libc::E2BIG));
    }

    #[test]
    fn options_of_an_impossible_size_are_refused() {
        for size in [0, 8, SIZE_FIRST - 1, SIZE_MAX + 1, usize::MAX] {
            let options = Options { size, ..Options::defaults() };
            assert_eq!(read(&options).map(drop), Err(libc::EINVAL), "{size}");
            // SAFETY: null is allowed.
            assert_eq!(unsafe { pmxcfs_options_init_sized(std::ptr::null_mut(), size) }, -libc::EINVAL);
        }
    }

    #[test]
    fn defaults_fill_the_given_size_exactly() {
        const FILL: u8 = 0xa5;
        let room = size_of::<Later>() + 8;
        for size in [SIZE_FIRST, size_of::<Options>(), size_of::<Later>()] {
            let mut memory = vec![u64::from_ne_bytes([FILL; 8]); room / 8];
            // SAFETY: the memory is longer than the size, and aligned.
            let result = unsafe { pmxcfs_options_init_sized(memory.as_mut_ptr().cast(), size) };
            assert_eq!((result, memory[0]), (0, size as u64));
            let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
            assert!(bytes[size..].iter().all(|&byte| byte == FILL), "written past {size}");
            assert!(bytes[size.min(size_of::<Options>())..size].iter().all(|&byte| byte == 0));
        }
    }
}
