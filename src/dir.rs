//! Directory handles: files in directories that other users can write to.
//!
//! Each system call resolves a path again. If another user can rename entries on the way, two calls of a root
//! program can reach different files. So [`Dir`] resolves the path of a directory once. Each operation names
//! one entry relative to that descriptor, does not follow symbolic links, and does not block on a FIFO. A new
//! file gets owner and mode by its descriptor before it has contents ([`Draft`]).

mod draft;
pub(crate) mod temporary;
mod walk;

pub use draft::{Belongs, Draft};
pub use temporary::remove_on_signals;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    /// Opened with `O_PATH`, which needs no permission to list the directory.
    fd: OwnedFd,
    path: PathBuf,
    exposure: Exposure,
}

/// Write access of users other than root and the user of this process.
#[derive(Debug, Clone, Default)]
struct Exposure {
    /// The first directory on the path in which they can rename or remove entries.
    renamed_in: Option<PathBuf>,
    /// They can at least add entries to the directory itself.
    added_to: bool,
}

/// Access to a file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    Fifo,
    Socket,
    Device,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Link => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
        })
    }
}

/// Reason why an entry is refused; the payload of an [`io::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is {found}, not {wanted}; remove it or name another")]
    WrongKind { found: Kind, wanted: Kind },
    #[error(
        "'{}' is a symbolic link that another user can have made; give the path that it leads to",
        link.display()
    )]
    ForeignLink {
        /// Path of the link.
        link: PathBuf,
    },
    #[error("another process exchanged it meanwhile; use a directory that only you can write to")]
    Exchanged,
    #[error("this is no name for an entry of a directory")]
    NotAName,
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::WrongKind { found: Kind::Directory, .. } => io::ErrorKind::IsADirectory,
            Refusal::WrongKind { wanted: Kind::Directory, .. } => io::ErrorKind::NotADirectory,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, refusal)
    }
}

/// Facts about an entry; a symbolic link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Device and inode number, which identify the file.
    pub id: (u64, u64),
    pub bytes: u64,
    pub uid: u32,
    /// Permissions.
    pub mode: u32,
    /// Number of names; 0 for an open file that was deleted.
    pub links: u64,
    /// Time of the last change of its contents: seconds and nanoseconds.
    pub modified: (i64, i64),
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Entry {
    fn of(stat: &FileStat) -> Self {
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFSOCK => Kind::Socket,
            _ => Kind::Device,
        };
        Self {
            kind,
            id: (stat.st_dev, stat.st_ino),
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            uid: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            links: stat.st_nlink,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }

    /// Facts about an open file or directory.
    pub fn of_open(open: impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&fstat(open)?))
    }
}

/// Opens the regular file that `path` leads to, for reading.
pub fn open_file(path: &Path) -> io::Result<File> {
    let (dir, name) = Dir::holding_target(path)?;
    dir.open_file(&name, Access::Read)
}

/// Reads the regular file that `path` leads to.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    open_file(path)?.read_to_end(&mut contents)?;
    Ok(contents)
}

/// Atomically replaces the file `path` by one with these contents, owned by the user of this process, and
/// syncs it.
pub fn replace_file(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let (dir, name) = Dir::holding(path)?;
    dir.replace_file(&name, Belongs::to_me(mode), contents)
}

impl Dir {
    /// Opens a directory. Fails with [`Refusal::ForeignLink`] if a symbolic link on the way is in a directory
    /// where another user can have put it.
    pub fn open(path: &Path) -> io::Result<Self> {
        walk::to_directory(path)
    }

    /// Opens the directory that holds the last component of `path`, which is returned and may be missing.
    pub fn holding(path: &Path) -> io::Result<(Self, OsString)> {
        walk::to_entry(path, false)
    }

    /// As [`Dir::holding`], but follows the last component if it is a symbolic link, by the rule of
    /// [`Dir::open`].
    pub fn holding_target(path: &Path) -> io::Result<(Self, OsString)> {
        walk::to_entry(path, true)
    }

