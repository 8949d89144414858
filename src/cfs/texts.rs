//! The generated texts, as files and as answers. The two long ones are kept: the guest list until it
//! changes, the RRD dump for two seconds. All others are built when asked for.

use super::Cfs;
use crate::counts::CacheCounts;
use crate::status::text::{GuestLine, vmlist_text};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long one text of the RRD dump serves: it is long, and polled by every node's services.
const RRD_DUMP_AGE_MAX: Duration = Duration::from_secs(2);

/// A text that is made when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generated {
    /// `.version`
    Version,
    /// `.members`
    Members,
    /// `.vmlist`
    VmList,
    /// `.rrd`
    Rrd,
    /// `.clusterlog`
    ClusterLog,
    /// `.debug`
    Debug,
}

/// Entries in `.clusterlog`.
const LOG_ENTRIES: usize = 50;

/// The texts that are kept.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// With the guest list's version.
    vmlist: Mutex<Option<(u64, Arc<[u8]>)>>,
    /// With the uptime at which it was built, and a NUL at its end.
    rrd: Mutex<Option<(Duration, Arc<[u8]>)>>,
    vmlist_counts: CacheCounts,
    rrd_counts: CacheCounts,
}

impl Cfs {
    /// A generated text as it is now.
    pub fn text(&self, text: Generated) -> Arc<[u8]> {
        match text {
            Generated::Version => shared(self.version_text()),
            Generated::Members => shared(self.with_status(|status| status.members_text())),
            Generated::VmList => self.vmlist_text(),
            Generated::Rrd => {
                let dump = self.rrd_dump();
                dump.strip_suffix(b"\0").unwrap_or(&dump).into()
            }
            Generated::ClusterLog => shared(self.cluster_log(b"", LOG_ENTRIES)),
            Generated::Debug => Arc::from(if self.is_debug() { &b"1\n"[..] } else { b"0\n" }),
        }
    }

    fn version_text(&self) -> String {
        // The tree's counters are copied first, so that nobody waits for the tree with the status.
        let (vmlist, watched) = {
            let tree = self.engine.read();
            (tree.guests().version(), tree.versions().clone())
        };
        self.with_status(|status| status.version_text(vmlist, watched.iter()))
    }

