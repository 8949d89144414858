//! The database file: what is read from it, what is written to it, and what is left of it when the
//! disk, an admin, or a kill comes in between.

#[path = "common/namespace.rs"]
mod namespace;
#[path = "store/support.rs"]
mod support;

#[path = "store/apart.rs"]
mod apart;
#[path = "store/commit.rs"]
mod commit;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/kill.rs"]
mod kill;
#[path = "store/load.rs"]
mod load;
#[path = "store/log.rs"]
mod log;
#[path = "store/replaced.rs"]
mod replaced;
