//! What is compared beside trees: tables and the guest list.

use crate::host::{Row, Served};
use crate::tree::time_text;
use pmxcfs::ipc::qb::client::Client;
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGE_MAX: u32 = 8192 * 128;
const GET_GUEST_LIST: i32 = 3;

/// A connection that asks for the guest list: a tree of stock may show an old text for a second.
pub struct GuestList(Client);

impl GuestList {
    pub fn of(served: &Served) -> Self {
        let client = served.daemon.inside(|| Ok(Client::connect("pve2", MESSAGE_MAX, PATIENCE)?));
        Self(client.unwrap_or_else(|failure| panic!("{failure}")))
    }

    /// VMID to node and type.
    pub fn read(&mut self) -> Value {
        let response = self.0.request(GET_GUEST_LIST, b"", Some(PATIENCE)).expect("an answer");
        assert_eq!(response.error, 0);
        let mut list: Value = serde_json::from_slice(response.data.as_bytes()).expect("JSON");
        let mut guests = list["ids"].take();
        for guest in guests.as_object_mut().into_iter().flat_map(|guests| guests.values_mut()) {
            assert!(guest["version"].take().is_u64());
        }
        guests
    }
}

/// The tables must be the same, but for times of the test itself.
pub fn assert_same_rows(when: &str, stock: &[Row], ours: &[Row]) {
    let mut ours = ours.iter();
    for stock in stock {
        let Some(ours) = ours.next() else { panic!("{when}: ours has no {}", text(stock)) };
        let plain = |row: &Row| Row { mtime: 0, ..row.clone() };
        let same = plain(stock) == plain(ours) && time_text(stock.mtime) == time_text(ours.mtime);
        assert!(same, "{when}: the tables differ\n  stock {}\n  ours  {}", text(stock), text(ours));
    }
    if let Some(more) = ours.next() {
        panic!("{when}: only ours has {}", text(more));
    }
}

fn text(row: &Row) -> String {
    let Row { inode, parent, version, writer, mtime, kind, name, data, name_type } = row;
    format!(
        "inode {inode} parent {parent} version {version} writer {writer} mtime {mtime} type {kind} {name_type} \
         '{}', {} bytes {}",
        name.escape_ascii(),
        data.len(),
        data[..data.len().min(20)].escape_ascii()
    )
}
