//! The Proxmox cluster file system: the library behind `pmxcfs`.
//!
//! The map of the layers; each module may use those below it, never those above.
//!
//! | layer | modules |
//! | --- | --- |
//! | programs | `main.rs`, `bin/*`; [`dbtool`] is what `pmxcfs-db` does, [`ctl`] what `pmxcfs-ctl` does |
//! | assembly | [`daemon`], [`options`], [`logging`] |
//! | adapters | [`fuse`] (kernel), [`ipc`] (clients), [`cluster`] (corosync), [`rrd`] (round-robin files) |
//! | operations | [`fs`] (the tree as the kernel sees it), [`cfs`] (what tree and clients share) |
//! | storage | [`engine`] (one writer, many readers, group commit), [`store`] (SQLite) |
//! | core, without I/O | [`dcdb`], [`status_group`] (what members of the groups do), [`dfsm`] (when), [`memdb`], [`status`] |
//! | tables | [`errno`], [`clock`], [`dir`] (files of directories that others can write to) |
//!
//! Without the feature `daemon` only [`errno`], [`clock`] and the client's side of [`ipc`] are left: what
//! the C libraries in `capi/` and `qb-compat/` are made of.
#![deny(unsafe_code)]
// Output and panics belong to programs and tests.
#![cfg_attr(
    not(test),
    deny(
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::unwrap_used,
        clippy::panic,
        clippy::unreachable
    )
)]

pub mod clock;
pub mod errno;
pub mod ipc;

// Not in the C libraries.
#[cfg(feature = "daemon")]
pub mod cfs;
#[cfg(feature = "daemon")]
pub mod cluster;
#[cfg(feature = "daemon")]
pub mod counts;
#[cfg(feature = "daemon")]
pub mod ctl;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod dbtool;
#[cfg(feature = "daemon")]
pub mod dcdb;
#[cfg(feature = "daemon")]
pub mod dfsm;
#[cfg(feature = "daemon")]
pub mod dir;
#[cfg(feature = "daemon")]
pub mod engine;
#[cfg(feature = "daemon")]
pub mod fs;
#[cfg(feature = "daemon")]
pub mod fuse;
#[cfg(feature = "daemon")]
pub mod guest_props;
#[cfg(feature = "daemon")]
pub mod logging;
#[cfg(feature = "daemon")]
pub mod memdb;
#[cfg(feature = "daemon")]
pub mod options;
#[cfg(feature = "daemon")]
pub mod rrd;
#[cfg(feature = "daemon")]
pub mod status;
#[cfg(feature = "daemon")]
pub mod status_group;
#[cfg(feature = "daemon")]
pub mod store;
