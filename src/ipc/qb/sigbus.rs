//! Surviving truncated files. A client owns the files of its rings and may cut them at any moment;
//! an access beyond the new end then raises SIGBUS, which would kill the daemon, or, where the server
//! did it, the program that the client is part of. This module owns
//! the process's SIGBUS handler and the registry of ring mappings it protects.
//!
//! A fault inside a registered mapping puts anonymous memory over that whole mapping and marks it
//! as broken; the interrupted access goes on and sees zeros, and the connection's thread finds the
//! mark before it acts on anything it read. Faults anywhere else go to the handler that was there
//! before. The handler takes no lock and allocates nothing: it reads the registry's atomics and
//! makes one system call. It never touches memory of a client.
#![allow(unsafe_code, reason = "installs a signal handler")]

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Mappings that can be registered at once, hence connections of one process.
pub(crate) const SLOTS: usize = 2048;

/// A registered mapping. Start and length are one word, so that the handler never sees a half of
/// one mapping and a half of another.
struct Slot {
    /// Page number of the start in the high bits, number of pages in the low [`PAGES_BITS`];
    /// 0 = free.
    range: AtomicU64,
    /// A fault was caught here.
    broken: AtomicBool,
}

const PAGES_BITS: u32 = 28;
const PAGE_SHIFT: u32 = 12;

static REGISTRY: [Slot; SLOTS] =
    [const { Slot { range: AtomicU64::new(0), broken: AtomicBool::new(false) } }; SLOTS];

/// The action that was installed before ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// A registration; the mapping is protected while it lives.
#[derive(Debug)]
pub(crate) struct Registration {
    slot: usize,
}

impl Registration {
    /// Protects the `len` bytes at `start`, both in whole pages, and installs the handler when it
    /// is the first.
    ///
    /// # Errors
    /// If there is no slot left, or the handler cannot be installed.
    pub(crate) fn new(start: usize, len: usize) -> io::Result<Self> {
        install()?;
        let packed = pack(start, len).ok_or(io::ErrorKind::InvalidInput)?;
        for (slot, entry) in REGISTRY.iter().enumerate() {
            let claim = entry.range.compare_exchange(0, packed, Ordering::AcqRel, Ordering::Relaxed);
            if claim.is_ok() {
                return Ok(Self { slot });
            }
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }

    /// Whether an access to the mapping faulted: what was read since is worth nothing.
    pub(crate) fn is_broken(&self) -> bool {
        REGISTRY[self.slot].broken.load(Ordering::Acquire)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The next user of the slot must find it clean, and may claim it from here on.
        REGISTRY[self.slot].broken.store(false, Ordering::Relaxed);
        REGISTRY[self.slot].range.store(0, Ordering::Release);
    }
}

/// Start and length as one word; `None` if they are no whole pages or too large.
fn pack(start: usize, len: usize) -> Option<u64> {
    let (start, len) = (u64::try_from(start).ok()?, u64::try_from(len).ok()?);
    let whole = (start | len) & ((1 << PAGE_SHIFT) - 1) == 0;
    let (page, pages) = (start >> PAGE_SHIFT, len >> PAGE_SHIFT);
    let fits = pages > 0 && pages < 1 << PAGES_BITS && page > 0 && page < 1 << (64 - PAGES_BITS);
    (whole && fits).then_some((page << PAGES_BITS) | pages)
}

/// Start and length of a packed range.
fn unpack(packed: u64) -> (usize, usize) {
    let pages = packed & ((1 << PAGES_BITS) - 1);
    (((packed >> PAGES_BITS) << PAGE_SHIFT) as usize, (pages << PAGE_SHIFT) as usize)
}

/// The registered mapping that contains `address`.
fn find(address: usize) -> Option<(&'static Slot, usize, usize)> {
    REGISTRY.iter().find_map(|slot| {
        let (start, len) = unpack(slot.range.load(Ordering::Acquire));
        let inside = address >= start && address - start < len;
        inside.then_some((slot, start, len))
    })
}

/// Installs the handler once.
fn install() -> io::Result<()> {
    static RESULT: OnceLock<Result<(), i32>> = OnceLock::new();
    let result = RESULT.get_or_init(|| {
        let failed = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        // SAFETY: all zeros is a valid `sigaction`, the default action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let mut previous = action;
        action.sa_sigaction = on_sigbus as *const () as usize;
        // An alternate stack if the thread has one: a previous handler may report an overflow.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: asks only; `previous` is ours and lives through the call.
        if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut previous) } != 0 {
            return Err(failed());
        }
        PREVIOUS.get_or_init(|| previous);
        // SAFETY: `on_sigbus` has the signature SA_SIGINFO asks for and does only what a signal
        // handler may; PREVIOUS, which it reads, is set.
        if unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) } != 0 {
            return Err(failed());
        }
        Ok(())
    });
    result.map_err(io::Error::from_raw_os_error)
}

