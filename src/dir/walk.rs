//! Resolution of a path, component by component, with its exposure to other users.

use super::{Dir, Entry, Exposure, Kind, Refusal};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::{Gid, Uid};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Most symbolic links followed in one path, as in the kernel.
const LINKS_MAX: u32 = 40;

/// Opens the directory at `path`.
pub(super) fn to_directory(path: &Path) -> io::Result<Dir> {
    let mut walk = Walk::from_root(path)?;
    while let Some(component) = walk.rest.pop() {
        walk.step(&component)?;
    }
    Ok(walk.dir)
}

/// Opens the directory of the last component of `path`.
pub(super) fn to_entry(path: &Path, follow: bool) -> io::Result<(Dir, OsString)> {
    let mut walk = Walk::from_root(path)?;
    loop {
        let component = walk.rest.pop().unwrap_or_else(|| "/".into());
        let is_last = walk.rest.is_empty();
        if is_last && matches!(component.as_encoded_bytes(), b"/" | b"..") {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !is_last {
            walk.step(&component)?;
            continue;
        }
        match walk.dir.entry(&component)? {
            Some(Entry { kind: Kind::Link, .. }) if follow => walk.step(&component)?,
            _ => return Ok((walk.dir, component)),
        }
    }
}

/// Opens the directory `name` in `parent`, and adds its exposure.
pub(super) fn down(parent: &Dir, name: &OsStr) -> io::Result<Dir> {
    let below = parent.open_dir(name)?;
    let mut exposure = parent.exposure.clone();
    exposure.pass(&fstat(&below.fd)?, &below.path, &trusted_users()?);
    Ok(Dir { exposure, ..below })
}

impl Exposure {
    /// Adds the exposure of one more directory on the path.
    fn pass(&mut self, stat: &FileStat, path: &Path, trusted: &[Uid]) {
        let write = Write::of_others(stat, trusted);
        self.added_to = write != Write::Nothing;
        if write == Write::Everything && self.renamed_in.is_none() {
            self.renamed_in = Some(path.to_owned());
        }
    }
}

/// Permissions of untrusted users in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Nothing,
    /// Add entries, and remove their own, as in `/tmp`.
    Add,
    Everything,
}

impl Write {
    fn of_others(stat: &FileStat, trusted: &[Uid]) -> Self {
        let mode = Mode::from_bits_truncate(stat.st_mode);
        if !trusted.contains(&Uid::from_raw(stat.st_uid)) {
            return Self::Everything;
        }
        // A user's private group has no other members. For root no group counts as private: with an access
        // control list these bits are the mask of all its users.
        let is_own_group = !Uid::effective().is_root() && Gid::from_raw(stat.st_gid) == Gid::effective();
        let by_group = mode.contains(Mode::S_IWGRP) && !is_own_group;
        match by_group || mode.contains(Mode::S_IWOTH) {
            false => Self::Nothing,
            true if mode.contains(Mode::S_ISVTX) => Self::Add,
            true => Self::Everything,
        }
    }
}

/// Trusted users: root, the user of this process, and the owner of `/`. The last one is root as it appears in
/// a user namespace that does not map root.
fn trusted_users() -> io::Result<[Uid; 3]> {
    let root = fstat(open(AT_FDCWD, OsStr::new("/"))?)?;
    Ok([Uid::from_raw(0), Uid::effective(), Uid::from_raw(root.st_uid)])
}

fn open(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC);
    Ok(openat2(dir, name, how)?)
}

struct Walk {
    dir: Dir,
    /// Remaining components, the next one last.
    rest: Vec<OsString>,
    links: u32,
    trusted: [Uid; 3],
}

impl Walk {
    fn from_root(path: &Path) -> io::Result<Self> {
        let fd = open(AT_FDCWD, OsStr::new("/"))?;
        let dir = Dir { fd, path: PathBuf::new(), exposure: Exposure::default() };
        let mut walk = Self { dir, rest: Vec::new(), links: 0, trusted: trusted_users()? };
        walk.restart()?;
        walk.push(&std::path::absolute(path)?);
        Ok(walk)
    }

    fn restart(&mut self) -> io::Result<()> {
        let fd = open(AT_FDCWD, OsStr::new("/"))?;
        self.arrive(fd, PathBuf::from("/"))
    }

    fn push(&mut self, path: &Path) {
        let names = path.components().rev().filter_map(|component| match component {
            Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
            _ => None,
        });
        self.rest.extend(names);
    }

    fn arrive(&mut self, fd: OwnedFd, path: PathBuf) -> io::Result<()> {
        let mut exposure = std::mem::take(&mut self.dir.exposure);
        exposure.pass(&fstat(&fd)?, &path, &self.trusted);
        self.dir = Dir { fd, path, exposure };
        Ok(())
    }

    fn step(&mut self, component: &OsStr) -> io::Result<()> {
        let fd = open(&self.dir.fd, component)?;
        if component == ".." {
            let path = self.dir.path.parent().unwrap_or(&self.dir.path).to_owned();
            return self.arrive(fd, path);
        }
        let stat = fstat(&fd)?;
        match Entry::of(&stat).kind {
            Kind::Directory => self.arrive(fd, self.dir.path.join(component)),
            Kind::Link => self.follow(component, &fd, &stat),
            found => Err(Refusal::WrongKind { found, wanted: Kind::Directory }.into()),
        }
    }

    fn follow(&mut self, name: &OsStr, link: &OwnedFd, stat: &FileStat) -> io::Result<()> {
        let path = self.dir.path.join(name);
        let is_ours = self.trusted.contains(&Uid::from_raw(stat.st_uid));
        match Write::of_others(&fstat(&self.dir.fd)?, &self.trusted) {
            Write::Nothing => {}
            Write::Add if is_ours => {}
            _ => return Err(Refusal::ForeignLink { link: path }.into()),
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(io::Error::other(format!(
                "too many symbolic links on the way to '{}'",
                path.display()
            )));
        }
        // Reads the link that was judged, by its descriptor.
        let target = PathBuf::from(readlinkat(link, "")?);
        self.push(&target);
        if target.is_absolute() { self.restart() } else { Ok(()) }
    }
}
