//! The C libraries as programs see them: installed into a directory, used by programs in C, C++ and Perl
//! that are compiled here, against services of all kinds, good and bad.

#[path = "../daemon/fixture.rs"]
mod fixture;
#[path = "../ipc/golden.rs"]
mod golden;
mod installed;
#[path = "../common/map.rs"]
mod map;
#[path = "../common/public.rs"]
mod public;
#[path = "../common/rules.rs"]
mod rules;
#[path = "../ipc/support.rs"]
mod support;

mod abi;
mod bad_server;
mod documented;
mod hostile;
mod library;
mod perl;
mod programs;
mod qb;
mod restart;
