//! How local programs ask the daemon: what an IPC service is ([`server`]) and the libqb transport
//! that carries it. It knows nothing of the requests' meaning.

pub mod ops;
pub mod requests;
pub mod server;
