//! The loads, by what they stress. Each module adds its rows to the table.

pub mod cluster;
pub mod disk;
pub mod guests;
pub mod ipc;
pub mod scale;
pub mod start;
pub mod tree;
