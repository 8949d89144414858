//! The part of libqb that clients of `pmxcfs` use.
