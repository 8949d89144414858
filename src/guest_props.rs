//! Properties of guest configurations: one line of each of thousands of files, asked for every few
//! seconds. It parses a config once per change and keeps answers, never configs.
//!
//! The tree is locked only while the guest list is compared with what an answer knows, or one config
//! is looked up; configs are parsed without it, from the shared bytes they are.

pub mod answer;
pub mod scan;

use crate::counts::CacheCounts;
use crate::engine::Engine;
use answer::{Answer, Properties};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many different lists of properties have their answer kept. Callers have a handful.
const ANSWERS_KEPT_MAX: usize = 8;
/// A longer answer is not kept: no client of the IPC service could take it.
const ANSWER_KEPT_SIZE_MAX: usize = 1 << 20;

/// Why there is no answer about one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    #[error("guest {0} does not exist")]
    Unknown(u32),
    /// Asked about all guests, such a guest is left out.
    #[error("the config of guest {0} is empty")]
    EmptyConfig(u32),
}

/// The answers that are kept.
///
/// Lock order: the list of answers alone; one answer, then the tree.
#[derive(Debug, Default)]
pub struct GuestProperties {
    /// The one used last is last.
    answers: Mutex<Vec<Arc<Kept>>>,
    counts: CacheCounts,
}

/// The answer for one list of properties.
#[derive(Debug)]
struct Kept {
    properties: Properties,
    /// Who finds it out of date brings it up to date; who comes meanwhile waits for that.
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    /// The tree's count of guest changes that the answer has taken in.
    changes: Option<u64>,
    answer: Answer,
}

impl GuestProperties {
    /// The properties `names` of all guests that have any of them.
    pub fn of_all(&self, db: &Engine, names: &[&[u8]]) -> Arc<Vec<u8>> {
        self.kept(names).text(db, &self.counts)
    }

    /// How often an answer was still right.
    pub fn counts(&self) -> &CacheCounts {
        &self.counts
    }

    fn kept(&self, names: &[&[u8]]) -> Arc<Kept> {
        let mut answers = lock(&self.answers);
        let known = answers.iter().position(|kept| kept.properties.are(names));
        let kept = match known {
            Some(at) => answers.remove(at),
            None => {
                if answers.len() >= ANSWERS_KEPT_MAX {
                    answers.remove(0);
                }
                Arc::new(Kept { properties: Properties::new(names), current: Mutex::default() })
            }
        };
        answers.push(Arc::clone(&kept));
        kept
    }
}

impl Kept {
    fn text(&self, db: &Engine, counts: &CacheCounts) -> Arc<Vec<u8>> {
        let mut current = lock(&self.current);
        let (changes, plan) = {
            let tree = db.read();
            let changes = tree.guest_changes();
            if current.changes == Some(changes) {
                counts.hits.one();
                return Arc::clone(current.answer.text());
            }
            let guests = tree.guests().iter().map(|(vmid, guest)| (vmid, guest.version, guest.config));
            (changes, current.answer.plan(guests, |inode| tree.get(inode)?.content().cloned()))
        };
        counts.misses.one();
        current.answer.apply(&self.properties, plan);
        current.changes = Some(changes);
        let text = Arc::clone(current.answer.text());
        if text.len() > ANSWER_KEPT_SIZE_MAX {
            *current = Current::default();
        }
        text
    }
}

