//! The corosync side of the daemon: one thread that holds the connections to corosync's services,
//! feeds what they report to the state machines of both groups, and carries out what these ask for.
//!
//! It owns connecting, reconnecting, sending and the order of effects. The rules of the groups are in
//! [`crate::dfsm`] and its applications; local reads never pass through here, so they go on whatever
//! corosync does.

mod cmap;
mod command_queue;
mod config_file;
mod connect;
mod cpg;
mod cpg_group;
mod database_member;
mod drivers;
mod event_loop;
mod heap;
mod in_flight;
mod node_list;
mod poll;
mod quorum;

pub use event_loop::{Cluster, Options};
