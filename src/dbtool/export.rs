//! `export`: a directory tree from a database, with the modes and times of the mounted tree.

use super::place::{Draft, refused};
use super::table::Table;
use super::text::count;
use super::{Exit, Output, ToolError, Verdict};
use crate::clock;
use crate::fs::mode;
use crate::memdb::{Entry, Finding, MemDb};
use crate::store::Reader;
use nix::unistd::{Gid, Group, Uid};
use serde_json::json;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// While it is made nobody else may look.
const MODE_AT_FIRST: u32 = 0o700;

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
    let draft = Draft::of(directory)?;
    let mut export = Export { tree: &audit.tree, group: group_of_tree(), files: 0, directories: 0 };
    export.directory(audit.tree.root(), draft.path(), output)?;
    draft.take_place()?;
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
    let mut entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let text = format!("'{}' is there and is no directory; name another", directory.display());
            return Err(ToolError::Refused(text));
        }
        Err(error) => return Err(refused("look into", directory, &error)),
    };
    if entries.next().is_some() {
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

impl Export<'_> {
    fn directory(&mut self, dir: &Entry, path: &Path, output: &mut Output<'_>) -> Result<(), ToolError> {
        let mut made = DirBuilder::new();
        made.mode(MODE_AT_FIRST).create(path).map_err(|error| refused("make", path, &error))?;
        for child in self.tree.children_of(dir) {
            let path = path.join(OsStr::from_bytes(&child.name));
            if child.is_dir() {
                self.directories += 1;
                self.directory(child, &path, output)?;
            } else {
                self.files += 1;
                self.file(child, &path)?;
            }
            output.step("writing", (self.files + self.directories) as u64);
        }
        // At last, as each entry in it sets its time. That of the root is no entry's.
        let handle = File::open(path).map_err(|error| refused("open", path, &error))?;
        let bits = mode::directory(mode::is_private(self.tree, dir), true);
        self.finish(&handle, path, bits, dir)
    }

    fn file(&self, file: &Entry, path: &PathBuf) -> Result<(), ToolError> {
        let write = || -> io::Result<File> {
            let mut handle = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            handle.write_all(file.content().map_or(&[], |content| content.as_slice()))?;
            Ok(handle)
        };
        let handle = write().map_err(|error| refused("write", path, &error))?;
        self.finish(&handle, path, mode::file(mode::class_of(self.tree, file), true), file)
    }

    /// Owner, mode and time.
    fn finish(&self, handle: &File, path: &Path, bits: u16, entry: &Entry) -> Result<(), ToolError> {
        let set = || -> io::Result<()> {
            let mut bits = u32::from(bits);
            match self.group {
                Some(group) => std::os::unix::fs::fchown(handle, None, Some(group.as_raw()))?,
                None if !entry.is_dir() => bits &= 0o700,
                None => {}
            }
            handle.set_permissions(Permissions::from_mode(bits))?;
            handle.set_modified(clock::to_system(entry.mtime))
        };
        set().map_err(|error| refused("set mode and time of", path, &error))
    }
}
