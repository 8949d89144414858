//! A new file or directory under a temporary name beside its final one, so that incomplete contents are never
//! visible there. It is removed unless it is moved to the final name, also if a signal ends a tool.

use super::temporary::{self, Temporary};
use super::{Dir, Entry, Kind, Refusal, set_mode};
use nix::fcntl::{AtFlags, renameat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Number of names to try for a draft.
const TRIES: u32 = 100;

/// Counter for the names of drafts of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Owner and mode of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belongs {
    /// `None` for user and group of this process.
    pub owner: Option<(u32, u32)>,
    /// Permission bits.
    pub mode: u32,
}

impl Belongs {
    /// Owned by the user of this process.
    pub fn to_me(mode: u32) -> Self {
        Self { owner: None, mode }
    }

    /// Owner and mode of an existing file.
    pub fn as_file(other: &Metadata) -> Self {
        Self { owner: Some((other.uid(), other.gid())), mode: other.mode() & 0o777 }
    }

    fn apply(self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        if let Some((uid, gid)) = self.owner.filter(|owner| *owner != (metadata.uid(), metadata.gid())) {
            fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        set_mode(file, self.mode)
    }
}

/// A file or directory that has no final name yet.
#[derive(Debug)]
pub struct Draft<Made: AsFd> {
    dir: Dir,
    name: OsString,
    target: OsString,
    made: Made,
    /// Dropped after the removal of the draft.
    _temporary: Temporary,
}

impl Dir {
    /// A draft of the file `target` in this directory: empty, with owner and mode set.
    pub fn draft_file(&self, target: &OsStr, belongs: Belongs) -> io::Result<Draft<File>> {
        let draft = self.draft(target, |name| self.make_file(name, 0o600))?;
        belongs.apply(&draft.made)?;
        Ok(draft)
    }

    /// A draft of the directory `target` in this directory. Only its owner has permissions.
    pub fn draft_dir(&self, target: &OsStr) -> io::Result<Draft<Dir>> {
        self.draft(target, |name| self.make_dir(name, 0o700))
    }

    fn draft<Made: AsFd>(
        &self,
        target: &OsStr,
        make: impl Fn(&OsStr) -> io::Result<Made>,
    ) -> io::Result<Draft<Made>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut name = OsString::from(".");
            name.push(target);
            name.push(format!(".new-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
            let removal = |made: &Made| -> io::Result<temporary::Removal> {
                let (dir, name, made) = (self.try_clone()?, name.clone(), made.as_fd().try_clone_to_owned()?);
                Ok(Box::new(move || discard(&dir, &name, &made)))
            };
            match temporary::make(|| make(&name), removal) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => {}
                made => {
                    let (made, temporary) = made?;
                    let (dir, target) = (self.try_clone()?, target.to_owned());
                    return Ok(Draft { dir, name, target, made, _temporary: temporary });
                }
            }
        }
    }

    /// Replaces a file by one with these contents. A reader sees the old or the new file, also after a power
    /// failure.
    pub fn replace_file(&self, name: &OsStr, belongs: Belongs, contents: &[u8]) -> io::Result<()> {
        let draft = self.draft_file(name, belongs)?;
        io::Write::write_all(&mut draft.made(), contents)?;
        draft.made().sync_all()?;
        draft.replace()
    }
}

impl<Made: AsFd> Draft<Made> {
    /// The open file or directory.
    pub fn made(&self) -> &Made {
        &self.made
    }

    /// Moves the draft to its final name and replaces an existing entry. The caller has synced the contents.
    pub fn replace(self) -> io::Result<()> {
        renameat(&self.dir.fd, &*self.name, &self.dir.fd, &*self.target)?;
        self.check_and_sync()
    }

    /// Moves a file to its final name; fails if that exists.
    pub fn place_if_free(self) -> io::Result<()> {
        linkat(&self.dir.fd, &*self.name, &self.dir.fd, &*self.target, AtFlags::empty())?;
        // Dropping the draft removes its temporary name.
        self.check_and_sync()
    }

    fn check_and_sync(&self) -> io::Result<()> {
        if !is_at(&self.dir, &self.target, &self.made)? {
            return Err(Refusal::Exchanged.into());
        }
        // The contents are synced; a power failure can only lose the name.
        let _ = self.dir.readable().and_then(|dir| dir.sync_all());
        Ok(())
    }
}

impl<Made: AsFd> Drop for Draft<Made> {
    fn drop(&mut self) {
        // Leftovers under a temporary name are harmless.
        let _ = discard(&self.dir, &self.name, &self.made);
    }
}

/// Returns true if the entry `name` is this open file or directory.
fn is_at(dir: &Dir, name: &OsStr, made: impl AsFd) -> io::Result<bool> {
    let own = Entry::of_open(made)?;
    Ok(dir.entry(name)?.is_some_and(|entry| entry.id == own.id))
}

fn discard(dir: &Dir, name: &OsStr, made: impl AsFd) -> io::Result<()> {
    // Another process may have replaced it. Then the entry is not this draft, and is kept.
    if !is_at(dir, name, &made)? {
        return Ok(());
    }
    let flag = match Entry::of_open(&made)?.kind {
        Kind::Directory => {
            empty(&made)?;
            UnlinkatFlags::RemoveDir
        }
        _ => UnlinkatFlags::NoRemoveDir,
    };
    Ok(unlinkat(&dir.fd, name, flag)?)
}

/// Removes everything in a directory, by descriptor: its path may lead elsewhere by now.
fn empty(directory: impl AsFd) -> io::Result<()> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    for entry in std::fs::read_dir(&path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
