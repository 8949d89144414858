//! The generated texts, as files and as answers. The two long ones are kept: the guest list until it
//! changes, the RRD dump for two seconds. All others are built when asked for.

use super::Cfs;
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
            let tree = self.db.read();
            (tree.guests().version(), tree.versions().clone())
        };
        self.with_status(|status| status.version_text(vmlist, watched.iter()))
    }

    fn vmlist_text(&self) -> Arc<[u8]> {
        let mut kept = lock(&self.texts.vmlist);
        let tree = self.db.read();
        let guests = tree.guests();
        let version = guests.version();
        if let Some((_, text)) = kept.as_ref().filter(|(kept, _)| *kept == version) {
            return Arc::clone(text);
        }
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
        let mut kept = lock(&self.texts.rrd);
        let now = self.clock.uptime();
        let fresh = |made: Duration| now.saturating_sub(made) < RRD_DUMP_AGE_MAX;
        if let Some((_, text)) = kept.as_ref().filter(|(made, _)| fresh(*made)) {
            return Arc::clone(text);
        }
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
