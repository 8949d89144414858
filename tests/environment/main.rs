//! Environment of the tests: programs of the machine, directories that other users can reach, namespaces.

#[path = "../common/namespace.rs"]
mod namespace;
#[path = "../common/public.rs"]
mod public;

mod places;
mod programs;
