//! This daemon beside a stock one: the same operations and requests on both, and each on the database
//! that the other left. The running stock daemon is the judge, except where `known.rs` says otherwise.
//!
//! `STOCK` is the path of a stock `pmxcfs`, or of several (`STOCK=a:b:c`), of which each is compared with;
//! without it every test says that it is skipped. Both daemons run in mount, host name and network
//! namespaces of their own, on directories of their own. `STOCK_SEED` repeats a run of the random tests,
//! `STOCK_STEPS` sets its length.

mod create;
mod ctl;
mod daemons;
mod database;
mod exchange;
mod host;
mod ipc;
mod known;
mod lockstep;
#[path = "../common/namespace.rs"]
mod namespace;
mod operation;
#[path = "../common/public.rs"]
mod public;
mod random;
mod tree;

/// Start of daemons of either side, shared with the benchmark.
#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../../benches/pmxcfs/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../../benches/pmxcfs/process.rs"]
mod process;
#[path = "../ipc/support.rs"]
mod support;

use std::io::{self, Write};
use std::path::PathBuf;

/// As the shared files have it.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

/// Runs a comparison with each stock daemon in `STOCK`. Without one it reports that the test is skipped.
fn with_each_stock(compare: impl Fn(PathBuf)) {
    let daemons = daemons::stock_daemons();
    if daemons.is_empty() {
        // The test runner captures the output of `println` if the test passes.
        let _ = writeln!(io::stderr(), "skipped: STOCK is not set to the path of a stock pmxcfs");
    }
    for daemon in daemons {
        // Shown when the test fails.
        println!("stock daemon: {}", daemon.display());
        compare(daemon);
    }
}
