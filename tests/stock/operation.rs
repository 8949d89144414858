//! One thing that a program does to a tree, and what it sees of it, as text that can be compared.

use crate::tree;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, RenameFlags, fcntl, open, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, Gid, Uid, access, setfsgid, setfsuid, truncate};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A path below the root of the tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(path: &[u8]) -> Self {
        Self(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
    }

    pub fn below(&self, name: &[u8]) -> Self {
        Self(self.0.join(std::ffi::OsStr::from_bytes(name)))
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            long if long.len() > 200 => write!(f, "({} bytes: {}...)", long.len(), long[..40].escape_ascii()),
            bytes => write!(f, "'{}'", bytes.escape_ascii()),
        }
    }
}

/// Content to write: `length` bytes that follow from `seed`.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    pub seed: u8,
    pub length: usize,
}

impl Content {
    fn bytes(self) -> Vec<u8> {
        (0..self.length).map(|at| self.seed.wrapping_add((at / 7) as u8)).collect()
    }
}

/// What utimensat is given for one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    Now,
    Omit,
    At(i64),
}

impl Time {
    fn spec(self) -> TimeSpec {
        match self {
            Self::Now => TimeSpec::UTIME_NOW,
            Self::Omit => TimeSpec::UTIME_OMIT,
            Self::At(seconds) => TimeSpec::new(seconds, 0),
        }
    }
}

/// Which descriptor of a run.
pub type Slot = u8;

/// One operation. `Replace` and `Append` are what programs do in several calls.
#[derive(Debug, Clone)]
pub enum Operation {
    Replace { path: Place, content: Content },
    Append { path: Place, content: Content },
    Truncate { path: Place, size: i64 },
    Mkdir { path: Place },
    Rmdir { path: Place },
    Unlink { path: Place },
    Rename { from: Place, to: Place },
    RenameWith { from: Place, to: Place, flags: RenameFlags },
    Utimens { path: Place, atime: Time, mtime: Time },
    Chmod { path: Place, mode: u32 },
    Chown { path: Place, uid: Option<u32>, gid: Option<u32> },
    Symlink { path: Place, target: Place },
    Link { from: Place, to: Place },
    Mknod { path: Place, kind: SFlag },
    Stat { path: Place },
    Read { path: Place },
    List { path: Place },
    ReadLink { path: Place },
    Access { path: Place, mode: AccessFlags },
    StatFs,
    Open { slot: Slot, path: Place, flags: OFlag },
    ReadAt { slot: Slot, offset: u64, length: usize },
    WriteAt { slot: Slot, offset: u64, content: Content },
    SetLength { slot: Slot, size: u64 },
    Sync { slot: Slot },
    StatOpen { slot: Slot },
    Close { slot: Slot },
}

impl Operation {
    /// Whether it can be done again without any change.
    pub fn only_looks(&self) -> bool {
        use Operation::*;
        matches!(self, Stat { .. } | Read { .. } | List { .. } | ReadLink { .. } | Access { .. } | StatFs)
    }
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Root,
    /// Of the group that may read.
    WwwData,
    Nobody,
}

impl User {
    fn ids(self) -> (u32, u32) {
        match self {
            Self::Root => (0, 0),
            Self::WwwData => (33, 33),
            Self::Nobody => (65534, 65534),
        }
    }
}

/// What was seen, or the errno.
pub type Answer = Result<String, Errno>;

/// A program that works on one tree.
pub struct Actor {
    root: PathBuf,
    open: BTreeMap<Slot, File>,
}

impl Actor {
    pub fn new(root: PathBuf) -> Self {
        Self { root, open: BTreeMap::new() }
    }

    /// Does it as this user, on the calling thread.
    pub fn act_as(&mut self, user: User, operation: &Operation) -> Answer {
        let (uid, gid) = user.ids();
        // Of this thread only; without the rights of root when the user is another.
        setfsgid(Gid::from_raw(gid));
        setfsuid(Uid::from_raw(uid));
        let answer = self.act(operation);
        setfsuid(Uid::from_raw(0));
        setfsgid(Gid::from_raw(0));
        answer
    }

