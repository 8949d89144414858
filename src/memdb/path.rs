//! A path within the tree, and the rules that follow from a path alone: what is private, what is a
//! lock, what is a guest's configuration. It knows nothing of what exists.

use super::name::write_readable;
use super::{GuestKind, Name};
use std::fmt;

/// A path within the tree: names joined by single slashes, none at the ends; empty for the root.
/// Its components need not be valid names: a change that would make such a name refuses it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<u8>);

/// What the path of a guest's configuration file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestConfig<'a> {
    /// The node it belongs to: letters, digits and inner hyphens.
    pub node: &'a str,
    /// What kind of guest it is.
    pub kind: GuestKind,
    /// Its number, unique in the cluster; never 0.
    pub vmid: u32,
}

impl TreePath {
    /// The path with these bytes. Leading, trailing and doubled slashes are dropped.
    pub fn new(bytes: &[u8]) -> Self {
        let mut path = Vec::with_capacity(bytes.len());
        for name in bytes.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            push(&mut path, name);
        }
        Self(path)
    }

    /// The path of the root.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path's bytes, without a leading slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names it consists of, from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The directory and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None => Some((b"", &self.0)),
        }
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        push(&mut path, name);
        Self(path)
    }

    /// Whether only root may see it: `priv` and `nodes/X/priv`, and all below those.
    pub fn is_private(&self) -> bool {
        let mut names = self.components();
        match names.next() {
            Some(b"priv") => true,
            Some(b"nodes") => names.nth(1) == Some(b"priv"),
            _ => false,
        }
    }

    /// `NAME` when this is `priv/lock/NAME`. A directory there is a lock.
    pub fn lock_name(&self) -> Option<&[u8]> {
        self.0.strip_prefix(b"priv/lock/").filter(|name| !name.contains(&b'/'))
    }

    /// Whether this is anything below `priv/lock`. Directories there do not move, and a request
    /// for expiry acts on them at any depth.
    pub fn is_below_lock_dir(&self) -> bool {
        self.0.starts_with(b"priv/lock/")
    }

    /// What the path says when a file at it is a guest's configuration:
    /// `nodes/NODE/{qemu-server,openvz,lxc}/VMID.conf`.
    pub fn guest_config(&self) -> Option<GuestConfig<'_>> {
        let mut names = self.0.strip_prefix(b"nodes/")?.split(|&byte| byte == b'/');
        let (node, dir, file) = (names.next()?, names.next()?, names.next()?);
        if names.next().is_some() {
            return None;
        }
        let kind = GuestKind::of_dir(dir)?;
        Some(GuestConfig { node: node_name(node)?, kind, vmid: config_vmid(file)? })
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The name of a node whose guests count: letters, digits and inner hyphens.
pub(super) fn node_name(name: &[u8]) -> Option<&str> {
    let (first, last) = (name.first()?, name.last()?);
    let inner = name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if inner && *first != b'-' && *last != b'-' { std::str::from_utf8(name).ok() } else { None }
}

/// The number in `VMID.conf`: decimal, no leading zero, 32 bits.
pub(super) fn config_vmid(name: &[u8]) -> Option<u32> {
    let digits = name.strip_suffix(b".conf")?;
    if !starts_like_vmid(digits) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether a file of this name is an OpenVZ action script, which is executable for its owner.
pub fn is_openvz_script(name: &[u8]) -> bool {
    let Some(dot) = name.iter().position(|&byte| byte == b'.') else { return false };
    let (stem, action) = (&name[..dot], &name[dot + 1..]);
    let guest = starts_like_vmid(stem) && stem.iter().all(u8::is_ascii_digit);
    (guest || stem == b"vps")
        && matches!(action, b"mount" | b"umount" | b"start" | b"stop" | b"premount" | b"postumount")
}

fn starts_like_vmid(digits: &[u8]) -> bool {
    matches!(digits.first(), Some(b'1'..=b'9'))
}

impl<'a> FromIterator<&'a Name> for TreePath {
    fn from_iter<I: IntoIterator<Item = &'a Name>>(names: I) -> Self {
        let mut path = Vec::new();
        for name in names {
            push(&mut path, name);
        }
        Self(path)
    }
}

