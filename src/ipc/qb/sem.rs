//! glibc's process-shared semaphore, as libqb keeps it in a ring's header: one u64, the value in
//! its low half, the number of waiters in its high half. The low half is the futex word. Both
//! halves belong to the other process as much as to us, so nothing here waits without a limit, and
//! only a client waits at all.
#![allow(unsafe_code, reason = "waits by the futex system call")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WAITER: u64 = 1 << 32;
/// glibc refuses to count further.
const VALUE_MAX: u32 = 0x7fff_ffff;

/// The value in the low half.
fn value(both: u64) -> u32 {
    both as u32
}

/// Adds one and wakes a waiter if there is one. A semaphore at its maximum stays as it is: the
/// other process has put that number there, and may live with it.
pub(crate) fn post(semaphore: &AtomicU64) {
    let add_one = |both| (value(both) < VALUE_MAX).then(|| both + 1);
    let before = semaphore.fetch_update(Ordering::Release, Ordering::Relaxed, add_one);
    if before.is_ok_and(|before| before >= WAITER) {
        futex_wake(semaphore);
    }
}

/// Takes one if there is one.
pub(crate) fn try_take(semaphore: &AtomicU64) -> bool {
    let take_one = |both| (value(both) > 0).then(|| both - 1);
    semaphore.fetch_update(Ordering::Acquire, Ordering::Relaxed, take_one).is_ok()
}

/// Whether there is one to take.
pub(crate) fn is_open(semaphore: &AtomicU64) -> bool {
    value(semaphore.load(Ordering::Relaxed)) > 0
}

/// Takes one, waiting up to `limit` for it. It may give up early, as on a signal.
pub(crate) fn take(semaphore: &AtomicU64, limit: Duration) -> bool {
    if try_take(semaphore) {
        return true;
    }
    semaphore.fetch_add(WAITER, Ordering::Relaxed);
    futex_wait_zero(semaphore, limit);
    let take_one = |both| (value(both) > 0).then(|| both.wrapping_sub(WAITER + 1));
    let taken = semaphore.fetch_update(Ordering::Acquire, Ordering::Relaxed, take_one).is_ok();
    if !taken {
        semaphore.fetch_sub(WAITER, Ordering::Relaxed);
    }
    taken
}

/// The futex word: the half with the value.
fn futex_word(semaphore: &AtomicU64) -> *mut u32 {
    semaphore.as_ptr().cast()
}

/// Wakes one waiter, in whichever process. Errors do not matter: the page may be gone.
fn futex_wake(semaphore: &AtomicU64) {
    // SAFETY: FUTEX_WAKE does not access the word, it only looks up who waits on its page; if that
    // is no longer mapped, the call fails.
    unsafe { libc::syscall(libc::SYS_futex, futex_word(semaphore), libc::FUTEX_WAKE, 1) };
}

/// Sleeps while the value is 0, up to `limit`.
fn futex_wait_zero(semaphore: &AtomicU64, limit: Duration) {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let word = futex_word(semaphore);
    // SAFETY: the word is aligned and lives as long as the borrow of it; the kernel reads it and
    // the limit. Whatever the result, the caller looks at the value again.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, &raw const limit) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn takes_what_was_posted() {
        let semaphore = AtomicU64::new(0);
        assert!(!try_take(&semaphore));
        post(&semaphore);
        post(&semaphore);
        assert!(is_open(&semaphore));
        assert!(try_take(&semaphore) && take(&semaphore, Duration::ZERO));
        assert!(!try_take(&semaphore));
        assert!(!take(&semaphore, Duration::from_millis(1)));
        assert_eq!(semaphore.into_inner(), 0, "no waiter is left behind");
    }

    #[test]
    fn a_full_semaphore_does_not_spill_into_the_waiters() {
        let semaphore = AtomicU64::new(VALUE_MAX.into());
        post(&semaphore);
        assert_eq!(semaphore.load(Ordering::Relaxed), u64::from(VALUE_MAX));
        let absurd = AtomicU64::new(u64::MAX);
        post(&absurd);
        assert!(try_take(&absurd));
    }

    #[test]
    fn a_waiter_is_woken() {
        let semaphore = Arc::new(AtomicU64::new(0));
        let poster = Arc::clone(&semaphore);
        let thread = std::thread::spawn(move || {
            while poster.load(Ordering::Relaxed) < WAITER {
                std::thread::yield_now();
            }
            post(&poster);
        });
        assert!(take(&semaphore, Duration::from_secs(60)));
        thread.join().unwrap();
        assert_eq!(semaphore.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn understood_by_glibc() {
        let semaphore = AtomicU64::new(0);
        let mut memory = [semaphore, AtomicU64::new(128), AtomicU64::new(0), AtomicU64::new(0)];
        let sem: *mut libc::sem_t = memory.as_mut_ptr().cast();
        const { assert!(size_of::<libc::sem_t>() == 32) };
        // SAFETY: 32 aligned bytes in the state glibc's sem_init leaves; it outlives the calls.
        unsafe {
            assert_eq!(libc::sem_trywait(sem), -1);
            post(&*sem.cast::<AtomicU64>());
            assert_eq!(libc::sem_trywait(sem), 0);
            assert_eq!(libc::sem_post(sem), 0);
            assert!(try_take(&*sem.cast::<AtomicU64>()));
        }
    }
}
