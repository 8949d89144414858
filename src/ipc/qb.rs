//! libqb's IPC on Linux without libqb: the server of a service, and a client for it. Both speak
//! what stock libqb 2.0 speaks, over shared memory.
//!
//! Everything a client can reach is hostile: its messages, the shared memory, and the length of the
//! files below it. Nothing it does may harm the daemon or delay another client.

mod accept;
mod address;
mod auth;
pub mod client;
mod connection;
mod credentials;
pub mod fuzz;
mod mapping;
mod ring;
mod sem;
mod server;
mod shm;
mod sigbus;
mod sweep;
pub mod wire;

pub use address::Namespace;
pub use server::{Options, Server};
