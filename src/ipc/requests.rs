//! The `pve2` service: who may ask what, and the answers. It owns no state and knows no transport.

pub mod parse;
