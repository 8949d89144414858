//! Where the two daemons may differ, and why. Everything else must be the same.

use crate::operation::{Actor, Answer, Operation, Place};
use nix::errno::Errno;
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// Operations that are not tried, since they end the stock daemon, damage its database, or leave the
/// two trees different for good.
struct Avoided {
    reason: &'static str,
    /// Looks at our tree and our descriptors, which are as stock's before the operation.
    applies: fn(&Operation, &Actor) -> bool,
}

/// The longest file.
const FILE_SIZE_MAX: u64 = 1 << 20;
const PAGE_SIZE: u64 = 4096;

const AVOIDED: &[Avoided] = &[
    Avoided {
        reason: "a rename of a filled directory onto an empty one: stock takes the target out of its memory \
                 only, and a later entry of that name makes its database one that it cannot load",
        applies: |operation, ours| {
            let Operation::Rename { from, to } = operation else { return false };
            is_filled_directory(ours, from) && ours.at(to).is_dir()
        },
    },
    Avoided {
        reason: "growing an empty file by a truncate: stock has a size without bytes then, and dies at the \
                 next read",
        applies: |operation, ours| match operation {
            Operation::Truncate { path, size } => *size > 0 && size_of(ours, path) == Some(0),
            Operation::SetLength { slot, size } => *size > 0 && ours.size_of_open(*slot) == Some(0),
            _ => false,
        },
    },
    Avoided {
        reason: "removal or replacement of a file that is open: stock's library moves it to a name \
                 `.fuse_hidden...`, which is visible and stored",
        applies: |operation, ours| match operation {
            Operation::Unlink { path } | Operation::Rename { to: path, .. } => ours.has_open(path),
            _ => false,
        },
    },
    Avoided {
        reason: "removal of a directory that is called like a guest's configuration: stock takes the guest of \
                 that number out of its list until it starts again, wherever its configuration is",
        applies: |operation, _| {
            let Operation::Rmdir { path } = operation else { return false };
            path.bytes().ends_with(b".conf")
        },
    },
    Avoided {
        reason: "a write over the end of the longest file that does not begin with a page: the kernel splits \
                 what goes through its cache there, so that ours takes the first part; stock has no cache",
        applies: |operation, ours| {
            let Operation::WriteAt { slot, offset, content } = operation else { return false };
            let offset = if ours.appends(*slot) { ours.size_of_open(*slot).unwrap_or(0) } else { *offset };
            let end = offset + content.length as u64;
            offset < FILE_SIZE_MAX && end > FILE_SIZE_MAX && offset % PAGE_SIZE != 0
        },
    },
];

/// What keeps a stock daemon from starting again, though it takes it while it runs: a file in the place
/// of a directory of guests. Ours starts on it.
pub const NO_FILES_AT: &[&str] = &["qemu-server", "openvz", "lxc"];

/// How long a stock tree may show what was, for instance the permissions under an earlier name: what only
/// looks is asked again after it.
pub const LATE: Duration = Duration::from_millis(1100);

/// Answers that may differ.
struct Allowed {
    reason: &'static str,
    /// Looks at the operation, our tree, and the answers of stock and ours.
    applies: fn(&Operation, &Actor, &Answer, &Answer) -> bool,
}

const ALLOWED: &[Allowed] = &[
    Allowed {
        reason: "the text of a generated file is of the moment, and stock shows it up to a second late and cut \
                 to an old size; its contents are compared by the tests of requests",
        applies: |operation, actor, stock, ours| {
            let is_generated = match operation {
                Operation::Read { path } | Operation::Stat { path } => actor.is_generated(path),
                Operation::ReadAt { slot, .. } | Operation::StatOpen { slot } => {
                    actor.is_generated_open(*slot)
                }
                _ => false,
            };
            is_generated && stock.is_ok() && ours.is_ok()
        },
    },
    Allowed {
        reason: "the size of a link: stock 8.1.0 and 7.3-3 show 0",
        applies: |operation, _, stock, ours| match (operation, stock, ours) {
            (Operation::Stat { .. }, Ok(stock), Ok(ours)) => is_link_without_size(stock, ours),
            _ => false,
        },
    },
    Allowed {
        reason: "attributes of a directory that was removed while open: both have none, ours says so in a way \
                 by which the kernel walks a path once more",
        applies: |operation, _, stock, ours| {
            matches!(operation, Operation::StatOpen { .. })
                && *stock == Err(Errno::ENOENT)
                && *ours == Err(Errno::ESTALE)
        },
    },
    Allowed {
        reason: "fsync of a directory that was removed while open: nothing is left to store, and stock's library \
                 fails as it has no path for it",
        applies: |operation, actor, stock, ours| {
            let Operation::Sync { slot } = operation else { return false };
            actor.is_removed_directory(*slot) && *stock == Err(Errno::ENOENT) && ours.is_ok()
        },
    },
];

/// Why an operation is not to be tried.
pub fn avoided(operation: &Operation, ours: &Actor) -> Option<&'static str> {
    AVOIDED.iter().find(|avoided| (avoided.applies)(operation, ours)).map(|avoided| avoided.reason)
}

/// Why different answers are none to complain about.
pub fn allowed(operation: &Operation, actor: &Actor, stock: &Answer, ours: &Answer) -> Option<&'static str> {
    let applies = |allowed: &&Allowed| (allowed.applies)(operation, actor, stock, ours);
    ALLOWED.iter().find(applies).map(|allowed| allowed.reason)
}

/// Paths with a counter in `.version` that not all versions of the stock daemon have.
const NOT_COUNTED_BY_ALL: &[&str] = &[
    // Not in 7.3-3.
    "mapping/directory.cfg",
    "mapping/pci.cfg",
    "mapping/usb.cfg",
    "notifications.cfg",
    "priv/notifications.cfg",
    "sdn/mac-cache.json",
    "sdn/pve-ipam-state.json",
    "virtual-guest/profiles.cfg",
    // Not in 8.1.0.
    "ha/rules.cfg",
    "priv/wg-keys.cfg",
    "sdn/fabrics.cfg",
    "sdn/prefix-lists.cfg",
    "sdn/route-maps.cfg",
    // In 8.1.0, not in 9.1.6 and pmxcfs-rs.
    "priv/ipam.db",
    "priv/macs.db",
    "sdn/fabrics/openfabric.cfg",
    "sdn/fabrics/ospf.cfg",
];

/// Whether the counters of `.version` agree: equal if both daemons have them.
pub fn same_counters(stock: &Value, ours: &Value) -> bool {
    let (Some(stock), Some(ours)) = (stock.as_object(), ours.as_object()) else { return stock == ours };
    stock.keys().chain(ours.keys()).all(|name| match (stock.get(name), ours.get(name)) {
        (Some(stock), Some(ours)) => stock == ours,
        _ => NOT_COUNTED_BY_ALL.contains(&name.as_str()),
    })
}

/// Whether attributes differ only in the size of a link: stock 8.1.0 and 7.3-3 show 0.
pub fn is_link_without_size(stock: &str, ours: &str) -> bool {
    let size = ours.split(' ').skip_while(|word| *word != "size").nth(1).unwrap_or_default();
    let is_link = ours.starts_with("mode 120");
    is_link && stock == ours.replacen(&format!(" size {size} "), " size 0 ", 1)
}

fn size_of(actor: &Actor, path: &Place) -> Option<u64> {
    fs::metadata(actor.at(path)).ok().map(|metadata| metadata.len())
}

fn is_filled_directory(actor: &Actor, path: &Place) -> bool {
    fs::read_dir(actor.at(path)).is_ok_and(|mut entries| entries.next().is_some())
}
