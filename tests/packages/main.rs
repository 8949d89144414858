//! The Debian packages: what installing, upgrading and removing them does to a node, beside a stock package made
//! here and without one. The daemon's package is put together from the project's own rules, lists and scripts, by
//! dpkg alone and with scripts in the place of its programs; `make deb` makes the real ones.
//!
//! Everything happens in a copy of this machine that is gone afterwards.

mod installs;
mod lists;
mod machine;
#[path = "../common/map.rs"]
mod map;
#[path = "../common/namespace.rs"]
mod namespace;
mod package;
#[path = "../common/rules.rs"]
mod rules;
mod steps;
