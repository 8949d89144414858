//! Power failures. The test records every write, sync and removal of the production code and of SQLite, cuts the disk
//! off after each of them, and loses or tears calls that were not synced. The database must load then, and hold the
//! complete state of some moment since the last acknowledged sync.
//!
//! POWER_SEED replays the seed that a failed test printed; POWER_RUNS sets the number of random scripts of each kind.

#[path = "common/disk.rs"]
mod disk;
#[path = "common/image.rs"]
mod image;

#[path = "power/cuts.rs"]
mod cuts;
#[path = "power/engine.rs"]
mod engine;
#[path = "power/history.rs"]
mod history;
#[path = "power/operations.rs"]
mod operations;
#[path = "power/store.rs"]
mod store;
