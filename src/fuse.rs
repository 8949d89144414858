//! The kernel adapter on fuser.