    /// How often each kept text or answer could be used again, by what it is of.
    pub fn cache_counts(&self) -> [(&'static str, &CacheCounts); 3] {
        [
            ("guest_list", &self.texts.vmlist_counts),
            ("rrd", &self.texts.rrd_counts),
            ("guest_properties", self.guest_properties.counts()),
        ]
    }

    fn vmlist_text(&self) -> Arc<[u8]> {
        let mut kept = lock(&self.texts.vmlist);
        let tree = self.engine.read();
        let guests = tree.guests();
        let version = guests.version();
        if let Some((_, text)) = kept.as_ref().filter(|(kept, _)| *kept == version) {
            self.texts.vmlist_counts.hits.one();
            return Arc::clone(text);
        }
        self.texts.vmlist_counts.misses.one();
        let text = shared(vmlist_text(
            version,
            guests.iter().map(|(vmid, guest)| GuestLine {
                vmid,
                node: guest.node.as_bytes(),
                kind: guest.kind.as_str(),
                version: guest.version,
            }),
        ));
        *kept = Some((version, Arc::clone(&text)));
        text
    }

    /// The RRD dump as clients of the IPC service get it: with a NUL at its end, so that it is never
    /// empty. At most two seconds old.
    pub fn rrd_dump(&self) -> Arc<[u8]> {
        self.rrd_dump_at(self.clock.uptime())
    }

    fn rrd_dump_at(&self, now: Duration) -> Arc<[u8]> {
        let mut kept = lock(&self.texts.rrd);
        let fresh = |made: Duration| now.saturating_sub(made) < RRD_DUMP_AGE_MAX;
        if let Some((_, text)) = kept.as_ref().filter(|(made, _)| fresh(*made)) {
            self.texts.rrd_counts.hits.one();
            return Arc::clone(text);
        }
        self.texts.rrd_counts.misses.one();
        let mut text = self.with_status(|status| status.rrd_text(now));
        text.push(0);
        let text: Arc<[u8]> = text.into();
        *kept = Some((now, Arc::clone(&text)));
        text
    }
}

fn shared(text: String) -> Arc<[u8]> {
    text.into_bytes().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A kept text is replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestNode;
    use super::*;

    fn json(node: &TestNode, text: Generated) -> serde_json::Value {
        serde_json::from_slice(&node.cfs.text(text)).expect("valid JSON")
    }

    #[test]
    fn the_guest_list_is_kept_until_it_changes() {
        let node = TestNode::new();
        assert_eq!(json(&node, Generated::VmList)["ids"], serde_json::Value::Null);
        node.write("nodes/n1/qemu-server/100.conf", b"name: a\n");
        let first = node.cfs.text(Generated::VmList);
        assert!(Arc::ptr_eq(&first, &node.cfs.text(Generated::VmList)));
        let [(_, counts), ..] = node.cfs.cache_counts();
        assert_eq!((counts.hits.get(), counts.misses.get()), (1, 2));
        node.write("other", b"x");
        assert!(Arc::ptr_eq(&first, &node.cfs.text(Generated::VmList)));
        node.write("nodes/n2/lxc/101.conf", b"");
        let list = json(&node, Generated::VmList);
        assert_eq!(list["ids"]["100"]["node"], "n1");
        assert_eq!(list["ids"]["101"]["type"], "lxc");
        node.write("nodes/n2/qemu-server/other", b"");
        node.rename("nodes/n1/qemu-server/100.conf", "nodes/n2/qemu-server/100.conf");
        assert_eq!(json(&node, Generated::VmList)["ids"]["100"]["node"], "n2");
        node.delete("nodes/n2/qemu-server/100.conf");
        assert_eq!(json(&node, Generated::VmList)["ids"]["100"], serde_json::Value::Null);
    }

    #[test]
    fn counters_show_what_changed() {
        let node = TestNode::new();
        let before = json(&node, Generated::Version);
        node.write("storage.cfg", b"x");
        node.write("nodes/n1/lxc/100.conf", b"x");
        node.cfs.set_status(b"a\"key", b"v").expect("a plain value");
        let after = json(&node, Generated::Version);
        assert_eq!(before["storage.cfg"], 1);
        assert_ne!(before["storage.cfg"], after["storage.cfg"]);
        assert_ne!(before["vmlist"], after["vmlist"]);
        assert_eq!(before["starttime"], after["starttime"]);
        assert_eq!(after["kvstore"]["n1"]["a\"key"], 0);
        assert_eq!(json(&node, Generated::Members)["nodename"], "n1");
    }

    #[test]
    fn the_rrd_dump_is_never_empty_and_serves_for_two_seconds() {
        let node = TestNode::new();
        let set = |value: &[u8]| node.cfs.set_status(b"rrd/pve-node-9.0/n1", value).expect("an RRD value");
        let start = node.cfs.clock.uptime();
        set(b"1:2\0");
        assert_eq!(*node.cfs.rrd_dump_at(start), *b"pve-node-9.0/n1:1:2\n\0");
        set(b"3:4\0");
        let later = start + Duration::from_millis(1999);
        assert_eq!(*node.cfs.rrd_dump_at(later), *b"pve-node-9.0/n1:1:2\n\0");
        let later = start + Duration::from_secs(2);
        assert_eq!(*node.cfs.rrd_dump_at(later), *b"pve-node-9.0/n1:3:4\n\0");
        assert_eq!(*node.cfs.text(Generated::Rrd), *b"pve-node-9.0/n1:3:4\n");

        let empty = TestNode::new();
        assert_eq!(*empty.cfs.rrd_dump(), *b"\0");
        assert_eq!(*empty.cfs.text(Generated::Rrd), *b"");
    }

    #[test]
    fn debug_is_a_digit() {
        let node = TestNode::new();
        let digit = if node.cfs.is_debug() { b"1\n" } else { b"0\n" };
        assert_eq!(*node.cfs.text(Generated::Debug), *digit);
    }
}
