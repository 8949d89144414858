//! The C libraries as programs see them: installed into a directory, used by programs in C, C++ and Perl
//! that are compiled here, against services of all kinds, good and bad.

#[path = "../ipc/golden.rs"]
mod golden;
mod installed;
#[path = "../ipc/support.rs"]
mod support;

mod library;
mod programs;
