//! The corosync side of the daemon: one thread that holds the connections to corosync's services,
//! feeds what they report to the state machines of both groups, and carries out what these ask for.
//!
//! It owns connecting, reconnecting, sending and the order of effects. The rules of the groups are in
//! [`crate::dfsm`] and its applications; local reads never pass through here, so they go on whatever
//! corosync does.

mod callers;
mod cmap;
mod config_file;
mod connect;
mod cpg;
mod group;
mod hosts;
mod in_flight;
mod inbox;
mod member;
mod node_list;
mod quorum;
mod service;
mod trim;
mod wait;

pub use hosts::Changed;
pub use service::{Cluster, Options};
