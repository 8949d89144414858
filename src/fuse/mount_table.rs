//! What is mounted where, read from the kernel's table: the only way to ask about a tree whose daemon
//! may be dead without waiting for it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The device number of what is mounted at `path`, without touching it.
pub fn mounted_device(path: &Path) -> Option<String> {
    // A thread may see other mounts than the rest of its process.
    device_in(&std::fs::read("/proc/thread-self/mountinfo").ok()?, path)
}

fn device_in(table: &[u8], path: &Path) -> Option<String> {
    // The last one lies on top.
    table.split(|&byte| byte == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        let (device, place) = (fields.next()?, fields.nth(1)?);
        let found = unescape(place).as_bytes() == path.as_os_str().as_bytes();
        found.then(|| String::from_utf8_lossy(device).into_owned())
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
        let table = b"36 35 98:0 / /mnt rw - ext4 /dev/root rw\n\
            37 35 0:40 / /a\\040b rw - fuse /dev/fuse rw\n\
            38 35 0:41 / /a\\040b rw - fuse /dev/fuse rw\n";
        assert_eq!(device_in(table, Path::new("/a b")).as_deref(), Some("0:41"));
        assert_eq!(device_in(table, Path::new("/mnt")).as_deref(), Some("98:0"));
        assert_eq!(device_in(table, Path::new("/none")), None);
        assert!(mounted_device(Path::new("/proc")).is_some());
    }
}
