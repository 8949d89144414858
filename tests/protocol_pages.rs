//! The pages in docs/protocol: each example is decoded by the daemon's decoder, compared with the values that the
//! page states, and encoded again; each table of fields has no gap.

#[path = "protocol_pages/database.rs"]
mod database;
#[path = "ipc/golden.rs"]
mod golden;
#[path = "protocol_pages/groups.rs"]
mod groups;
#[path = "protocol_pages/ipc.rs"]
mod ipc;
#[path = "protocol_pages/page.rs"]
mod page;
#[path = "ipc/raw.rs"]
mod raw;
#[path = "ipc/support.rs"]
mod support;
