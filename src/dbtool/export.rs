//! `export`: a directory tree from a database, with the modes and times of the mounted tree.

use super::place::{Place, refused};
use super::table::Table;
use super::text::count;
use super::{Exit, Output, ToolError, Verdict};
use crate::clock;
use crate::dir::{Dir, Entry as Found};
use crate::fs::mode;
use crate::memdb::{Entry, Finding, MemDb};
use crate::store::Reader;
use nix::unistd::{Gid, Group, Uid};
use serde_json::json;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) fn run(file: &Path, directory: &Path, output: &mut Output<'_>) -> Verdict {
    let table = Table::read(&Reader::open(file)?, output)?;
    let audit = table.audit();
    let is_refused = |finding: &&Finding| matches!(finding, Finding::Refused(_));
    let first = table.damage.clone().or_else(|| Some(table.row_faults.first()?.1.to_string()));
    if let Some(fault) = first.or_else(|| audit.findings.iter().find(is_refused).map(Finding::to_string)) {
        let file = file.display();
        let text =
            format!("'{file}' is not sound, see what 'pmxcfs-db repair {file}' would do first: {fault}");
        return Err(ToolError::Refused(text));
    }
    check_is_free(directory)?;
    let place = Place::of(directory)?;
    place.warn_if_exposed(output);
    let unable = |error: io::Error| refused("make", directory, &error);
    let draft = place.dir.draft_dir(&place.name).map_err(unable)?;
    let mut export = Export { tree: &audit.tree, group: group_of_tree(), files: 0, directories: 0 };
    let mut dir = draft.made().try_clone().map_err(unable)?;
    export.all(&mut dir, output)?;
    draft.replace().map_err(unable)?;
    let (files, directories) = (export.files, export.directories);
    if output.json {
        output.json(&json!({ "files": files, "directories": directories }))?;
    } else {
        let (files, directories) =
            (count(files, "file", "files"), count(directories, "directory", "directories"));
        output.line(&format!("{files} and {directories} are in '{}'", directory.display()))?;
    }
    Ok(Exit::Good)
}

/// There must be nothing, or a directory with nothing in it.
fn check_is_free(directory: &Path) -> Result<(), ToolError> {
    let entries = match Dir::open(directory).and_then(|dir| dir.names()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let text = format!("'{}' is there and is no directory; name another", directory.display());
            return Err(ToolError::Refused(text));
        }
        Err(error) => return Err(refused("look into", directory, &error)),
    };
    if !entries.is_empty() {
        let text =
            format!("'{}' is not empty; name a directory that is, or is not there", directory.display());
        return Err(ToolError::Refused(text));
    }
    Ok(())
}

/// The group that the mounted tree belongs to. Only root can give files to it.
fn group_of_tree() -> Option<Gid> {
    let group = || Group::from_name("www-data").ok().flatten().map(|group| group.gid);
    Uid::effective().is_root().then(group).flatten()
}

struct Export<'a> {
    tree: &'a MemDb,
    /// None when files stay with who makes them; then they are for no group.
    group: Option<Gid>,
    files: usize,
    directories: usize,
}

/// Directory mode while it is filled: only its owner has permissions.
const MODE_AT_FIRST: u32 = 0o700;

impl Export<'_> {
    /// Fills `dir`. The tree may be deep, so there is no recursion, and only one directory is open at a time.
    fn all(&mut self, dir: &mut Dir, output: &mut Output<'_>) -> Result<(), ToolError> {
        let tree = self.tree;
        let level = |entry, dir: &Dir| {
            let id = Found::of_open(dir).map_err(|error| refused("look at", dir.path(), &error))?.id;
            Ok::<_, ToolError>((entry, id, tree.children_of(entry)))
        };
        let mut levels = vec![level(tree.root(), dir)?];
        while let Some((entry, _, children)) = levels.last_mut() {
            match children.next() {
                Some(child) if child.is_dir() => {
                    self.directories += 1;
                    let name = OsStr::from_bytes(&child.name);
                    let made = dir.make_and_enter(name, MODE_AT_FIRST);
                    made.map_err(|error| refused("make", &dir.path().join(name), &error))?;
                    levels.push(level(child, dir)?);
                }
                Some(child) => {
                    self.files += 1;
                    self.file(child, dir)?;
                }
                None => {
                    self.finish_directory(entry, dir)?;
                    levels.pop();
                    if let Some((_, parent, _)) = levels.last() {
                        dir.leave(*parent).map_err(|error| refused("leave", dir.path(), &error))?;
                    }
                }
            }
            output.step("writing", (self.files + self.directories) as u64);
        }
        Ok(())
    }

    fn file(&self, file: &Entry, dir: &Dir) -> Result<(), ToolError> {
        let bits = match self.group {
            Some(_) => mode::file(mode::class_of(file), true),
            None => mode::file(mode::class_of(file), true) & 0o700,
        };
        let name = OsStr::from_bytes(&file.name);
        let write = || -> io::Result<()> {
            let mut handle = dir.make_private_file(name, 0o600)?;
            self.give(&handle, bits)?;
            handle.write_all(file.content().map_or(&[], |content| content.as_slice()))?;
            handle.set_modified(clock::to_system(file.mtime))
        };
        write().map_err(|error| refused("write", &dir.path().join(name), &error))
    }

    /// Sets group, mode and time of a directory. Call this after its entries were made, which changes the
    /// time. The root has no entry for its time.
    fn finish_directory(&self, entry: &Entry, dir: &Dir) -> Result<(), ToolError> {
        let set = || -> io::Result<()> {
            let handle = dir.readable()?;
            self.give(&handle, mode::directory(entry.is_private(), true))?;
            handle.set_modified(clock::to_system(entry.mtime))
        };
        set().map_err(|error| refused("set mode and time of", dir.path(), &error))
    }

    /// Sets group and mode.
    fn give(&self, handle: &File, bits: u16) -> io::Result<()> {
        if let Some(group) = self.group {
            std::os::unix::fs::fchown(handle, None, Some(group.as_raw()))?;
        }
        handle.set_permissions(Permissions::from_mode(bits.into()))
    }
}
