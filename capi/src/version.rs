//! Which library a program has got.

use std::ffi::c_char;

/// The version of the library, as "0.2.0"; PMXCFS_VERSION is that of the header. Never NULL, never to
/// be freed.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub extern "C" fn pmxcfs_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
