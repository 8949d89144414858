//! The kernel adapter on fuser: mounts the tree, answers requests by way of [`Fs`](crate::fs::Fs), and keeps the
//! kernel's caches true. It has no rules of its own.

mod adapter;
mod invalidate;
mod mount_table;
mod mounted;
mod reply;

pub use invalidate::Invalidate;
pub use mount_table::mounted_device;
pub use mounted::{Mounted, Options, mount};
