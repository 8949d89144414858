//! What is mounted where, read from the kernel's table: the only way to ask about a tree whose daemon
//! may be dead without waiting for it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The topmost mount at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device number, as `major:minor`: one for each mounted tree, equal in all mount namespaces.
    pub device: String,
    /// Type of the file system, such as `fuse`.
    pub kind: String,
    /// Source of the mount, such as `/dev/fuse`; chosen freely by the mounting process.
    pub source: String,
}

/// The device number of what is mounted at `path`, without touching it.
pub fn mounted_device(path: &Path) -> Option<String> {
    Some(topmost(path)?.device)
}

/// The topmost mount at `path`, read from the table of mounts without accessing the path.
pub fn topmost(path: &Path) -> Option<Mount> {
    // A thread may see other mounts than the rest of its process.
    let table = std::fs::read("/proc/thread-self/mountinfo").ok()?;
    mount_at(&table, path)
}

/// The topmost mount at `path` in a table in the format of `mountinfo`.
pub fn mount_at(table: &[u8], path: &Path) -> Option<Mount> {
    // The last one lies on top.
    table.split(|&byte| byte == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        let (device, place) = (fields.next()?, fields.nth(1)?);
        let found = unescape(place).as_bytes() == path.as_os_str().as_bytes();
        // A hyphen ends the optional fields; the type follows it.
        if !found {
            return None;
        }
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, source) = (rest.next()?, rest.next()?);
        let text = |bytes| unescape(bytes).to_string_lossy().into_owned();
        Some(Mount { device: text(device), kind: text(kind), source: text(source) })
    })
}

/// The table writes spaces and such as three octal digits behind a backslash.
fn unescape(text: &[u8]) -> OsString {
    let is_octal = |digits: &&[u8]| digits.iter().all(|digit| (b'0'..b'8').contains(digit));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = if byte == b'\\' { after.get(..3).filter(is_octal) } else { None };
        if let Some(digits) = digits {
            bytes.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8) + (digit - b'0')));
            rest = &after[3..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_is_found_by_its_place() {
        let table = b"36 35 98:0 / /mnt rw shared:1 - ext4 /dev/root rw\n\
            37 35 0:40 / /a\\040b rw - fuse /dev/fuse rw\n\
            38 35 0:41 / /a\\040b rw - tmpfs none rw\n";
        let found = |path| mount_at(table, Path::new(path)).map(|mount| (mount.device, mount.kind));
        let mount = |device: &str, kind: &str| Some((device.to_owned(), kind.to_owned()));
        assert_eq!(found("/a b"), mount("0:41", "tmpfs"));
        assert_eq!(found("/mnt"), mount("98:0", "ext4"));
        assert_eq!(found("/none"), None);
        assert!(mounted_device(Path::new("/proc")).is_some());
    }
}
