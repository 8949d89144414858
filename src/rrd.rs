//! The writer of round-robin files.
