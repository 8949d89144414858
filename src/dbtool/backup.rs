//! `backup`: a checked copy of a database, in use or not. In a directory, copies have names with their time, and the
//! oldest of them can be removed.

use super::place::{Place, refused, warn_if_exposed};
use super::table::Table;
use super::text::{count, utc_for_name};
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::Clock;
use crate::dir::{Belongs, Dir, Kind};
use crate::store::{Reader, Room, Site};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Permissions of the copy; the same as of a database.
const MODE: u32 = 0o600;

/// Maximum number of copies in one directory with a name of the same second.
const NUMBER_MAX: u32 = 99;

/// Copies `database` to a new file, or to a new name in a directory, of which the `keep` newest copies stay.
pub(super) fn run(database: &Path, target: &Path, keep: Option<u32>, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(database)?;
    let target = Target::of(target, keep)?;
    let room = Room::new().map_err(|fault| ToolError::Refused(fault.to_string()))?;
    reader
        .copy_to(&room.database(), |done, all| output.progress(&format!("copying: {done} of {all} pages")))?;
    drop(reader);
    let checked = Checked::of(&room.database(), output)?;
    warn_if_exposed(&target.dir, output);
    let name = target.place(&room.database())?;
    let path = target.dir.path().join(&name);
    let removed = match (checked.faults, keep) {
        (0, Some(keep)) => remove_old(&target.dir, &name, keep as usize)?,
        _ => Vec::new(),
    };
    if output.json {
        let removed: Vec<_> = removed.iter().map(|name| name.to_string_lossy()).collect();
        output.json(&json!({
            "backup": path.to_string_lossy(), "version": checked.version, "entries": checked.entries,
            "faults": checked.faults, "removed": removed,
        }))?;
    } else {
        let entries = count(checked.entries, "entry", "entries");
        output.line(&format!("'{}': version {}, {entries}", path.display(), checked.version))?;
        for name in &removed {
            output.line(&format!("removed '{}'", target.dir.path().join(name).display()))?;
        }
    }
    if checked.faults == 0 {
        return Ok(Exit::Good);
    }
    output.complain(&format!(
        "the copy has the faults of the database, {}; no older copy was removed; see 'pmxcfs-db check {}'",
        count(checked.faults, "fault", "faults"),
        path.display()
    ));
    Ok(Exit::Found)
}

/// The copy as it was read back.
struct Checked {
    version: u64,
    entries: usize,
    faults: usize,
}

impl Checked {
    fn of(copy: &Path, output: &mut Output<'_>) -> Result<Self, ToolError> {
        output.progress("checking the copy");
        let reader = Reader::open(copy)?;
        let problems = reader.problems()?.len();
        let table = Table::read(&reader, output)?;
        let audit = table.audit();
        let faults = problems + table.faults(&audit).len();
        Ok(Self { version: audit.tree.version(), entries: table.entries().count(), faults })
    }
}

/// Directory of the copy, and its name if one was given.
struct Target {
    dir: Dir,
    name: Option<OsString>,
}

impl Target {
    fn of(path: &Path, keep: Option<u32>) -> Result<Self, ToolError> {
        // A missing name is that of the file.
        if std::fs::metadata(path).is_ok_and(|found| found.is_dir()) {
            let dir = Dir::open(path).map_err(|error| refused("open", path, &error))?;
            return Ok(Self { dir, name: None });
        }
        if keep.is_some() {
            let text = format!("'{}' is no directory; --keep needs one", path.display());
            return Err(ToolError::Refused(text));
        }
        let Place { dir, name } = Place::of(path)?;
        let target = Self { dir, name: Some(name) };
        // Before the work; the name is checked again when the copy is put there.
        match target.dir.entry(target.name.as_deref().unwrap_or_default()) {
            Ok(None) => Ok(target),
            Ok(Some(_)) => Err(refused("make", path, &io::ErrorKind::AlreadyExists.into())),
            Err(error) => Err(refused("make", path, &error)),
        }
    }

