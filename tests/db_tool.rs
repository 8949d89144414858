//! `pmxcfs-db`, the built program, on databases of all kinds: what it says, what it changes, and above all
//! what it does not change.

#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/public.rs"]
mod public;
#[path = "db_tool/support.rs"]
mod support;

#[path = "db_tool/backup.rs"]
mod backup;
#[path = "db_tool/bad_input.rs"]
mod bad_input;
#[path = "db_tool/compact.rs"]
mod compact;
#[path = "db_tool/diff.rs"]
mod diff;
#[path = "db_tool/edits.rs"]
mod edits;
#[path = "db_tool/exposed.rs"]
mod exposed;
#[path = "db_tool/moving.rs"]
mod moving;
#[path = "db_tool/races.rs"]
mod races;
#[path = "db_tool/random.rs"]
mod random;
#[path = "db_tool/reading.rs"]
mod reading;
#[path = "db_tool/repair.rs"]
mod repair;
#[path = "db_tool/signals.rs"]
mod signals;
#[path = "db_tool/wrong_kinds.rs"]
mod wrong_kinds;
