//! The requests.

pub mod parse;
