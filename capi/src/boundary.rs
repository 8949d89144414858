//! The line between C and Rust: no panic crosses it, every error becomes a negative errno and a text
//! that is kept for the thread, and every pointer is looked at before it is used.

use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::calls::BadArgument;
use pmxcfs::ipc::qb::client::ClientError;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Positive.
    pub(crate) errno: i32,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(errno: i32, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.to_errno(), error.to_string())
    }
}

impl From<BadArgument> for Failure {
    fn from(error: BadArgument) -> Self {
        Self::new(error.to_errno(), error.to_string())
    }
}

thread_local! {
    static TEXT: RefCell<CString> = RefCell::default();
}

/// Runs a call; 0 or a negative errno. What it changes must be fit for use after a panic.
pub(crate) fn boundary(call: impl FnOnce() -> Result<(), Failure>) -> i32 {
    match value(call) {
        Ok(()) => 0,
        Err(errno) => -errno,
    }
}

/// Runs a call that has a result; a positive errno else.
pub(crate) fn value<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, i32> {
    let panicked =
        |_| Err(Failure::new(libc::ENOTRECOVERABLE, "libpmxcfs has a bug; see standard error for it"));
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(panicked).map_err(|failure| {
        let text = CString::new(failure.text.replace('\0', "?")).unwrap_or_default();
        // At the end of a thread it may be gone already.
        let _ = TEXT.try_with(|kept| kept.replace(text));
        // A number that is no errno would look like success.
        if failure.errno > 0 { failure.errno } else { libc::EIO }
    })
}

/// What the last call that failed in this thread has to say about it: a line of English without a
/// line break, empty if none has failed. Never NULL, never to be freed; it is good until the next
/// call of this library in this thread.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub extern "C" fn pmxcfs_error_text() -> *const c_char {
    TEXT.try_with(|kept| kept.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Error for a pointer that must not be null.
pub(crate) fn null(what: &str) -> Failure {
    Failure::new(libc::EINVAL, format!("{what} is NULL"))
}

/// What `pointer` points to.
///
/// # Safety
/// It is null, or valid as a reference for `'a`.
pub(crate) unsafe fn reference<'a, T>(what: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: asked of the caller.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(what))
}

/// The same, to be changed.
///
/// # Safety
/// It is null, or valid as a unique reference for `'a`.
pub(crate) unsafe fn unique<'a, T>(what: &str, pointer: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: asked of the caller.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(what))
}

/// The bytes of a string.
///
/// # Safety
/// It is null, or points to bytes with a NUL at their end that live as long as `'a`.
pub(crate) unsafe fn text<'a>(what: &str, pointer: *const c_char) -> Result<&'a [u8], Failure> {
    // SAFETY: asked of the caller.
    unsafe { optional_text(pointer) }.ok_or_else(|| null(what))
}

/// The bytes of a string that may be left out.
///
/// # Safety
/// As of [`text`].
pub(crate) unsafe fn optional_text<'a>(pointer: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not null, the rest is asked of the caller.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// `len` bytes; none if `len` is 0, wherever `pointer` points.
///
/// # Safety
/// There are that many, and they live as long as `'a`, unless `pointer` is null.
pub(crate) unsafe fn bytes<'a>(what: &str, pointer: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(what));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::new(libc::EMSGSIZE, format!("{what}: no memory is that long")));
    }
    // SAFETY: not null, no longer than memory can be, the rest is asked of the caller.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), len) })
}

/// An array of `count` strings.
///
/// # Safety
/// There are that many pointers, unless `list` is null; each is as of [`text`].
pub(crate) unsafe fn strings<'a>(
    what: &str,
    list: *const *const c_char,
    count: usize,
) -> Result<Vec<&'a [u8]>, Failure> {
    if list.is_null() && count > 0 {
        return Err(null(what));
    }
    // SAFETY: not null; below `count`; the rest is asked of the caller.
    (0..count).map(|index| unsafe { text(what, *list.add(index)) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> String {
        // SAFETY: a string of this thread, which does not change it meanwhile.
        unsafe { CStr::from_ptr(pmxcfs_error_text()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn errors_become_numbers_and_texts() {
        assert_eq!(kept(), "");
        assert_eq!(boundary(|| Err(ClientError::TimedOut.into())), -libc::ETIMEDOUT);
        assert_eq!(kept(), "timed out");
        assert_eq!(boundary(|| Ok(())), 0);
        assert_eq!(kept(), "timed out", "of the last call that failed");
        assert_eq!(boundary(|| Err(Failure::new(0, "nul \0 inside"))), -libc::EIO);
        assert_eq!(kept(), "nul ? inside");
        assert_eq!(std::thread::spawn(kept).join().unwrap(), "", "each thread has its own");
    }

    #[test]
    fn no_panic_crosses() {
        assert_eq!(boundary(|| panic!("as the test wants")), -libc::ENOTRECOVERABLE);
        assert!(kept().contains("bug"));
    }

    #[test]
    fn pointers_are_looked_at() {
        let none = std::ptr::null::<u8>();
        // SAFETY: null is allowed everywhere, and the strings and arrays are.
        unsafe {
            assert_eq!(reference("x", none).unwrap_err().errno, libc::EINVAL);
            assert_eq!(unique("x", none.cast_mut()).unwrap_err().text, "x is NULL");
            assert_eq!(text("x", none.cast()).unwrap_err().errno, libc::EINVAL);
            assert_eq!(text("x", c"abc".as_ptr()).unwrap(), b"abc");
            assert_eq!(bytes("x", none.cast(), 0).unwrap(), b"");
            assert_eq!(bytes("x", none.cast(), 1).unwrap_err().errno, libc::EINVAL);
            assert_eq!(bytes("x", c"abc".as_ptr().cast(), usize::MAX).unwrap_err().errno, libc::EMSGSIZE);
            assert_eq!(bytes("x", c"abc".as_ptr().cast(), 2).unwrap(), b"ab");
            let list = [c"a".as_ptr(), c"bc".as_ptr(), std::ptr::null()];
            assert_eq!(strings("x", list.as_ptr(), 2).unwrap(), [&b"a"[..], b"bc"]);
            assert_eq!(strings("x", list.as_ptr(), 3).unwrap_err().errno, libc::EINVAL);
            assert_eq!(strings("x", std::ptr::null(), 1).unwrap_err().errno, libc::EINVAL);
            assert!(strings("x", std::ptr::null(), 0).unwrap().is_empty());
        }
    }
}
