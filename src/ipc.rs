//! How local programs ask the daemon: what an IPC service is ([`server`]), the libqb transport that
//! carries it ([`qb`]), and the `pve2` service (`requests`); and what a program needs to ask: [`calls`]
//! and [`session`].

pub mod calls;
pub mod ops;
pub mod qb;
#[cfg(feature = "daemon")]
pub mod requests;
pub mod server;
pub mod session;
#[cfg(feature = "daemon")]
pub mod shares;

#[cfg(feature = "daemon")]
pub use qb::{Clients, Holder, OnReach, Options, Reach, Server, StartError};
