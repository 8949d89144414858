//! The real libqb, for corosync's client libraries: they need functions that clients of pmxcfs do not, and talk to
//! corosync. A program that loads both kinds of libraries has only one libqb.so.100, this one. So connections to
//! services of corosync, and the handle tables of its libraries, are left to the real libqb. It is loaded by its path
//! at the first such call, and never otherwise.

use libc::{RTLD_DEEPBIND, RTLD_LOCAL, RTLD_NOW, c_char, c_void, dlopen, dlsym, size_t, ssize_t};
use std::ffi::{CStr, CString};
use std::sync::OnceLock;

/// Services that corosync serves.
const SERVICES: &[&[u8]] = &[b"cfg", b"cmap", b"cpg", b"quorum", b"votequorum"];

/// True for the name of a service of corosync.
pub(crate) fn is_of_corosync(service: &CStr) -> bool {
    SERVICES.contains(&service.to_bytes())
}

/// Places of the library. The loader's own search would find this library again.
fn paths() -> impl Iterator<Item = CString> {
    let arch = std::env::consts::ARCH;
    let dirs = [format!("/usr/lib/{arch}-linux-gnu"), "/usr/lib64".to_owned(), "/usr/lib".to_owned()];
    dirs.into_iter().filter_map(|dir| CString::new(format!("{dir}/libqb.so.100")).ok())
}

/// Handle of the loader; 0 if the library is not installed.
fn library() -> *mut c_void {
    static LIBRARY: OnceLock<usize> = OnceLock::new();
    let open = || {
        // Its own functions, which have the names of those here, must call each other.
        let flags = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
        // SAFETY: strings with a NUL; libqb has no constructors that ask anything of the caller.
        let opened = paths().map(|path| unsafe { dlopen(path.as_ptr(), flags) });
        opened.map(|handle| handle as usize).find(|&handle| handle != 0).unwrap_or(0)
    };
    *LIBRARY.get_or_init(open) as *mut c_void
}

/// Address of a function of the real library. `own` is that of the function here, which is no answer: the library can
/// be installed in the real one's place.
pub(crate) fn function(name: &CStr, own: usize) -> Option<*mut c_void> {
    let library = library();
    if library.is_null() {
        return None;
    }
    // SAFETY: a handle of dlopen that is never closed, and a string with a NUL.
    let found = unsafe { dlsym(library, name.as_ptr()) };
    (!found.is_null() && found as usize != own).then_some(found)
}

/// Defines functions of libqb that call the real ones, and return `-ENOSYS` without it.
macro_rules! forwarded {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        $(#[$doc])*
        // SAFETY: the name is libqb's, for which this library stands in; so are the rules for pointers.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            static REAL: OnceLock<usize> = OnceLock::new();
            let name = const {
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("a NUL inside"),
                }
            };
            let own = $name as *const () as usize;
            let real = *REAL.get_or_init(|| function(name, own).map_or(0, |real| real as usize));
            if real == 0 {
                return -libc::ENOSYS;
            }
            // SAFETY: the address of the function of this name in the real libqb, which has this signature.
            let real: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(real) };
            // SAFETY: the caller keeps libqb's rules.
            unsafe { real($($argument),*) }
        }
    )*};
}

forwarded! {
    /// Makes an entry of a handle table.
    fn qb_hdb_handle_create(table: *mut c_void, size: i32, handle: *mut u64) -> i32;
    /// Takes a reference to an entry.
    fn qb_hdb_handle_get(table: *mut c_void, handle: u64, entry: *mut *mut c_void) -> i32;
    /// Returns a reference to an entry.
    fn qb_hdb_handle_put(table: *mut c_void, handle: u64) -> i32;
    /// Ends an entry with its last reference.
    fn qb_hdb_handle_destroy(table: *mut c_void, handle: u64) -> i32;
    /// Begins to go over the entries.
    fn qb_hdb_iterator_reset(table: *mut c_void) -> i32;
    /// Goes to the next entry.
    fn qb_hdb_iterator_next(table: *mut c_void, entry: *mut *mut c_void, handle: *mut u64) -> i32;
}

/// Functions of the real library for its connections.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::type_complexity, reason = "signatures of libqb")]
pub struct Calls {
    // SAFETY: types only; a caller keeps libqb's rules for the function of the name.
    pub(crate) connect: unsafe extern "C" fn(*const c_char, size_t) -> *mut c_void,
    pub(crate) disconnect: unsafe extern "C" fn(*mut c_void),
    pub(crate) fd_get: unsafe extern "C" fn(*mut c_void, *mut i32) -> i32,
    pub(crate) is_connected: unsafe extern "C" fn(*mut c_void) -> i32,
    pub(crate) buffer_size: unsafe extern "C" fn(*mut c_void) -> i32,
    pub(crate) sendv: unsafe extern "C" fn(*mut c_void, *const libc::iovec, size_t) -> ssize_t,
    // SAFETY: types only; a caller keeps libqb's rules for the function of the name.
    pub(crate) recv: unsafe extern "C" fn(*mut c_void, *mut c_void, size_t, i32) -> ssize_t,
    pub(crate) sendv_recv:
        unsafe extern "C" fn(*mut c_void, *const libc::iovec, u32, *mut c_void, size_t, i32) -> ssize_t,
    pub(crate) event_recv: unsafe extern "C" fn(*mut c_void, *mut c_void, size_t, i32) -> ssize_t,
    pub(crate) fc_enable_max_set: unsafe extern "C" fn(*mut c_void, u32) -> i32,
}

/// The functions, if the library is installed.
#[allow(clippy::missing_transmute_annotations, reason = "the fields have the types")]
pub(crate) fn calls() -> Option<Calls> {
    macro_rules! real {
        ($name:ident) => {{
            let name = CString::new(stringify!($name)).ok()?;
            let found = function(&name, crate::$name as *const () as usize)?;
            // SAFETY: the address of the function of this name in the real libqb, which has the signature of the
            // field.
            unsafe { std::mem::transmute(found) }
        }};
    }
    Some(Calls {
        connect: real!(qb_ipcc_connect),
        disconnect: real!(qb_ipcc_disconnect),
        fd_get: real!(qb_ipcc_fd_get),
        is_connected: real!(qb_ipcc_is_connected),
        buffer_size: real!(qb_ipcc_get_buffer_size),
        sendv: real!(qb_ipcc_sendv),
        recv: real!(qb_ipcc_recv),
        sendv_recv: real!(qb_ipcc_sendv_recv),
        event_recv: real!(qb_ipcc_event_recv),
        fc_enable_max_set: real!(qb_ipcc_fc_enable_max_set),
    })
}
