//! How local programs ask the daemon: what an IPC service is ([`server`]), the libqb transport that
//! carries it ([`qb`]), and the `pve2` service ([`requests`]).

pub mod ops;
pub mod qb;
pub mod requests;
pub mod server;

pub use qb::{Options, Server};