    /// Puts the copy there, never over an existing file. Returns its name.
    fn place(&self, copy: &Path) -> Result<OsString, ToolError> {
        let stem = utc_for_name(Clock::start().unix());
        let mut number = 1;
        loop {
            let name = self.name.clone().unwrap_or_else(|| Stamped { stem: stem.clone(), number }.name());
            let site = self.dir.try_clone().map(|dir| Site::in_dir(dir, name.clone()));
            match site.and_then(|site| free_beside(&site)?.put_if_free(copy, Belongs::to_me(MODE))) {
                Ok(()) => return Ok(name),
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists
                        && self.name.is_none()
                        && number < NUMBER_MAX =>
                {
                    number += 1;
                }
                Err(error) => return Err(refused("make", &self.dir.path().join(name), &error)),
            }
        }
    }
}

/// A log that is left of another file would be applied to the copy.
fn free_beside(site: &Site) -> io::Result<&Site> {
    match site.beside("-wal")?.or(site.beside("-journal")?) {
        None => Ok(site),
        Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

/// Name of a copy in a directory: `config-20261128-231500.db`, and with `-2` and so on for more in that second.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Stamped {
    stem: String,
    number: u32,
}

impl Stamped {
    fn name(&self) -> OsString {
        match self.number {
            1 => format!("config-{}.db", self.stem).into(),
            number => format!("config-{}-{number}.db", self.stem).into(),
        }
    }

    /// `None` for names that are not of this form.
    fn parse(name: &OsStr) -> Option<Self> {
        let inner = name.to_str()?.strip_prefix("config-")?.strip_suffix(".db")?;
        let mut parts = inner.splitn(3, '-');
        let mut digits = |length: usize| {
            parts.next().filter(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let stem = format!("{}-{}", digits(8)?, digits(6)?);
        let number = parts.next().map_or(Some(1), |number| number.parse().ok())?;
        let stamped = Self { stem, number };
        (stamped.name() == name).then_some(stamped)
    }
}

/// Removes all but the newest copies. The new one stays in any case.
fn remove_old(dir: &Dir, new: &OsStr, keep: usize) -> Result<Vec<OsString>, ToolError> {
    let unable = |error: io::Error| refused("remove old copies in", dir.path(), &error);
    let names = dir.names().map_err(unable)?;
    let mut copies: Vec<Stamped> = names.iter().filter_map(|name| Stamped::parse(name)).collect();
    copies.sort();
    let excess = copies.len().saturating_sub(keep);
    let mut removed = Vec::new();
    for name in copies.into_iter().take(excess).map(|copy| copy.name()).filter(|name| name != new) {
        let is_file = dir.entry(&name).map_err(unable)?.is_some_and(|found| found.kind == Kind::File);
        if is_file && dir.remove(&name).map_err(unable)? {
            removed.push(name);
        }
    }
    Ok(removed)
}

/// The database of a node.
pub(super) fn default_database() -> PathBuf {
    crate::options::Paths::below(Path::new("/")).database
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_recognized() {
        for name in
            ["config-20261128-231500.db", "config-20261128-231500-2.db", "config-20261128-231500-10.db"]
        {
            let parsed = Stamped::parse(OsStr::new(name)).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(parsed.name(), name);
        }
        for name in [
            "config.db",
            "config-20261128-231500.db-wal",
            "config-20261128-231500-1.db",
            "config-20261128-231500-02.db",
            "config-20261128-231500-x.db",
            "config-2026112-231500.db",
            "config-20261128-2315001.db",
            "config-20261128.db",
            "config-1795360063.sql.gz",
            "xconfig-20261128-231500.db",
        ] {
            assert_eq!(Stamped::parse(OsStr::new(name)), None, "{name}");
        }
        let at = |number| Stamped { stem: "20261128-231500".to_owned(), number };
        assert!(at(2) < at(10), "by number, not by text");
    }
}
