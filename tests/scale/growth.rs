//! Growth of an operation's cost with the size of the tree, measured in processor time of one thread, which
//! other programs do not affect.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::time::Duration;

/// Entries of the small tree. The large one has four times as many.
const SMALL: u64 = 4_096;

/// For four times the entries, cost grows 4 times for n, 4.6 times for n log n, and 16 times for n squared.
/// Processor caches make large trees more expensive.
const RATIO_MAX: f64 = 9.0;

/// Costs below this are too small to compare.
const FLOOR: Duration = Duration::from_millis(4);

/// Attempts before an operation counts as too expensive.
const TRIES: usize = 4;

/// Processor time of the calling thread for `act`.
pub fn cost<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let before = thread_time();
    let result = act();
    (thread_time() - before, result)
}

fn thread_time() -> Duration {
    // The kernel updates the count at a context switch, and otherwise only every 4 ms.
    std::thread::yield_now();
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("Linux counts it");
    let micros = |time: TimeVal| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64);
    micros(usage.user_time()) + micros(usage.system_time())
}

/// Panics if `cost_at`, which returns the cost at a number of entries, grows much faster than the tree.
pub fn assert_near_linear(what: &str, cost_at: impl FnMut(u64) -> Duration) {
    assert_near_linear_from(SMALL, what, cost_at);
}

/// As [`assert_near_linear`], with another size of the small tree.
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
        // Noise does not double processor time.
        if ratio > 1.5 * RATIO_MAX {
            break;
        }
    }
    panic!("{what}: four times the entries cost {ratios:.1?} times as much");
}
