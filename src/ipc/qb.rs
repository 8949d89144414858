//! libqb's IPC on Linux without libqb: the server of a service, and a client for it. Both speak
//! what stock libqb 2.0 speaks, over shared memory; the client also over sockets. When both are ours they
//! do with less memory ([`own`]).
//!
//! Everything a client can reach is hostile: its messages, the shared memory, and the length of the
//! files below it. Nothing it does may harm the daemon or delay another client. In the same way
//! nothing a server does may harm the program that the client is part of.
#![cfg_attr(not(feature = "daemon"), allow(dead_code, reason = "only the server uses part of it"))]

#[cfg(feature = "daemon")]
mod accept;
mod address;
#[cfg(feature = "daemon")]
mod auth;
pub mod client;
#[cfg(feature = "daemon")]
mod connection;
mod credentials;
pub mod fuzz;
#[cfg(feature = "daemon")]
mod hangups;
mod holder;
#[cfg(feature = "daemon")]
mod listener;
mod mapping;
pub mod own;
mod patience;
#[cfg(feature = "daemon")]
mod places;
#[cfg(feature = "daemon")]
mod priority;
mod ring;
mod sem;
#[cfg(feature = "daemon")]
mod server;
#[cfg(feature = "daemon")]
mod shm;
mod sigbus;
#[cfg(feature = "daemon")]
mod sweep;
#[cfg(feature = "daemon")]
mod throttle;
#[cfg(feature = "daemon")]
mod waiting;
pub mod wire;
#[cfg(feature = "daemon")]
mod workers;

pub use address::Namespace;
pub use holder::Holder;
#[cfg(feature = "daemon")]
pub use server::{Clients, OnReach, Options, Reach, Server, StartError, Traffic};