/// Lets this thread take SIGBUS: a fault while it is blocked kills the process unasked.
pub(crate) fn unblock_in_this_thread() {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
    let mut set = SigSet::empty();
    set.add(Signal::SIGBUS);
    if let Err(error) = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None) {
        log::warn!("cannot unblock SIGBUS: {error}");
    }
}

/// Whether the fault was one of ours and is repaired.
fn repair(info: &libc::siginfo_t) -> bool {
    if info.si_code != libc::BUS_ADRERR {
        return false; // sent by a process, or broken hardware
    }
    // SAFETY: for BUS_ADRERR the kernel fills in the address.
    let address = unsafe { info.si_addr() } as usize;
    let Some((slot, start, len)) = find(address) else { return false };
    slot.broken.store(true, Ordering::Release);
    // SAFETY: the range is a live mapping: it is unregistered before it is unmapped, and only by
    // the thread that owns it, which is the one that faulted, hence stopped here. Only that thread
    // uses it, through raw pointers and atomics, for which zeroed memory is as good as any.
    let replaced = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    replaced != libc::MAP_FAILED
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is the thread's own; the interrupted code must find it as it was.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let repaired = unsafe { info.as_ref() }.is_some_and(repair);
    if !repaired {
        chain(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Does what would have been done without us.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: all zeros is a valid `sigaction`, the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    let previous = PREVIOUS.get().unwrap_or(&default);
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // A fault cannot be ignored. With the default action back in place the access faults
            // again as soon as we return, and the process ends with a core as it should.
            // SAFETY: sets the default action, which has no code.
            unsafe { libc::sigaction(signal, &default, std::ptr::null_mut()) };
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: whoever installed it with SA_SIGINFO promised this signature.
            let handler: Handler = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: whoever installed it without SA_SIGINFO promised this signature.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_pack_into_one_word() {
        let top = 0x7fff_ffff_f000;
        for (start, len) in [(0x1000, 0x1000), (top, 0x1000), (0x7f00_0000_0000, 0x20_6000)] {
            assert_eq!(unpack(pack(start, len).unwrap()), (start, len));
        }
        assert_eq!(pack(0x1001, 0x1000), None);
        assert_eq!(pack(0x1000, 0), None);
        assert_eq!(pack(0x1000, 0x1800), None);
        assert_eq!(pack(0x1000, 1 << 40), None);
    }

    #[test]
    fn the_end_of_a_range_is_outside() {
        // Addresses no process has, so that a fault elsewhere cannot meet them.
        let start = 0xffff_0000_0000;
        let registration = Registration::new(start, 0x2000).unwrap();
        assert!(find(start).is_some());
        assert!(find(start + 0x1fff).is_some());
        assert!(find(start + 0x2000).is_none());
        assert!(find(start - 1).is_none());
        assert!(!registration.is_broken());
        drop(registration);
        assert!(find(start).is_none());
    }
}
