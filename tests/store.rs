//! The database file: what is read from it, what is written to it, and what is left of it when the
//! disk, an admin, or a kill comes in between.

#[path = "store/support.rs"]
mod support;

#[path = "store/load.rs"]
mod load;
