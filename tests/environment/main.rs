//! What the tests themselves depend on: programs of the machine, places that other users reach, namespaces.

#[path = "../common/namespace.rs"]
mod namespace;
#[path = "../common/public.rs"]
mod public;

mod places;
mod programs;
