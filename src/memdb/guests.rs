//! The list of guests in the cluster: which VMID is of what kind and on which node. It follows the
//! configuration files exactly; it never looks into them.

use super::load::Report;
use super::path::{GuestConfig, config_vmid, node_name};
use super::{Entry, Inode, LoadError, MemDb};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kind of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestKind {
    Qemu,
    OpenVz,
    Lxc,
}

impl GuestKind {
    /// All kinds, in the order in which their directories are searched.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::OpenVz, Self::Lxc];

    /// The kind's name in the guest list.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::OpenVz => "openvz",
            Self::Lxc => "lxc",
        }
    }

    /// The directory below `nodes/NODE` that holds the configurations.
    pub fn dir(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-server",
            Self::OpenVz => "openvz",
            Self::Lxc => "lxc",
        }
    }

    /// The kind whose configurations are in directories of this name.
    pub fn of_dir(dir: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.dir().as_bytes() == dir)
    }
}

/// One guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// What kind it is.
    pub kind: GuestKind,
    /// The node it belongs to.
    pub node: Arc<str>,
    /// Changes with each registration, that is with each write to the configuration.
    pub version: u32,
    /// Its configuration file.
    pub config: Inode,
}

/// All guests, by VMID. Invariant: these are exactly the files whose path is that of a guest's
/// configuration, and no two of them have the same VMID.
#[derive(Debug, Clone, Default)]
pub struct Guests {
    list: BTreeMap<u32, Guest>,
    /// The `vmlist` counter.
    version: u64,
    /// The last version given to a guest.
    guest_version: u32,
}

impl Guests {
    /// The `vmlist` counter: up with each registration and each removal.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The guest with this number.
    pub fn get(&self, vmid: u32) -> Option<&Guest> {
        self.list.get(&vmid)
    }

    /// All guests, by rising VMID.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Guest)> {
        self.list.iter().map(|(&vmid, guest)| (vmid, guest))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The guest that keeps this configuration from being made: one of the same VMID with another
    /// kind or node.
    pub(super) fn conflict(&self, config: &GuestConfig<'_>) -> Option<&Guest> {
        self.get(config.vmid).filter(|guest| guest.kind != config.kind || *guest.node != *config.node)
    }

    /// Whether a guest is listed with exactly this VMID, kind and node.
    pub(super) fn is_at(&self, config: &GuestConfig<'_>) -> bool {
        self.get(config.vmid).is_some() && self.conflict(config).is_none()
    }

    /// Notes that the configuration was made, written or moved to its place.
    pub(super) fn register(&mut self, config: &GuestConfig<'_>, inode: Inode) {
        self.version += 1;
        self.insert(config, inode);
    }

    /// Notes that the configuration of this guest left its place.
    pub(super) fn unregister(&mut self, vmid: u32) {
        self.version += 1;
        self.list.remove(&vmid);
    }

    /// The list as the files say, counted on from `before`.
    pub(super) fn rebuild(db: &MemDb, before: &Self, report: Report<'_>) -> Result<Self, LoadError> {
        let nodes = db.resolve(b"nodes").filter(|nodes| nodes.is_dir());
        // Without `nodes` there is nothing to count, as in stock, unless guests vanish by that.
        let counted = nodes.is_some() || !before.is_empty();
        let mut guests = Self {
            list: BTreeMap::new(),
            version: before.version + u64::from(counted),
            guest_version: before.guest_version,
        };
        for node_dir in nodes.into_iter().flat_map(|nodes| db.children_of(nodes)) {
            let Some(node) = node_name(&node_dir.name) else { continue };
            for kind in GuestKind::ALL {
                let Some(dir) = db.child(node_dir, kind.dir().as_bytes()) else { continue };
                for file in db.children_of(dir).filter(|entry| !entry.is_dir()) {
                    let Some(vmid) = config_vmid(&file.name) else { continue };
                    if let Some(other) = guests.get(vmid) {
                        let (first, second) = (other.config, file.inode);
                        report(LoadError::DuplicateGuest { vmid, first, second })?;
                        continue;
                    }
                    guests.insert(&GuestConfig { node, kind, vmid }, file.inode);
                }
            }
        }
        Ok(guests)
    }

    fn insert(&mut self, config: &GuestConfig<'_>, inode: Inode) {
        self.guest_version = self.guest_version.wrapping_add(1);
        let node = match self.get(config.vmid) {
            Some(guest) if *guest.node == *config.node => Arc::clone(&guest.node),
            _ => Arc::from(config.node),
        };
        let guest = Guest { kind: config.kind, node, version: self.guest_version, config: inode };
        self.list.insert(config.vmid, guest);
    }
}

impl MemDb {
    /// The entries in a directory; none when it is a file.
    pub fn children_of<'a>(&'a self, dir: &'a Entry) -> impl Iterator<Item = &'a Entry> {
        dir.children().into_iter().flatten().filter_map(|(_, inode)| self.entries.get(&inode))
    }
}
