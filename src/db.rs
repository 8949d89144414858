//! The database as the daemon uses it: one writer, many readers, group commit.