    pub fn act(&mut self, operation: &Operation) -> Answer {
        use Operation::*;
        match operation {
            Replace { path, content } => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
                write_some(&self.open(path, flags)?, 0, *content)
            }
            Append { path, content } => {
                write_some(&self.open(path, OFlag::O_WRONLY | OFlag::O_APPEND)?, 0, *content)
            }
            Open { slot, path, flags } => {
                self.open.remove(slot);
                let file = self.open(path, *flags)?;
                self.open.insert(*slot, file);
                done()
            }
            ReadAt { slot, offset, length } => read_some(self.file(*slot)?, *offset, *length),
            WriteAt { slot, offset, content } => write_some(self.file(*slot)?, *offset, *content),
            SetLength { slot, size } => nothing(self.file(*slot)?.set_len(*size)),
            Sync { slot } => nothing(self.file(*slot)?.sync_all()),
            StatOpen { slot } => Ok(tree::attributes(&self.file(*slot)?.metadata().map_err(errno)?)),
            Close { slot } => {
                self.open.remove(slot);
                done()
            }
            _ => self.act_on_path(operation),
        }
    }

    fn act_on_path(&self, operation: &Operation) -> Answer {
        use Operation::*;
        let at = |path: &Place| self.at(path);
        match operation {
            Truncate { path, size } => truncate(&at(path), *size).map(|()| String::new()),
            Mkdir { path } => nothing(fs::create_dir(at(path))),
            Rmdir { path } => nothing(fs::remove_dir(at(path))),
            Unlink { path } => nothing(fs::remove_file(at(path))),
            Rename { from, to } => nothing(fs::rename(at(from), at(to))),
            RenameWith { from, to, flags } => {
                renameat2(AT_FDCWD, &at(from), AT_FDCWD, &at(to), *flags).map(|()| String::new())
            }
            Utimens { path, atime, mtime } => {
                let follow = UtimensatFlags::NoFollowSymlink;
                utimensat(AT_FDCWD, &at(path), &atime.spec(), &mtime.spec(), follow).map(|()| String::new())
            }
            Chmod { path, mode } => nothing(fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))),
            Chown { path, uid, gid } => nothing(std::os::unix::fs::lchown(at(path), *uid, *gid)),
            Symlink { path, target } => nothing(std::os::unix::fs::symlink(&target.0, at(path))),
            Link { from, to } => nothing(fs::hard_link(at(from), at(to))),
            Mknod { path, kind } => {
                let mode = Mode::from_bits_truncate(0o644);
                mknod(&at(path), *kind, mode, 0).map(|()| String::new())
            }
            Stat { path } => Ok(tree::attributes(&fs::symlink_metadata(at(path)).map_err(errno)?)),
            Read { path } => read_some(&self.open(path, OFlag::O_RDONLY)?, 0, 2 << 20),
            List { path } => list(&at(path)),
            ReadLink { path } => {
                Ok(fs::read_link(at(path)).map_err(errno)?.as_os_str().as_bytes().escape_ascii().to_string())
            }
            Access { path, mode } => access(&at(path), *mode).map(|()| String::new()),
            StatFs => stat_fs(&self.root),
            _ => unreachable!("done by the caller: {operation:?}"),
        }
    }

    /// Closes all.
    pub fn close(&mut self) {
        self.open.clear();
    }

    /// Where it is for this process.
    pub fn at(&self, path: &Place) -> PathBuf {
        self.root.join(&path.0)
    }

    /// Whether what is there is open.
    pub fn has_open(&self, path: &Place) -> bool {
        let Ok(metadata) = fs::symlink_metadata(self.at(path)) else { return false };
        let number = |file: &File| file.metadata().map(|open| open.ino()).ok();
        self.open.values().any(|file| number(file) == Some(metadata.ino()))
    }

    /// Whether a path leads to a text that is made when it is read.
    pub fn is_generated(&self, path: &Place) -> bool {
        fs::metadata(self.at(path)).is_ok_and(|metadata| is_generated(&metadata))
    }

    pub fn is_generated_open(&self, slot: Slot) -> bool {
        let metadata = self.open.get(&slot).and_then(|file| file.metadata().ok());
        metadata.is_some_and(|metadata| is_generated(&metadata))
    }

    /// Whether a slot has an open directory that was since removed from our tree.
    pub fn is_removed_directory(&self, slot: Slot) -> bool {
        let error = self.open.get(&slot).and_then(|file| file.metadata().err());
        error.is_some_and(|error| error.raw_os_error() == Some(libc::ESTALE))
    }

    pub fn size_of_open(&self, slot: Slot) -> Option<u64> {
        Some(self.open.get(&slot)?.metadata().ok()?.len())
    }

    pub fn appends(&self, slot: Slot) -> bool {
        let flags = self.open.get(&slot).and_then(|file| fcntl(file, FcntlArg::F_GETFL).ok());
        flags.is_some_and(|flags| OFlag::from_bits_retain(flags).contains(OFlag::O_APPEND))
    }

    fn open(&self, path: &Place, flags: OFlag) -> Result<File, Errno> {
        let mode = Mode::from_bits_truncate(0o666);
        open(&self.at(path), flags | OFlag::O_CLOEXEC, mode).map(File::from)
    }

    fn file(&self, slot: Slot) -> Result<&File, Errno> {
        self.open.get(&slot).ok_or(Errno::EBADF)
    }
}

/// Files of the database always have a time; generated ones have none. Only here is it sometimes 0,
/// by utimens, and then their modes tell them apart.
fn is_generated(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.mtime() == 0 && metadata.mode() & 0o777 == 0o440
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().expect("from a system call"))
}

fn done() -> Answer {
    Ok(String::new())
}

fn nothing(result: io::Result<()>) -> Answer {
    result.map(|()| String::new()).map_err(errno)
}

/// One call; how much was taken.
fn write_some(file: &File, offset: u64, content: Content) -> Answer {
    let taken = file.write_at(&content.bytes(), offset).map_err(errno)?;
    Ok(format!("{taken} written"))
}

/// Up to the end or `length`.
fn read_some(file: &File, offset: u64, length: usize) -> Answer {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(errno)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let start = bytes[..bytes.len().min(30)].escape_ascii();
    Ok(format!("{filled} bytes, hash {:x}, {start}", hasher.finish()))
}

fn list(path: &Path) -> Answer {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.map_err(errno)?;
        let kind = entry.file_type().map_err(errno)?;
        let letter = if kind.is_dir() {
            'd'
        } else if kind.is_symlink() {
            'l'
        } else {
            '-'
        };
        Ok(format!("{letter}{}", entry.file_name().as_bytes().escape_ascii()))
    };
    let entries = fs::read_dir(path).map_err(errno)?.map(entry);
    let mut names = entries.collect::<Result<Vec<_>, Errno>>()?;
    // In stock's order nobody can rely.
    names.sort();
    Ok(names.join(" "))
}

fn stat_fs(root: &Path) -> Answer {
    let stat = statvfs(root)?;
    Ok(format!(
        "block {} {}, blocks {} {} {}, files {} {} {}, names {}",
        stat.block_size(),
        stat.fragment_size(),
        stat.blocks(),
        stat.blocks_free(),
        stat.blocks_available(),
        stat.files(),
        stat.files_free(),
        stat.files_available(),
        stat.name_max()
    ))
}