impl From<&str> for TreePath {
    fn from(path: &str) -> Self {
        Self::new(path.as_bytes())
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { write!(f, "/") } else { write_readable(f, &self.0) }
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_normalised() {
        assert_eq!(TreePath::from("//a///b/").as_bytes(), b"a/b");
        assert!(TreePath::from("///").is_root());
        assert_eq!(TreePath::from("a/b").split(), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(TreePath::from("a").split(), Some((&b""[..], &b"a"[..])));
        assert_eq!(TreePath::root().split(), None);
        assert_eq!(TreePath::root().join(b"a").join(b"b").as_bytes(), b"a/b");
        assert_eq!(TreePath::from("a/b").components().collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(TreePath::root().components().count(), 0);
    }

    #[test]
    fn private_paths() {
        for path in ["priv", "priv/a", "nodes/n1/priv", "nodes/n1/priv/a/b"] {
            assert!(TreePath::from(path).is_private(), "{path}");
        }
        for path in
            ["", "private", "a/priv", "nodes", "nodes/priv", "nodes/n1", "nodes/n1/privy", "nodes/a/b/priv"]
        {
            assert!(!TreePath::from(path).is_private(), "{path}");
        }
    }

    #[test]
    fn lock_paths() {
        assert_eq!(TreePath::from("priv/lock/a").lock_name(), Some(&b"a"[..]));
        for path in ["priv/lock", "priv/lock/a/b", "lock/a", "priv/locks/a"] {
            assert_eq!(TreePath::from(path).lock_name(), None, "{path}");
        }
        assert!(TreePath::from("priv/lock/a/b").is_below_lock_dir());
        assert!(!TreePath::from("priv/lock").is_below_lock_dir());
    }

    #[test]
    fn guest_configs() {
        let guest = |node, kind, vmid| Some(GuestConfig { node, kind, vmid });
        for (path, expected) in [
            ("nodes/n1/qemu-server/100.conf", guest("n1", GuestKind::Qemu, 100)),
            ("nodes/a-b/lxc/1.conf", guest("a-b", GuestKind::Lxc, 1)),
            ("nodes/9/openvz/4294967295.conf", guest("9", GuestKind::OpenVz, u32::MAX)),
            ("nodes/n1/lxc/4294967296.conf", None),
            ("nodes/n1/lxc/18446744073709551716.conf", None),
            ("nodes/n1/lxc/0.conf", None),
            ("nodes/n1/lxc/0100.conf", None),
            ("nodes/n1/lxc/+100.conf", None),
            ("nodes/n1/lxc/1x.conf", None),
            ("nodes/n1/lxc/.conf", None),
            ("nodes/n1/lxc/100.conf.tmp", None),
            ("nodes/n1/lxc/100.conf/x", None),
            ("nodes/n1/qemu/100.conf", None),
            ("nodes/-n/lxc/100.conf", None),
            ("nodes/n-/lxc/100.conf", None),
            ("nodes/-/lxc/100.conf", None),
            ("nodes/n.1/lxc/100.conf", None),
            ("n1/lxc/100.conf", None),
            ("nodes/n1/100.conf", None),
        ] {
            assert_eq!(TreePath::from(path).guest_config(), expected, "{path}");
        }
    }

    #[test]
    fn openvz_scripts() {
        for name in ["vps.mount", "vps.postumount", "1.start", "100.stop", "99999999999999999999999.premount"]
        {
            assert!(is_openvz_script(name.as_bytes()), "{name}");
        }
        for name in ["vps", "vps.", "vps.mounted", "0.mount", "1x.mount", "100.conf", ".mount", "avps.mount"]
        {
            assert!(!is_openvz_script(name.as_bytes()), "{name}");
        }
    }
}
