//! One node: its place, corosync, and a daemon, ours or a stock one.

use crate::corosync::{self, Settings};
use crate::network::address;
use crate::process::Process;
use crate::space::Space;
use crate::wait::{PATIENCE, eventually};
use nix::sys::signal::Signal;
use pmxcfs::ipc::ops::Op;
use pmxcfs::ipc::qb::client::Client;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The longest message that the stack's programs ask for.
const MESSAGE_MAX: u32 = 8192 * 128;

/// What of the host's `/etc` a daemon with fixed paths reads.
const ETC: [&str; 4] = ["passwd", "group", "nsswitch.conf", "ld.so.cache"];

/// Whose daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Stock(PathBuf),
}

/// The node.
pub struct Node {
    pub number: usize,
    pub kind: Kind,
    // Programs end before their place does.
    daemon: Option<Process>,
    corosync: Option<Process>,
    dir: PathBuf,
    pub space: Space,
}

impl Node {
    /// The place, with everything that is at a fixed path mounted over the host's.
    pub fn new(number: usize, kind: Kind, dir: &Path) -> nix::Result<Self> {
        let space = Space::new()?;
        for path in
            ["etc/pve", "etc/corosync", "var/lib/pve-cluster", "var/lib/rrdcached/db", "var/lib/corosync"]
        {
            fs::create_dir_all(dir.join(path)).expect("directory");
        }
        for file in ETC {
            let from = Path::new("/etc").join(file);
            if from.exists() {
                fs::copy(from, dir.join("etc").join(file)).expect("copied");
            }
        }
        let hosts = format!("127.0.0.1 localhost\n{} n{number}\n", address(number));
        fs::write(dir.join("etc/hosts"), hosts).expect("hosts");
        space.bind(&dir.join("var/lib"), "/var/lib");
        space.bind(&dir.join("etc"), "/etc");
        space.memory("/run");
        space.memory("/dev/shm");
        space.run(move || nix::unistd::sethostname(format!("n{number}")).expect("a name"));
        Ok(Self { number, kind, daemon: None, corosync: None, dir: dir.to_owned(), space })
    }

    pub fn name(&self) -> String {
        format!("n{}", self.number)
    }

    pub fn is_stock(&self) -> bool {
        self.kind != Kind::Ours
    }

    /// The host's corosync configuration.
    pub fn corosync_conf(&self) -> PathBuf {
        self.dir.join("etc/corosync/corosync.conf")
    }

    pub fn configure(&self, settings: &Settings) {
        fs::write(self.corosync_conf(), settings.text()).expect("configuration");
    }

    pub fn start_corosync(&mut self) {
        self.corosync = Some(corosync::start(&self.space, &self.dir));
    }

    pub fn corosync(&self) -> &Process {
        self.corosync.as_ref().expect("corosync runs")
    }

    /// Ends corosync at once.
    pub fn kill_corosync(&mut self) {
        drop(self.corosync.take());
    }

    /// Starts the daemon and waits until it serves its tree.
    pub fn start(&mut self) {
        self.launch();
        eventually("a daemon serves its tree", || {
            let daemon = self.daemon.as_mut().expect("just started");
            assert!(!daemon.has_ended(), "the daemon of {} ended: {}", self.number, self.log());
            fs::read(self.tree(".version")).is_ok()
        });
    }

    /// Starts the daemon.
    pub fn launch(&mut self) {
        let log = self.dir.join("daemon.log");
        let dir = self.dir.to_str().expect("UTF-8").to_owned();
        let (name, address) = (self.name(), address(self.number));
        let ours = ["--root", &dir, "--node", &name, "--ip", &address, "-f"];
        let program = env!("CARGO_BIN_EXE_pmxcfs");
        let process = match &self.kind {
            Kind::Ours => Process::start(&self.space, &[&[program], ours.as_slice()].concat(), &log),
            Kind::Stock(path) => Process::start(&self.space, &[path.to_str().expect("UTF-8"), "-f"], &log),
        };
        self.daemon = Some(process);
    }

    pub fn daemon(&self) -> &Process {
        self.daemon.as_ref().expect("the daemon runs")
    }

    pub fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    /// Ends the daemon in good order.
    pub fn stop(&mut self) {
        self.daemon.take().expect("the daemon runs").stop();
    }

    /// Ends the daemon at once.
    pub fn kill(&mut self) {
        self.daemon().signal(Signal::SIGKILL);
        drop(self.daemon.take());
    }

    /// A path in the tree.
    pub fn tree(&self, path: &str) -> PathBuf {
        let tree = match self.kind {
            Kind::Ours => self.dir.join("etc/pve"),
            Kind::Stock(_) => PathBuf::from("/etc/pve"),
        };
        self.space.path(&tree).join(path)
    }

    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.tree(path))
    }

    pub fn write(&self, path: &str, data: impl AsRef<[u8]>) -> io::Result<()> {
        fs::write(self.tree(path), data)
    }

    pub fn has(&self, path: &str, data: impl AsRef<[u8]>) -> bool {
        self.read(path).is_ok_and(|read| read == data.as_ref())
    }

    /// Names in a directory, sorted, but for generated ones.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.tree(path)).expect("a directory");
        let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    /// Mode bits.
    pub fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.tree(path)).map_or(0, |meta| meta.permissions().mode() & 0o7777)
    }

    /// A generated text as JSON; null when there is none.
    pub fn json(&self, path: &str) -> serde_json::Value {
        let text = self.read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Whether the daemon knows these nodes to be online, and no others, with this state of quorum.
    pub fn sees(&self, online: &[usize], quorate: bool) -> bool {
        let members = self.json(".members");
        let Some(list) = members["nodelist"].as_object() else { return false };
        let is_online = |(name, node): (&String, &serde_json::Value)| {
            (node["online"] == 1).then(|| name.trim_start_matches('n').parse().unwrap_or(0))
        };
        let mut seen: Vec<usize> = list.iter().filter_map(is_online).collect();
        seen.sort_unstable();
        seen == online && members["cluster"]["quorate"] == u8::from(quorate)
    }

    pub fn database(&self) -> PathBuf {
        self.dir.join("var/lib/pve-cluster/config.db")
    }

    /// All that the daemons of this node have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("daemon.log")).unwrap_or_default()).into_owned()
    }

    pub fn corosync_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("corosync.log")).unwrap_or_default()).into_owned()
    }

    /// How often a text was logged.
    pub fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Asks the service; the error is 0 or a negative errno.
    pub fn ask(&self, op: Op, body: &[u8]) -> (i32, Vec<u8>) {
        let body = body.to_vec();
        self.space.run(move || {
            let mut client = Client::connect("pve2", MESSAGE_MAX, PATIENCE).expect("the service");
            let response = client.request(op.id(), &body, Some(PATIENCE)).expect("an answer");
            (response.error, response.data.as_bytes().to_vec())
        })
    }
}
