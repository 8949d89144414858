//! What the mounted tree and the IPC clients share: the database, this node's identity, the status of
//! the nodes, quorum, and the generated texts. It serves from memory and never waits for a disk, a
//! socket or another process; what has to be written or sent leaves through hooks that do not wait.
//!
//! Lock order: a kept text or a kept answer first, then either the tree or the status, to read what it
//! is made of. Whoever has the tree or the status takes no further lock, and no hook is called with
//! any lock held.

mod changes;
mod groups;
#[cfg(test)]
pub(crate) mod testing;
mod texts;

use crate::clock::Clock;
use crate::counts::KernelCounts;
use crate::engine::Engine;
use crate::guest_props::{self, GuestError, GuestProperties};
use crate::logging;
use crate::memdb::TreePath;
use crate::rrd;
use crate::status::clusterlog::{Entry, NewEntry};
use crate::status::{NoSuchValue, RrdKeyError, RrdUpdate, SetError, Status, Stored};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use texts::Texts;

pub use changes::{Changes, Heard, News};
pub use groups::{GroupReport, GroupState, Groups};
pub use texts::Generated;

/// Who this node is.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// The host name up to its first dot.
    pub name: String,
    /// What the host name resolves to, when it does.
    pub address: Option<IpAddr>,
    /// The group that may read.
    pub www_data_gid: u32,
}

/// Is told of events, by the thread that caused them. It must not wait.
pub type Watcher = Box<dyn Fn(Event<'_>) + Send + Sync>;

/// What others than the asking client may have to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Quorum was gained or lost.
    Quorum(bool),
    /// A client set a status value of this node, as given here.
    StatusSet { name: &'a [u8], value: &'a [u8] },
    /// This node put an entry into the cluster log, in its form on the wire.
    Logged(&'a [u8]),
}

/// What a client wants to have in the cluster log; this node and the time are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogMessage<'a> {
    /// Of syslog, 0 to 7; others are not logged.
    pub priority: u8,
    /// The user.
    pub ident: &'a [u8],
    /// The program.
    pub tag: &'a [u8],
    /// The program's process.
    pub pid: u32,
    /// The text.
    pub message: &'a [u8],
}

/// The state of this node that outlives a request.
pub struct Cfs {
    /// The database.
    pub engine: Arc<Engine>,
    /// The clock of everything here.
    pub clock: Clock,
    /// Who this node is.
    pub node: NodeIdentity,
    /// What the kernel asks for.
    pub kernel: KernelCounts,
    /// What changed lately.
    pub changes: Arc<Changes>,
    /// This node's part in the cluster.
    pub groups: Groups,
    status: Mutex<Status>,
    texts: Texts,
    guest_properties: GuestProperties,
    rrd: rrd::Sink,
    watchers: RwLock<Vec<Watcher>>,
    /// As in `status`, for the many who only ask this.
    quorate: AtomicBool,
    debug: AtomicBool,
}

impl Cfs {
    /// A node that starts now, without quorum and with nothing known of others.
    pub fn new(engine: Arc<Engine>, clock: Clock, node: NodeIdentity, rrd: rrd::Sink) -> Cfs {
        let status = Status::new(&node.name, clock.unix(), std::process::id());
        let changes = Arc::new(Changes::new(clock));
        let told = Arc::clone(&changes);
        engine.observe(Box::new(move |invalidations| told.invalidated(invalidations)));
        Cfs {
            engine,
            clock,
            node,
            kernel: KernelCounts::default(),
            changes,
            groups: Groups::default(),
            status: Mutex::new(status),
            texts: Texts::default(),
            guest_properties: GuestProperties::default(),
            rrd,
            watchers: RwLock::default(),
            quorate: AtomicBool::new(false),
            debug: AtomicBool::new(logging::is_debug()),
        }
    }

    /// From now on `watcher` is told of every event.
    pub fn watch(&self, watcher: Watcher) {
        self.watchers.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    fn tell(&self, event: Event<'_>) {
        for watcher in self.watchers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher(event);
        }
    }

