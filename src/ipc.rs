//! The `pve2` service.
