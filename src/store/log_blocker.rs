//! Process that prevents a restart of the write-ahead log: it holds one of SQLite's locks on the shared memory file.
//!
//! `/proc/locks` is read instead of asking by `fcntl`: the kernel releases all locks of this process on a file when
//! one handle of it is closed.

use super::site::Site;
use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;

/// Bytes of the shared memory file whose locks prevent a restart: writer, checkpointer, recovery and readers.
const LOCK_BYTES: RangeInclusive<u64> = 120..=127;

/// A process that reads or writes the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBlocker(Option<Process>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    /// Name of its program, which its user chooses.
    name: String,
}

impl fmt::Display for LogBlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Process { pid, name }) => {
                write!(f, "process {pid} ({}) uses the database", name.escape_debug())
            }
            None => f.write_str("another program uses the database"),
        }
    }
}

/// Looks for a process other than this one. It stays unknown in another PID namespace, or if it ended meanwhile.
pub(super) fn find(site: &Site) -> LogBlocker {
    let find = || -> Option<Process> {
        let (device, inode) = site.beside("-shm").ok()??.id;
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let has_open = |pid: &u32| {
            let handles = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            // The device that /proc/locks names differs from that of stat on some file systems.
            handles
                .filter_map(|handle| fs::metadata(handle.path()).ok())
                .any(|file| (file.dev(), file.ino()) == (device, inode))
        };
        let other = |pid: &u32| *pid != std::process::id();
        let pid = locks.lines().filter_map(|line| holder(line, inode)).filter(other).find(has_open)?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(Process { pid, name: name.trim_end().to_owned() })
    };
    LogBlocker(find())
}

/// Process that holds the lock of this line of `/proc/locks`, if the lock is on a file with this inode number and
/// prevents a restart.
fn holder(line: &str, inode: u64) -> Option<u32> {
    // "1: POSIX  ADVISORY  READ 1234 fe:00:5678 124 124"; a process that waits has "->" after the number.
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "POSIX", _, _, pid, file, start, end] = fields[..] else { return None };
    let is_same = file.rsplit(':').next()?.parse() == Ok(inode);
    let end = if end == "EOF" { u64::MAX } else { end.parse().ok()? };
    let overlaps = start.parse::<u64>().ok()? <= *LOCK_BYTES.end() && end >= *LOCK_BYTES.start();
    if is_same && overlaps { pid.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_and_writer_locks_have_a_holder() {
        let held = |line| holder(line, 5678);
        assert_eq!(held("1: POSIX  ADVISORY  READ 1234 fe:00:5678 124 124"), Some(1234));
        assert_eq!(held("17: POSIX  ADVISORY  WRITE 1234 00:2a:5678 120 121"), Some(1234));
        assert_eq!(held("1: POSIX  ADVISORY  READ 1234 fe:00:5678 0 EOF"), Some(1234));
    }

    #[test]
    fn other_locks_have_no_holder() {
        for line in [
            "1: POSIX  ADVISORY  READ 1234 fe:00:5678 128 128",
            "1: POSIX  ADVISORY  READ 1234 fe:00:5679 124 124",
            "1: -> POSIX  ADVISORY  READ 1234 fe:00:5678 124 124",
            "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF",
            "1: OFDLCK ADVISORY  READ -1 fe:00:5678 124 124",
            "1: POSIX  ADVISORY  READ 1234 fe:00:5678 124",
            "1: POSIX  ADVISORY  READ 1234 fe:00:5678 x y",
            "",
        ] {
            assert_eq!(holder(line, 5678), None, "{line}");
        }
    }

    #[test]
    fn program_names_are_escaped() {
        let process = Process { pid: 7, name: "a\nb".to_owned() };
        assert_eq!(LogBlocker(Some(process)).to_string(), "process 7 (a\\nb) uses the database");
    }
}
