//! Mount of the tree: its expected mount point, and whether the tree is mounted there.

use crate::fuse::{Mount, mount_at};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// Mount point of a daemon that does not report its own.
const STOCK_MOUNT_POINT: &str = "/etc/pve";

/// The tree's part of the status document. `asked` is the mount point of the command line; it takes
/// precedence over `own`, the daemon's report.
pub(super) fn tree(asked: Option<&Path>, own: &Value) -> Value {
    let reported = own["tree"]["mount_point"].as_str();
    let path = asked.unwrap_or_else(|| Path::new(reported.unwrap_or(STOCK_MOUNT_POINT)));
    // Reads the table of mounts and not the tree, which blocks if the daemon hangs.
    let mount = without_links(path).and_then(|place| {
        let table = std::fs::read("/proc/self/mountinfo")?;
        Ok(mount_at(&table, &place))
    });
    let is_tree = |mount: &Mount| is_tree(mount, own["tree"]["device"].as_str());
    let (mounted, covered_by) = match &mount {
        Ok(Some(mount)) if is_tree(mount) => (Some(true), None),
        Ok(Some(other)) => (Some(false), Some(other.kind.as_str())),
        Ok(None) => (Some(false), None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Some(false), None),
        Err(_) => (None, None),
    };
    json!({ "path": path.to_string_lossy(), "mounted": mounted, "covered_by": covered_by })
}

/// Whether a mount is the daemon's: it has the reported device or, without a report, is a FUSE mount.
fn is_tree(mount: &Mount, device: Option<&str>) -> bool {
    match device {
        Some(device) => mount.device == device,
        None => mount.kind == "fuse" || mount.kind.starts_with("fuse."),
    }
}

/// The path as in the table of mounts. The last component may be the tree and is not accessed.
fn without_links(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_of_other_kind_is_not_the_tree() {
        let own = json!({ "tree": { "mount_point": "/proc", "device": "999:999" } });
        let expected = json!({ "path": "/proc", "mounted": false, "covered_by": "proc" });
        assert_eq!(tree(None, &own), expected);
        assert_eq!(tree(Some(Path::new("/proc")), &Value::Null), expected);
        let nothing = json!({ "path": "/proc/self", "mounted": false, "covered_by": null });
        assert_eq!(tree(Some(Path::new("/proc/self")), &own), nothing);
        let missing = json!({ "path": "/no/such", "mounted": false, "covered_by": null });
        assert_eq!(tree(Some(Path::new("/no/such")), &own), missing);
    }

    #[test]
    fn tree_is_known_by_device_or_type() {
        let mount = |kind: &str| Mount {
            device: "0:41".to_owned(),
            kind: kind.to_owned(),
            source: "/dev/fuse".to_owned(),
        };
        assert!(is_tree(&mount("fuse"), Some("0:41")));
        assert!(!is_tree(&mount("fuse"), Some("0:42")), "the tree of another daemon");
        assert!(is_tree(&mount("fuse"), None) && is_tree(&mount("fuse.pmxcfs"), None));
        assert!(!is_tree(&mount("tmpfs"), None));
    }
}
