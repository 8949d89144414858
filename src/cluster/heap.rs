//! Giving memory back to the system when much of it was needed for a short time.
#![allow(unsafe_code, reason = "calls the C library")]

/// Returns what the allocator keeps of freed memory. It keeps a lot after a round of synchronisation: the
/// states of all members, a copy of each for corosync, and what some member lacked.
pub(super) fn trim_heap() {
    // SAFETY: touches no memory that is in use, and is for any thread at any time.
    unsafe { libc::malloc_trim(0) };
}
