//! The counters of the watched paths, by which clients see that a configuration file changed
//! without reading it. It knows the paths and counts; when to count is decided in `apply.rs`.

use super::TreePath;

/// The watched paths, in the order in which they are shown.
const WATCHED: [&str; 43] = [
    "corosync.conf",
    "corosync.conf.new",
    "storage.cfg",
    "user.cfg",
    "domains.cfg",
    "notifications.cfg",
    "priv/notifications.cfg",
    "priv/shadow.cfg",
    "priv/acme/plugins.cfg",
    "priv/tfa.cfg",
    "priv/token.cfg",
    "priv/wg-keys.cfg",
    "datacenter.cfg",
    "vzdump.cron",
    "vzdump.conf",
    "jobs.cfg",
    "ha/crm_commands",
    "ha/manager_status",
    "ha/resources.cfg",
    "ha/rules.cfg",
    "ha/groups.cfg",
    "ha/fence.cfg",
    "status.cfg",
    "replication.cfg",
    "ceph.conf",
    "sdn/vnets.cfg",
    "sdn/zones.cfg",
    "sdn/controllers.cfg",
    "sdn/subnets.cfg",
    "sdn/ipams.cfg",
    "sdn/mac-cache.json",
    "sdn/pve-ipam-state.json",
    "sdn/dns.cfg",
    "sdn/fabrics.cfg",
    "sdn/route-maps.cfg",
    "sdn/prefix-lists.cfg",
    "sdn/.running-config",
    "virtual-guest/cpu-models.conf",
    "virtual-guest/profiles.cfg",
    "firewall/cluster.fw",
    "mapping/directory.cfg",
    "mapping/pci.cfg",
    "mapping/usb.cfg",
];

/// A counter for each watched path. All start at 1, and all go up when the tree is loaded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathVersions([u64; WATCHED.len()]);

impl PathVersions {
    /// Every watched path and its counter, in the order in which they are shown.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        WATCHED.into_iter().zip(self.0)
    }

    /// The counter of a path, if it is watched.
    pub fn get(&self, path: &str) -> Option<u64> {
        self.iter().find_map(|(watched, version)| (watched == path).then_some(version))
    }

    /// Notes a change of the entry at this path.
    pub(super) fn count(&mut self, path: &TreePath) {
        for (watched, version) in WATCHED.iter().zip(&mut self.0) {
            if watched.as_bytes() == path.as_bytes() {
                *version += 1;
            }
        }
    }

    /// Notes that the whole tree was replaced.
    pub(super) fn count_all(&mut self) {
        for version in &mut self.0 {
            *version += 1;
        }
    }
}

impl Default for PathVersions {
    fn default() -> Self {
        Self([1; WATCHED.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_the_exact_path() {
        let mut versions = PathVersions::default();
        versions.count(&TreePath::from("storage.cfg"));
        versions.count(&TreePath::from("priv/storage.cfg"));
        versions.count(&TreePath::from("storage.cf"));
        assert_eq!(versions.get("storage.cfg"), Some(2));
        assert_eq!(versions.get("user.cfg"), Some(1));
        assert_eq!(versions.get("other"), None);
        assert_eq!(versions.iter().map(|(_, version)| version).sum::<u64>(), 44);
    }
}
