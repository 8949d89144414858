//! The kernel adapter on fuser: mounts the tree, answers requests by way of [`Fs`](crate::fs::Fs), and
//! keeps the kernel's caches true. It has no rules of its own.
//!
//! What the kernel may keep, and what ends that:
//!
//! | what | kept | ended by |
//! | --- | --- | --- |
//! | names, also that there is none; attributes | minutes | [`Invalidate`] |
//! | pages of database files | as long as it likes | [`Invalidate`] |
//! | targets of links | as long as it likes | they never change |
//! | attributes and texts of generated files | not at all | each open takes one text |
//! | listings | not at all | each has the names from its start |
//!
//! A file opened for reading causes no request but its open (and a release that nobody waits for); what
//! was opened for writing is flushed at close, which waits for the commit. Changes by the kernel's own
//! requests need no word: it knows what it did. What it cannot know is told: modes that follow a path
//! to which a file was moved, a lock that expired, an append that landed elsewhere than it believed,
//! and whatever comes from other nodes.

mod adapter;
mod hooks;
mod invalidate;
mod leftovers;
mod mount_table;
mod mounted;
mod notifier;
mod reply;

pub use crate::fs::{CacheRules, LateReplies};
pub use hooks::Hooks;
pub use invalidate::Invalidate;
pub use leftovers::{MountError, is_dead};
pub use mount_table::{Mount, mount_at, mounted_device};
pub use mounted::{Mounted, Options, has_tree, mount};
pub use notifier::Notification;
