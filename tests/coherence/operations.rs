//! Operations of the pairs, each as a change of the other member and as a system call here.

use crate::fixture::Tree;
use pmxcfs::memdb::{Change, TreePath, WriteAt};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Size of the file that most operations use: three pages, the last one incomplete.
pub const SIZE: usize = 2 * 4096 + 1000;

/// A prepared system call.
pub type Call = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// One operation on the directory `d` with its files `f` and `g`, the empty directory `s`, and the free name
/// `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Overwrites bytes within `f`.
    Write,
    /// Appends a record to `f`.
    Append,
    /// Truncates `f` within its second page.
    Truncate,
    /// Extends `f` by a write after its end.
    Grow,
    /// Renames `g` over `f`.
    Replace,
    /// Removes `f`.
    Unlink,
    /// Creates the file `n`.
    Create,
    /// Creates the directory `n`.
    Mkdir,
    /// Removes the directory `s`.
    Rmdir,
    /// Sets the time of `f`.
    Utimens,
    /// The node loses quorum.
    QuorumLost,
}

impl Operation {
    pub const ALL: [Self; 11] = [
        Self::Write,
        Self::Append,
        Self::Truncate,
        Self::Grow,
        Self::Replace,
        Self::Unlink,
        Self::Create,
        Self::Mkdir,
        Self::Rmdir,
        Self::Utimens,
        Self::QuorumLost,
    ];

    /// Whether the operation changes bytes of an open file.
    pub fn changes_content(self) -> bool {
        matches!(self, Self::Write | Self::Append | Self::Truncate | Self::Grow)
    }

    /// Whether the kernel locks the directory from the request to the reply.
    pub fn locks_directory(self) -> bool {
        matches!(self, Self::Replace | Self::Unlink | Self::Create | Self::Mkdir | Self::Rmdir)
    }

    /// The change as sent by the other member; `None` if the operation changes no entry.
    pub fn remote(self) -> Option<Change> {
        let path = |name: &str| TreePath::from(name);
        let write = |at, data: &[u8]| Change::Write { path: path("d/f"), at, data: data.to_vec() };
        Some(match self {
            Self::Write => write(WriteAt::Offset(1000), b"from there"),
            // Longer than the local record, so that the local one lands after all pages in which the kernel
            // expects it.
            Self::Append => write(WriteAt::End, &[b'R'; 9000]),
            Self::Truncate => Change::Truncate { path: path("d/f"), size: 4096 + 500 },
            Self::Grow => write(WriteAt::Offset(SIZE as u64 + 700), &[b'G'; 4000]),
            Self::Replace => Change::Rename { from: path("d/g"), to: path("d/f") },
            Self::Unlink => Change::Delete { path: path("d/f") },
            Self::Create => Change::Create { path: path("d/n") },
            Self::Mkdir => Change::Mkdir { path: path("d/n") },
            Self::Rmdir => Change::Delete { path: path("d/s") },
            Self::Utimens => Change::SetMtime { path: path("d/f"), mtime: 77 },
            Self::QuorumLost => return None,
        })
    }

    /// The system call, with its files opened already; `None` if the operation is not a system call.
    pub fn local(self, tree: &Tree) -> Option<Call> {
        let path = |name: &str| -> PathBuf { tree.path(&format!("d/{name}")) };
        let opened = |append: bool| -> File {
            OpenOptions::new().write(true).append(append).open(path("f")).expect("opened for writing")
        };
        let (f, g, n, s) = (path("f"), path("g"), path("n"), path("s"));
        Some(match self {
            Self::Write => {
                let file = opened(false);
                Box::new(move || file.write_all_at(b"from here", 100))
            }
            Self::Append => {
                let mut file = opened(true);
                Box::new(move || file.write_all(&[b'L'; 6000]))
            }
            Self::Truncate => {
                let file = opened(false);
                Box::new(move || file.set_len(300))
            }
            Self::Grow => {
                let file = opened(false);
                Box::new(move || file.write_all_at(&[b'g'; 3000], SIZE as u64 + 100))
            }
            Self::Replace => Box::new(move || fs::rename(g, f)),
            Self::Unlink => Box::new(move || fs::remove_file(f)),
            Self::Create => Box::new(move || File::create_new(n).map(drop)),
            Self::Mkdir => Box::new(move || fs::create_dir(n)),
            Self::Rmdir => Box::new(move || fs::remove_dir(s)),
            Self::Utimens => {
                let file = opened(false);
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(99);
                Box::new(move || file.set_times(FileTimes::new().set_modified(time).set_accessed(time)))
            }
            Self::QuorumLost => return None,
        })
    }
}
