//! The calls into librrd and, for the local midnight, into the C library, made safe. It decides
//! nothing: which file, which values and when is up to the writer.
//!
//! Only librrd's re-entrant calls are used; its error text belongs to the calling thread.
//!
//! It is loaded at the first call, not linked: it brings forty graphics libraries, which would cost each
//! start 10 ms and 6 MB, and where rrdcached runs only new files need it.
#![allow(unsafe_code, reason = "calls librrd and the C library")]

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

/// The name under which every librrd of the header's interface is installed.
const LIBRARY: &str = "librrd.so.8";

/// What bindgen makes of librrd's header.
#[allow(
    non_camel_case_types,
    non_upper_case_globals,
    dead_code,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code"
)]
mod sys {
    include!(concat!(env!("OUT_DIR"), "/librrd.rs"));
}

/// librrd's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(pub(super) String);

/// Makes a file, replacing one that is there. `start` is the time before its first value.
pub(super) fn create(file: &Path, step: u32, start: i64, definitions: &[CString]) -> Result<(), Error> {
    let name = c_path(file)?;
    with_arguments(definitions, |librrd, count, arguments| {
        // SAFETY: `name` and the `count` strings behind `arguments` are NUL-terminated and outlive
        // the call, which keeps none of them.
        unsafe { librrd.rrd_create_r(name.as_ptr(), step.into(), start, count, arguments.cast()) }
    })
}

/// Writes one set of values (`time:value:...`) into an existing file.
pub(super) fn update(file: &Path, values: &[u8]) -> Result<(), Error> {
    let name = c_path(file)?;
    let values = CString::new(values).map_err(|_| Error("values with a NUL".to_owned()))?;
    with_arguments(&[values], |librrd, count, arguments| {
        // SAFETY: as in `create`; a null template means all data sources in their order.
        unsafe { librrd.rrd_update_r(name.as_ptr(), std::ptr::null(), count, arguments.cast()) }
    })
}

/// Calls librrd with a C array of strings, and fetches its error text if it fails.
fn with_arguments(
    strings: &[CString],
    call: impl FnOnce(&sys::Librrd, i32, *mut *const c_char) -> i32,
) -> Result<(), Error> {
    let librrd = library()?;
    let mut pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
    let count = i32::try_from(pointers.len()).map_err(|_| Error("too many arguments".to_owned()))?;
    pointers.push(std::ptr::null());
    // SAFETY: takes no argument and touches only this thread's error text.
    unsafe { librrd.rrd_clear_error() };
    if call(librrd, count, pointers.as_mut_ptr()) == 0 { Ok(()) } else { Err(last_error(librrd)) }
}

/// The library, loaded by whoever needs it first. If that fails it is not tried again.
fn library() -> Result<&'static sys::Librrd, Error> {
    static LIBRRD: OnceLock<Result<sys::Librrd, Error>> = OnceLock::new();
    LIBRRD.get_or_init(|| load(LIBRARY)).as_ref().map_err(Clone::clone)
}

fn load(name: &str) -> Result<sys::Librrd, Error> {
    // SAFETY: the declarations are those of its header, and what it does when it is loaded is what it
    // would do in any program that is linked to it.
    let loaded = unsafe { sys::Librrd::new(name) };
    loaded.map_err(|error| Error(format!("librrd cannot be used (package librrd8): {error}")))
}

fn last_error(librrd: &sys::Librrd) -> Error {
    // SAFETY: gives null or this thread's error text, which is valid until its next librrd call;
    // it is copied before that.
    let text = unsafe {
        let text = librrd.rrd_get_error();
        if text.is_null() { c"no reason given" } else { CStr::from_ptr(text) }
    };
    Error(text.to_string_lossy().into_owned())
}

fn c_path(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error("a path with a NUL".to_owned()))
}

/// The last midnight of the local time zone that is not after `now`; `now` if there is none.
pub(super) fn local_midnight(now: u32) -> i64 {
    let time = libc::time_t::from(now);
    // SAFETY: all zero bytes are a valid `tm`: numbers and a pointer that may be null.
    let mut day: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to live values of this frame.
    if unsafe { libc::localtime_r(&time, &mut day) }.is_null() {
        return time;
    }
    day.tm_hour = 0;
    day.tm_min = 0;
    day.tm_sec = 0;
    // Daylight saving may have begun or ended since.
    day.tm_isdst = -1;
    // SAFETY: `day` is a live value of this frame, which mktime may normalise.
    match unsafe { libc::mktime(&mut day) } {
        -1 => time,
        midnight => midnight.min(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midnight_is_its_own() {
        for now in [0, 1, 86_399, 1_700_000_000, 1_711_846_800, 1_729_990_800, u32::MAX] {
            let midnight = local_midnight(now);
            assert!(midnight <= now.into() && i64::from(now) - midnight < 25 * 3600 + 1, "{now}");
            if let Ok(again) = u32::try_from(midnight) {
                assert_eq!(local_midnight(again), midnight);
            }
        }
    }

    #[test]
    fn a_missing_library_is_an_error() {
        let missing = load("librrd.so.none").err().expect("there is none");
        assert!(missing.0.contains("librrd8") && missing.0.contains("librrd.so.none"), "{missing}");
    }

    #[test]
    fn errors_are_librrds_words() {
        let missing = update(Path::new("/nonexistent/x"), b"1:2").unwrap_err();
        assert!(missing.0.contains("/nonexistent/x"), "{missing}");
        let no_path = update(Path::new("a\0b"), b"1:2").unwrap_err();
        assert_eq!(no_path.0, "a path with a NUL");
    }
}