    /// Looks at or changes the status. `act` must be short and must not use this `Cfs`.
    pub fn with_status<R>(&self, act: impl FnOnce(&mut Status) -> R) -> R {
        // The status is whole after each of its calls.
        act(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the tree may be changed.
    pub fn is_quorate(&self) -> bool {
        self.quorate.load(Ordering::Acquire)
    }

    /// Notes that quorum was gained or lost.
    pub fn set_quorate(&self, quorate: bool) {
        let is_news = self.with_status(|status| {
            self.quorate.store(quorate, Ordering::Release);
            status.set_quorate(quorate)
        });
        if is_news {
            self.changes.note(News::Quorum(quorate));
            self.tell(Event::Quorum(quorate));
        }
    }

    /// Whether debug messages are logged.
    pub fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// Switches debug messages on or off.
    pub fn set_debug(&self, on: bool) {
        self.debug.store(on, Ordering::Relaxed);
        logging::set_debug(on);
    }

    /// Sets a status value of this node, or removes it by an empty one.
    pub fn set_status(&self, name: &[u8], value: &[u8]) -> Result<(), SetError> {
        let now = self.clock.uptime();
        match self.with_status(|status| status.set(name, value, now))? {
            Stored::Rrd(update) => self.write_rrd(name, update),
            Stored::Value => self.note_status(&self.node.name, name),
            Stored::Address { changed: true } => self.changes.note(News::Members),
            Stored::Address { changed: false } => {}
        }
        self.tell(Event::StatusSet { name, value });
        Ok(())
    }

    /// Notes that a status value of a node was set.
    pub fn note_status(&self, node: &str, key: &[u8]) {
        if self.changes.is_wanted() {
            self.changes.note(News::Status { node: node.to_owned(), key: key.to_vec() });
        }
    }

    /// Has a round-robin value written, or says why it goes to no file.
    pub fn write_rrd(&self, key: &[u8], update: Result<RrdUpdate, RrdKeyError>) {
        match update {
            Ok(update) => self.rrd.send(update),
            Err(error) => {
                let key = key.strip_prefix(b"rrd/").unwrap_or(key).escape_ascii();
                log::error!(target: "status", "RRD update error: {error} {key}");
            }
        }
    }

    /// A status value of a node; an empty name means this one.
    pub fn status_value(&self, node: &[u8], name: &[u8]) -> Result<Arc<[u8]>, NoSuchValue> {
        self.with_status(|status| status.get(node, name).cloned())
    }

    /// Puts an entry into the cluster log.
    pub fn log(&self, message: &LogMessage<'_>) {
        let entry = NewEntry {
            node: self.node.name.as_bytes(),
            ident: message.ident,
            tag: message.tag,
            pid: message.pid,
            time: self.clock.unix(),
            priority: message.priority,
            message: message.message,
        };
        if let Some(entry) = self.with_status(|status| status.log_mut().add(&entry)) {
            self.note_logged(&entry);
            self.tell(Event::Logged(entry.as_bytes()));
        }
    }

    /// Notes that there is a new entry in the cluster log.
    pub fn note_logged(&self, entry: &Entry) {
        if self.changes.is_wanted() {
            self.changes.note(News::Logged(entry.clone()));
        }
    }

    /// The newest `max` entries of the cluster log, of one user or (when that is empty) of all.
    pub fn cluster_log(&self, user: &[u8], max: usize) -> String {
        self.with_status(|status| status.log().text(user, max))
    }

    /// The contents of a file of the database, whatever is mounted over its path.
    pub fn config(&self, path: &TreePath) -> Option<Arc<Vec<u8>>> {
        self.engine.read().resolve(path.as_bytes())?.content().cloned()
    }

    /// Whether `token` ("USER!NAME SECRET") is a line of the token file.
    pub fn knows_token(&self, token: &[u8]) -> bool {
        let file = self.config(&TreePath::from("priv/token.cfg"));
        file.is_some_and(|file| file.split(|&byte| byte == b'\n').any(|line| line == token))
    }

    /// Whether the guest list has this VMID.
    pub fn has_guest(&self, vmid: u32) -> bool {
        self.engine.read().guests().get(vmid).is_some()
    }

    /// Properties of all guests, as JSON.
    pub fn properties_of_all(&self, names: &[&[u8]]) -> Arc<Vec<u8>> {
        self.guest_properties.of_all(&self.engine, names)
    }

    /// Properties of one guest, as JSON.
    pub fn properties_of_one(&self, vmid: u32, names: &[&[u8]]) -> Result<Vec<u8>, GuestError> {
        guest_props::of_one(&self.engine, vmid, names)
    }
}

impl fmt::Debug for Cfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cfs")
            .field("node", &self.node)
            .field("quorate", &self.quorate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::TestNode;
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn watchers_hear_what_happens_and_nothing_twice() {
        let node = TestNode::new();
        let (sender, heard) = mpsc::channel();
        node.cfs.watch(Box::new(move |event| sender.send(format!("{event:?}")).expect("the test listens")));
        assert!(!node.cfs.is_quorate());
        node.cfs.set_quorate(true);
        node.cfs.set_quorate(true);
        assert!(node.cfs.is_quorate());
        node.cfs.set_quorate(false);
        node.cfs.set_status(b"k", b"v").expect("a plain value");
        node.cfs.set_status(b"nodeip", b"no NUL").expect_err("no address");
        let heard: Vec<String> = heard.try_iter().collect();
        let set = format!("{:?}", Event::StatusSet { name: b"k", value: b"v" });
        assert_eq!(heard, ["Quorum(true)", "Quorum(false)", &set]);
    }

    #[test]
    fn a_logged_message_is_shown_and_told() {
        let node = TestNode::new();
        let (sender, heard) = mpsc::channel();
        node.cfs.watch(Box::new(move |event| {
            let Event::Logged(bytes) = event else { panic!("{event:?}") };
            sender.send(bytes.to_vec()).expect("the test listens");
        }));
        let message = LogMessage { priority: 5, ident: b"me", tag: b"t", pid: 77, message: b"hi" };
        node.cfs.log(&LogMessage { priority: 8, ..message });
        node.cfs.log(&message);
        assert_eq!(heard.try_iter().count(), 1);
        let log: serde_json::Value =
            serde_json::from_str(&node.cfs.cluster_log(b"me", 10)).expect("the log is JSON");
        assert_eq!(log["data"][0]["msg"], "hi");
        assert_eq!(log["data"][0]["node"], "n1");
        assert_eq!(log["data"][0]["pid"], 77);
        assert_eq!(log["data"][1], serde_json::Value::Null);
    }

    #[test]
    fn a_token_is_a_whole_line() {
        let node = TestNode::new();
        assert!(!node.cfs.knows_token(b"u!a 1"));
        node.write("priv/token.cfg", b"u!a 1\nu!b 22\n\nu!c 3");
        for token in ["u!a 1", "u!b 22", "u!c 3"] {
            assert!(node.cfs.knows_token(token.as_bytes()), "{token}");
        }
        for token in ["u!a", "!a 1", "u!a 11", "u!b 2", "u!a 1\nu!b 22", "u!d 4"] {
            assert!(!node.cfs.knows_token(token.as_bytes()), "{token}");
        }
    }

    #[test]
    fn configs_are_shared_not_copied() {
        let node = TestNode::new();
        node.write("a/b.cfg", b"text");
        let config = |path: &str| node.cfs.config(&path.into());
        let (first, second) = (config("a/b.cfg"), config("/a//b.cfg"));
        let (first, second) = (first.expect("a file"), second.expect("a file"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*first, b"text");
        assert_eq!(config("a"), None);
        assert_eq!(config("a/c"), None);
        assert_eq!(config(""), None);
    }
}