    /// As [`Dir::open`]. Makes a missing directory with mode `last`, and missing parents with mode `parents`.
    pub fn open_or_make(path: &Path, parents: u32, last: u32) -> io::Result<Self> {
        match (Self::open(path), path.parent(), path.file_name()) {
            (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                Self::open_or_make(parent, parents, parents)?.open_or_make_dir(name, last)
            }
            (opened, ..) => opened,
        }
    }

    /// Path of the directory when it was opened, absolute and without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether only root and the user of this process can change entries here or on the way here. Then a path
    /// always leads to the same entry.
    pub fn is_private(&self) -> bool {
        self.exposure.renamed_in.is_none() && !self.exposure.added_to
    }

    /// The first directory on the path here in which other users can rename or remove entries.
    pub fn exposed(&self) -> Option<&Path> {
        self.exposure.renamed_in.as_deref()
    }

    /// Another handle of the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, path: self.path.clone(), exposure: self.exposure.clone() })
    }

    /// Facts about an entry; `None` if it is missing.
    pub fn entry(&self, name: &OsStr) -> io::Result<Option<Entry>> {
        match fstatat(&self.fd, name_of_entry(name)?, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(io::Error::from) {
            Ok(stat) => Ok(Some(Entry::of(&stat))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether its file system is mounted read-only.
    pub fn is_read_only(&self) -> io::Result<bool> {
        Ok(fstatvfs(&self.fd)?.flags().contains(FsFlags::ST_RDONLY))
    }

    /// Number of the device of its file system.
    pub fn file_system(&self) -> io::Result<u64> {
        Ok(fstat(&self.fd)?.st_dev)
    }

    /// Free bytes of its file system, those that are reserved for root included.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let facts = fstatvfs(&self.fd)?;
        Ok(facts.blocks_free().saturating_mul(facts.fragment_size()))
    }

    /// Names of all entries, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let handle = self.open_entry(OsStr::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
        let mut names = Vec::new();
        for entry in nix::dir::Dir::from_fd(handle)?.iter() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a directory in this one.
    pub fn open_dir(&self, name: &OsStr) -> io::Result<Self> {
        let fd = self.open_kind(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Kind::Directory)?;
        Ok(Self { fd, path: self.path.join(name), exposure: self.exposure.clone() })
    }

    /// Opens a regular file in this directory; anything else is refused with [`Refusal::WrongKind`].
    pub fn open_file(&self, name: &OsStr, access: Access) -> io::Result<File> {
        let flags = match access {
            Access::Read => OFlag::O_RDONLY,
            Access::ReadWrite => OFlag::O_RDWR,
        };
        Ok(self.open_kind(name, flags, Kind::File)?.into())
    }

    /// Opens an entry only to identify it. Closing the handle, unlike one for reading, keeps the locks of this
    /// process on the file.
    pub fn pin(&self, name: &OsStr) -> io::Result<OwnedFd> {
        self.open_entry(name_of_entry(name)?, OFlag::O_PATH, 0)
    }

    /// Path of the directory now, which may have been moved. Other processes can change it at any moment, so it
    /// is only for messages.
    pub fn current_path(&self) -> PathBuf {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        std::fs::read_link(link).unwrap_or_else(|_| self.path.clone())
    }

    /// Opens a regular file in this directory for writing, and makes it with this mode if it is missing.
    pub fn open_or_make_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        match self.open_file(name, Access::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match self.make_file(name, mode) {
            // Another process created it first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.open_file(name, Access::ReadWrite)
            }
            other => other,
        }
    }

    /// Creates a file with exactly this mode; fails if the name exists.
    pub fn make_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let file = self.make_private_file(name, mode)?;
        set_mode(&file, mode)?;
        Ok(file)
    }

    /// Creates a file with at most the owner's permissions of this mode, to be changed by the caller; fails if the name
    /// exists.
    pub fn make_private_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        temporary::wait_if_ending();
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        Ok(self.open_entry(name_of_entry(name)?, flags, 0o600 & mode)?.into())
    }

    /// Creates a directory; fails if the name exists.
    pub fn make_dir(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        let mut made = self.try_clone()?;
        made.make_and_enter(name, mode)?;
        Ok(made)
    }

    /// Creates a directory and enters it; fails if the name exists.
    pub fn make_and_enter(&mut self, name: &OsStr, mode: u32) -> io::Result<()> {
        temporary::wait_if_ending();
        mkdirat(&self.fd, name_of_entry(name)?, Mode::from_bits_truncate(mode))?;
        self.enter(name)?;
        // Between the two calls another user may have put an existing directory in its place.
        if Entry::of_open(&self)?.uid != Uid::effective().as_raw() || !self.names()?.is_empty() {
            return Err(Refusal::Exchanged.into());
        }
        Ok(())
    }

    /// Enters a directory in this one.
    pub fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        self.fd = self.open_kind(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Kind::Directory)?;
        self.path.push(name);
        Ok(())
    }

    /// Returns to the parent of this directory, which must still have this `id`.
    pub fn leave(&mut self, id: (u64, u64)) -> io::Result<()> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        self.fd = openat2(&self.fd, "..", how)?;
        if Entry::of_open(&self)?.id != id {
            return Err(Refusal::Exchanged.into());
        }
        self.path.pop();
        Ok(())
    }

    /// Opens a directory in this one, and creates it if it is missing.
    pub fn open_or_make_dir(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match mkdirat(&self.fd, name_of_entry(name)?, Mode::from_bits_truncate(mode)).map_err(io::Error::from)
        {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => walk::down(self, name),
        }
    }

    /// Removes an entry that is not a directory. Returns false if it is missing.
    pub fn remove(&self, name: &OsStr) -> io::Result<bool> {
        match unlinkat(&self.fd, name_of_entry(name)?, UnlinkatFlags::NoRemoveDir).map_err(io::Error::from) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives an entry a second name, which must be free.
    pub fn link(&self, name: &OsStr, second: &OsStr) -> io::Result<()> {
        let (name, second) = (name_of_entry(name)?, name_of_entry(second)?);
        Ok(linkat(&self.fd, name, &self.fd, second, AtFlags::empty())?)
    }

    /// Syncs the names in the directory.
    pub fn sync(&self) -> io::Result<()> {
        self.readable()?.sync_all()
    }

    /// Changes the group of the directory itself.
    pub fn set_group(&self, group: Gid) -> io::Result<()> {
        Ok(fchown(self.readable()?, None, Some(group))?)
    }

    /// Opens the directory for reading, to sync it or to set its times.
    pub fn readable(&self) -> io::Result<File> {
        Ok(self.open_entry(OsStr::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?.into())
    }

    fn open_kind(&self, name: &OsStr, flags: OFlag, wanted: Kind) -> io::Result<OwnedFd> {
        let refuse = |found| Err(Refusal::WrongKind { found, wanted }.into());
        // Checked before opening: opening a device can have side effects.
        match self.entry(name)? {
            Some(entry) if entry.kind != wanted => return refuse(entry.kind),
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(_) => {}
        }
        let opened = self.open_entry(name, flags, 0);
        let facts = match &opened {
            Ok(fd) => Some(Entry::of_open(fd)?),
            // Checked again for a precise error: the entry may have been replaced.
            Err(_) => self.entry(name)?,
        };
        match facts {
            Some(entry) if entry.kind != wanted => refuse(entry.kind),
            _ => opened,
        }
    }

    fn open_entry(&self, name: &OsStr, flags: OFlag, mode: u32) -> io::Result<OwnedFd> {
        // Does not block on a FIFO, and a terminal does not become that of this process.
        let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // With `O_PATH` the kernel rejects flags for reading and writing.
        let flags =
            if flags.contains(OFlag::O_PATH) { flags - OFlag::O_NONBLOCK - OFlag::O_NOCTTY } else { flags };
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let how = OpenHow::new().flags(flags).mode(Mode::from_bits_truncate(mode)).resolve(resolve);
        Ok(openat2(&self.fd, name, how)?)
    }
}

fn set_mode(open: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(fchmod(open, Mode::from_bits_truncate(mode))?)
}

/// Every operation is on an entry of the directory itself.
fn name_of_entry(name: &OsStr) -> io::Result<&OsStr> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Refusal::NotAName.into()),
        bytes if bytes.contains(&b'/') => Err(Refusal::NotAName.into()),
        _ => Ok(name),
    }
}

#[cfg(test)]
mod tests;
