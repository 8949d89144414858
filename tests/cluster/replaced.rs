//! A node keeps replacing files that programs of another node use, by path and through descriptors. No operation by
//! path fails, and no write through a descriptor lands in a file that took the path. `tests/coherence` forces the
//! same orders without corosync.

use crate::cluster::Mix;
use crate::node::Node;
use crate::wait::soon;
use crate::{TOKEN, long_rounds, run_with};
use nix::unistd::truncate;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

/// Replacements of each file in a round.
const REPLACEMENTS: usize = 250;
/// Bytes of a file before the place for the writer's mark.
const SIZE: usize = 100;
/// Digits of a serial number.
const DIGITS: usize = 8;

/// Replaces a file by new ones, each with its serial number.
fn replace(node: &Node, name: &str) {
    for serial in 0..REPLACEMENTS {
        let new = format!("{name}.new");
        node.write(&new, format!("{serial:0DIGITS$}{:.<1$}", "", SIZE - DIGITS)).expect("written");
        fs::rename(node.tree(&new), node.tree(name)).expect("replaced");
    }
}

/// Marks the file that was opened with its serial number, after a pause.
fn mark(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut serial = [0; DIGITS];
    file.read_exact_at(&mut serial, 0)?;
    thread::yield_now();
    file.write_all_at(&serial, SIZE as u64)?;
    file.set_times(FileTimes::new().set_modified(SystemTime::now()).set_accessed(SystemTime::now()))
}

/// A file has no mark but its own.
fn check(node: &Node, name: &str) {
    let content = node.read(name).expect("always there");
    let mark = content.get(SIZE..).unwrap_or_default();
    assert!(
        mark.is_empty() || mark == &content[..DIGITS],
        "node {}: {}",
        node.number,
        content.escape_ascii()
    );
}

/// Operations on a path that always leads to a file.
fn operate(path: &Path, number: usize) -> io::Result<()> {
    match number % 6 {
        0 => File::open(path).map(drop),
        1 => File::options().write(true).truncate(true).open(path).map(drop),
        2 => Ok(truncate(path, 10)?),
        3 => fs::metadata(path).map(drop),
        4 => fs::set_permissions(path, fs::Permissions::from_mode(0o640)),
        _ => File::options().append(true).open(path).map(drop),
    }
}

fn round(nodes: &[Node]) {
    for name in ["marked", "used"] {
        nodes[0].write(name, format!("{:0DIGITS$}{:.<2$}", 0, "", SIZE - DIGITS)).expect("made");
        soon("the file", || nodes.iter().all(|node| node.read(name).is_ok()));
    }
    let (done, operations) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let user = |work: fn(&Node, usize)| {
            let (done, operations) = (&done, &operations);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    work(&nodes[0], operations.fetch_add(1, Ordering::Relaxed));
                }
            })
        };
        let users = [
            user(|node, _| mark(&node.tree("marked")).expect("the file is replaced, and never removed")),
            user(|node, _| check(node, "marked")),
            user(|node, number| {
                let result = operate(&node.tree("used"), number);
                result.unwrap_or_else(|error| panic!("operation {}: {error}", number % 6));
            }),
        ];
        let replacers = ["marked", "used"].map(|name| scope.spawn(move || replace(&nodes[1], name)));
        let replaced = replacers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        let used = users.map(thread::ScopedJoinHandle::join);
        replaced.into_iter().chain(used).for_each(|result| result.expect("all operations succeed"));
    });
    eprintln!("{} operations", operations.load(Ordering::Relaxed));
    nodes.iter().for_each(|node| check(node, "marked"));
}

#[test]
fn operations_on_replaced_files_succeed() {
    run_with(vec![Mix::ours(2)], "operations_on_replaced_files_succeed", TOKEN, |cluster| {
        for _ in 0..long_rounds(1) {
            round(&cluster.nodes);
        }
    });
}
