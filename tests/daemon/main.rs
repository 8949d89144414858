//! The daemon as a process: start, stop, crash. Each test has a root directory, a service name and a
//! mount of its own, kills only what it started, and unmounts what it left.

mod crash;
mod file_loss;
mod fixture;
mod fresh;
mod full_disk;
mod lifecycle;
mod manager;
mod memory;
mod name;
#[path = "../common/namespace.rs"]
mod namespace;
#[path = "../common/public.rs"]
mod public;
mod shares;
