//! The Proxmox cluster file system: the library behind `pmxcfs`.
//!
//! The map of the layers; each module may use those below it, never those above.
//!
//! | layer | modules |
//! | --- | --- |
//! | programs | `main.rs`, `bin/*` |
//! | assembly | [`daemon`], [`options`], [`logging`] |
//! | adapters | [`fuse`] (kernel), [`ipc`] (clients), [`rrd`] (round-robin files) |
//! | operations | [`fs`] (the tree as the kernel sees it), [`cfs`] (what tree and clients share) |
//! | storage | [`db`] (one writer, many readers, group commit), [`store`] (SQLite) |
//! | core, without I/O | [`dcdb`], [`status_group`] (what members of the groups do), [`dfsm`] (when), [`memdb`], [`status`] |
//! | tables | [`errno`], [`clock`] |
#![deny(unsafe_code)]
#![deny(rustdoc::broken_intra_doc_links)]

pub mod cfs;
pub mod clock;
pub mod daemon;
pub mod db;
pub mod dcdb;
pub mod dfsm;
pub mod errno;
pub mod fs;
pub mod fuse;
pub mod guest_props;
pub mod ipc;
pub mod logging;
pub mod memdb;
pub mod options;
pub mod rrd;
pub mod status;
pub mod status_group;
pub mod store;
