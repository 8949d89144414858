//! Judges by processor time how the cost of an operation grows with the size of the tree. Processor time of
//! one thread does not count what other programs do meanwhile.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::time::Duration;

/// Entries of the small tree. The large one has four times as many.
const SMALL: u64 = 4_096;

/// Four times the entries cost 4 times with n, 4.6 times with n log n, 16 times with n squared. Caches of
/// the processor make large trees dearer.
const RATIO_MAX: f64 = 9.0;

/// Costs below this are too small to be compared.
const FLOOR: Duration = Duration::from_millis(4);

/// Tries until an operation counts as too dear.
const TRIES: usize = 4;

/// Processor time of the calling thread for `act`.
pub fn cost<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let before = thread_time();
    let result = act();
    (thread_time() - before, result)
}

fn thread_time() -> Duration {
    // The kernel brings the count up to date at a switch, and else only every 4 ms.
    std::thread::yield_now();
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("Linux counts it");
    let micros = |time: TimeVal| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64);
    micros(usage.user_time()) + micros(usage.system_time())
}

/// Panics if `cost_at`, which returns the cost at a number of entries, grows much faster than the tree.
pub fn assert_near_linear(what: &str, cost_at: impl FnMut(u64) -> Duration) {
    assert_near_linear_from(SMALL, what, cost_at);
}

/// The same with another size of the small tree.
pub fn assert_near_linear_from(entries: u64, what: &str, mut cost_at: impl FnMut(u64) -> Duration) {
    let mut ratios = Vec::new();
    for _ in 0..TRIES {
        let (small, large) = (cost_at(entries).max(FLOOR), cost_at(4 * entries));
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        println!("{what}: {entries} entries {small:?}, {} entries {large:?}, {ratio:.1} times", 4 * entries);
        if ratio <= RATIO_MAX {
            return;
        }
        ratios.push(ratio);
        // No noise doubles processor time.
        if ratio > 1.5 * RATIO_MAX {
            break;
        }
    }
    panic!("{what}: four times the entries cost {ratios:.1?} times as much");
}