/// The properties `names` of one guest; an object without members when it has none of them.
pub fn of_one(db: &Engine, vmid: u32, names: &[&[u8]]) -> Result<Vec<u8>, GuestError> {
    let config = {
        let tree = db.read();
        let guest = tree.guests().get(vmid).ok_or(GuestError::Unknown(vmid))?;
        tree.get(guest.config).and_then(|entry| entry.content()).cloned()
    };
    match config {
        Some(config) if !config.is_empty() => Ok(Properties::new(names).of_one(vmid, &config)),
        _ => Err(GuestError::EmptyConfig(vmid)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves its state whole at every point where it could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cfs::testing::TestNode;

    fn all(node: &TestNode) -> serde_json::Value {
        serde_json::from_slice(&node.cfs.properties_of_all(&[b"name", b"lock"])).expect("valid JSON")
    }

    #[test]
    fn answers_follow_every_change() {
        use serde_json::json;
        let node = TestNode::new();
        assert_eq!(all(&node), json!({}));
        node.write("nodes/n1/qemu-server/100.conf", b"name: a\n");
        node.write("nodes/other/lxc/101.conf", b"name: b\nlock: backup\n[snap]\nname: c\n");
        node.write("nodes/n1/lxc/102.conf", b"");
        assert_eq!(all(&node), json!({"100": {"name": "a"}, "101": {"name": "b", "lock": "backup"}}));
        node.write("nodes/n1/lxc/102.conf", b"name: d");
        node.write("nodes/n1/qemu-server/100.conf", b"memory: 1\n");
        node.rename("nodes/other/lxc/101.conf", "nodes/n1/lxc/101.conf");
        assert_eq!(all(&node), json!({"101": {"name": "b", "lock": "backup"}, "102": {"name": "d"}}));
        node.delete("nodes/n1/lxc/102.conf");
        node.rename("nodes/n1/lxc/101.conf", "nodes/n1/lxc/103.conf");
        assert_eq!(all(&node), json!({"103": {"name": "b", "lock": "backup"}}));
        let list: serde_json::Value =
            serde_json::from_slice(&node.cfs.text(crate::cfs::Generated::VmList)).expect("valid JSON");
        assert!(list["ids"]["101"].is_null());
    }

    #[test]
    fn one_guest() {
        let node = TestNode::new();
        node.write("nodes/n2/qemu-server/100.conf", b"name: a\n");
        node.write("nodes/n2/qemu-server/101.conf", b"");
        let one = |vmid| node.cfs.properties_of_one(vmid, &[b"name"]);
        assert_eq!(one(100), Ok(b"{\n\"100\":{\"name\": \"a\"}\n}\n".to_vec()));
        assert_eq!(one(101), Err(GuestError::EmptyConfig(101)));
        assert_eq!(one(102), Err(GuestError::Unknown(102)));
        assert_eq!(node.cfs.properties_of_one(100, &[b"lock"]), Ok(b"{\n\n}\n".to_vec()));
    }

    #[test]
    fn an_unchanged_answer_is_the_same_bytes_and_few_are_kept() {
        let node = TestNode::new();
        node.write("nodes/n1/lxc/100.conf", b"name: a\n");
        let ask = |names: &[&[u8]]| node.cfs.properties_of_all(names);
        let first = ask(&[b"name"]);
        node.write("something/else", b"x");
        assert!(Arc::ptr_eq(&first, &ask(&[b"name"])));
        assert!(!Arc::ptr_eq(&first, &ask(&[b"name", b"lock"])));
        let others: Vec<String> = (0..ANSWERS_KEPT_MAX - 2).map(|n| format!("p{n}")).collect();
        for other in &others {
            ask(&[other.as_bytes()]);
        }
        assert!(Arc::ptr_eq(&first, &ask(&[b"name"])), "eight are kept");
        ask(&[b"one", b"more"]);
        assert!(Arc::ptr_eq(&first, &ask(&[b"name"])), "the one used longest ago was dropped");
        for other in others.iter().chain(&["x".to_owned(), "y".to_owned()]) {
            ask(&[other.as_bytes()]);
        }
        assert!(!Arc::ptr_eq(&first, &ask(&[b"name"])));
    }

    #[test]
    fn an_answer_too_long_for_any_client_is_not_kept() {
        let node = TestNode::new();
        let config = [&b"name: "[..], &[b'x'; 600_000]].concat();
        node.write("nodes/n1/lxc/100.conf", &config);
        node.write("nodes/n1/lxc/101.conf", &config);
        let ask = || node.cfs.properties_of_all(&[b"name"]);
        let (first, second) = (ask(), ask());
        assert_eq!(first, second);
        assert!(!Arc::ptr_eq(&first, &second));
    }
}
