//! The C library for clients of `pmxcfs`.
