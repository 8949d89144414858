//! `libpmxcfs`: the client of `pmxcfs` for C programs. This crate is the boundary only: it turns
//! pointers into what the core works with, panics and errors into numbers, and decides nothing.
//!
//! Its header, `include/pmxcfs.h`, is made from here; the comments at what is exported are what C
//! programmers read, so they speak C.
#![allow(clippy::missing_safety_doc, reason = "the header has the duties of callers, in its first comment")]

mod answer;
mod boundary;
mod calls;
mod client;
mod layout;
mod options;
mod send_fd;
mod version;

pub use answer::*;
pub use boundary::pmxcfs_error_text;
pub use calls::*;
pub use client::*;
pub use layout::*;
pub use options::*;
pub use send_fd::pmxcfs_send_fd;
pub use version::*;
