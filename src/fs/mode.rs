//! Permission bits: from what a node is, where it is, and whether there is quorum. The kernel
//! enforces them; nothing is checked here.

use crate::memdb::{Entry, is_openvz_script};

/// What decides the permission bits of a file besides quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Class {
    /// The path is `priv`, `nodes/X/priv`, or below one of them.
    pub(crate) private: bool,
    /// The name is that of an OpenVZ action script.
    pub(crate) script: bool,
}

/// Bits that nodes on private paths keep.
const PRIVATE: u16 = 0o700;
/// Bits that directories and links elsewhere keep: others may look.
const SHARED_DIRECTORY: u16 = 0o755;
/// Bits that files elsewhere keep: nothing for others.
const SHARED_FILE: u16 = 0o750;

/// Bits of the root directory, which is there with and without quorum.
pub(crate) const ROOT_DIRECTORY: u16 = SHARED_DIRECTORY;
/// Bits of generated files that can only be read.
pub(crate) const GENERATED: u16 = 0o440;
/// Bits of `.debug`.
pub(crate) const DEBUG: u16 = 0o640;

pub(crate) fn directory(private: bool, quorate: bool) -> u16 {
    let bits = if quorate { 0o777 } else { 0o555 };
    bits & if private { PRIVATE } else { SHARED_DIRECTORY }
}

pub(crate) fn file(class: Class, quorate: bool) -> u16 {
    let bits = if quorate { 0o666 } else { 0o444 };
    let execute = if class.script { 0o100 } else { 0 };
    (bits | execute) & if class.private { PRIVATE } else { SHARED_FILE }
}

/// Links are where programs look for quorum: at the owner's write bit of `local`.
pub(crate) fn link(quorate: bool) -> u16 {
    directory(false, quorate)
}

/// The only bits that chmod accepts, since they are what every node has anyway.
pub(crate) fn accepted_by_chmod(private: bool) -> u32 {
    if private { 0o600 } else { 0o640 }
}

/// Inputs of the mode bits of an entry.
pub(crate) fn class_of(entry: &Entry) -> Class {
    Class { private: entry.is_private(), script: !entry.is_dir() && is_openvz_script(&entry.name) }
}

#[cfg(test)]
mod tests {
    use super::{Class, accepted_by_chmod, class_of, directory, file, link};
    use crate::memdb::{Change, Limits, MemDb, Stamp, TreePath};
    use std::time::Duration;

    #[test]
    fn bits_by_place_and_quorum() {
        let shared = Class::default();
        let private = Class { private: true, script: false };
        let rows = [
            (directory(false, true), 0o755),
            (directory(false, false), 0o555),
            (directory(true, true), 0o700),
            (directory(true, false), 0o500),
            (file(shared, true), 0o640),
            (file(shared, false), 0o440),
            (file(private, true), 0o600),
            (file(private, false), 0o400),
            (file(Class { script: true, ..shared }, true), 0o740),
            (file(Class { script: true, ..shared }, false), 0o540),
            (file(Class { script: true, ..private }, true), 0o700),
            (link(true), 0o755),
            (link(false), 0o555),
        ];
        for (index, (bits, expected)) in rows.into_iter().enumerate() {
            assert_eq!(bits, expected, "row {index}: {bits:o}");
        }
        assert_eq!((accepted_by_chmod(true), accepted_by_chmod(false)), (0o600, 0o640));
    }

    /// Makes directories and files, each in the order given.
    fn tree(paths: &[&str]) -> MemDb {
        let mut tree = MemDb::new();
        for path in paths {
            let change = match path.strip_suffix('/') {
                Some(dir) => Change::Mkdir { path: TreePath::from(dir) },
                None => Change::Create { path: TreePath::from(*path) },
            };
            let stamp = Stamp { writer: 0, time: 1 };
            tree.apply(change, stamp, Limits::Enforced, Duration::ZERO).expect("applied");
        }
        tree
    }

    #[test]
    fn private_entries_are_those_on_private_paths() {
        let paths = [
            "priv/",
            "priv/a",
            "priv/lock/",
            "priv/lock/x/",
            "private",
            "a/",
            "a/priv/",
            "a/b/",
            "a/b/priv",
            "nodes/",
            "nodes/priv/",
            "nodes/n/",
            "nodes/n/priv/",
            "nodes/n/priv/a",
            "nodes/n/priv/b/",
            "nodes/n/priv/b/c",
            "nodes/n/x/",
            "nodes/n/x/priv",
            "nodes/n/privy",
        ];
        let tree = tree(&paths);
        assert!(!tree.root().is_private());
        for path in paths {
            let path = TreePath::from(path);
            let entry = tree.resolve(path.as_bytes()).expect("made");
            assert_eq!(entry.is_private(), path.is_private(), "{path}");
        }
    }

    #[test]
    fn scripts_are_files() {
        let tree = tree(&["vps.mount", "1.stop/", "priv/", "priv/1.stop"]);
        let class = |path: &[u8]| tree.resolve(path).map(class_of);
        assert_eq!(class(b"vps.mount"), Some(Class { private: false, script: true }));
        assert_eq!(class(b"1.stop"), Some(Class { private: false, script: false }));
        assert_eq!(class(b"priv/1.stop"), Some(Class { private: true, script: true }));
    }
}
