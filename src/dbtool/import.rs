//! `import`: a new database from a directory tree. Everything is read and checked before anything is written.

use super::in_use::keep_daemon_out;
use super::place::{Place, refused, warn_if_exposed};
use super::table::Table;
use super::text::{count, escape};
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::{self, Clock};
use crate::dir::{Access, Belongs, Dir, Entry as Found, Kind};
use crate::fs::plug::Plugs;
use crate::memdb::{
    BLOCK_SIZE, BLOCKS, Batch, FILES, Inode, KIND_DIRECTORY, KIND_FILE, MAX_FILE_SIZE, ROOT, Row,
    VERSION_ROW_NAME,
};
use crate::store::{Exclusive, Room, Site, Store};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Mode of a new database, as the daemon makes it.
const MODE: u32 = 0o600;

pub(super) fn run(directory: &Path, file: &Path, output: &mut Output<'_>) -> Verdict {
    let place = Place::of(file)?;
    let site = Site::in_dir(place.dir, place.name);
    let _lock = keep_daemon_out(&site)?;
    let replaces = may_be_replaced(&site)?;
    let now = Clock::start().unix();
    let mut import = Import { rows: Vec::new(), skipped: Vec::new(), bytes: 0 };
    let opened = Dir::open(directory);
    import.all(&mut opened.map_err(|error| refused("read directory", directory, &error))?, output)?;
    let entries = import.rows.len();
    let version = entries as u64 + 1;
    let name = VERSION_ROW_NAME.into();
    let root = Row { inode: 0, parent: 0, version, writer: 0, mtime: now, kind: KIND_FILE, name, data: None };
    import.rows.insert(0, root);
    let table = Table { rows: import.rows, row_faults: Vec::new(), damage: None };
    check(&table, directory)?;

    warn_if_exposed(site.dir(), output);
    let room = Room::new().map_err(|fault| ToolError::Refused(fault.to_string()))?;
    let mut store = Store::open(&room.database(), now)?;
    output.progress("writing the database");
    store.commit(&Batch { version, deleted: Vec::new(), rows: table.rows })?;
    store.close()?;
    let belongs = Belongs::to_me(MODE);
    let placed = match replaces {
        true => site.put(&room.database(), belongs),
        false => site.put_if_free(&room.database(), belongs),
    };
    placed.map_err(|error| refused("make", site.path(), &error))?;
    if output.json {
        let skipped: Vec<String> = import.skipped.iter().map(|name| escape(name.as_bytes())).collect();
        output.json(&json!({ "entries": entries, "version": version, "skipped": skipped }))?;
        return Ok(Exit::Good);
    }
    for name in &import.skipped {
        output.line(&format!("left out: '{}', which the daemon makes itself", escape(name.as_bytes())))?;
    }
    output.line(&format!("{} in '{}'", count(entries, "entry is", "entries are"), file.display()))?;
    Ok(Exit::Good)
}

/// Whether there is a database with nothing in it. Anything else must not be there, nor a log of one.
fn may_be_replaced(site: &Site) -> Result<bool, ToolError> {
    let file = site.path();
    let unable = |error: io::Error| refused("look at", file, &error);
    let refuse = |what: &str| {
        let file = file.display();
        Err(ToolError::Refused(format!("'{file}' {what}; move it away, or name a file that is not there")))
    };
    for suffix in ["-wal", "-journal"] {
        let left = site.beside(suffix).map_err(unable)?;
        if left.is_some_and(|left| left.kind != Kind::File || left.bytes > 0) {
            let left = format!("{}{suffix}", file.display());
            return Err(ToolError::Refused(format!(
                "'{left}' is left of another database; move it away first"
            )));
        }
    }
    match site.entry().map_err(unable)? {
        None => return Ok(false),
        Some(found) if found.kind != Kind::File => return refuse("is there and is no file"),
        Some(found) if found.bytes == 0 => return Ok(true),
        Some(_) => {}
    }
    let mut entries = 0;
    Exclusive::open(site)?.reader().rows(|row| entries += usize::from(row.row.inode != ROOT))?;
    if entries > 0 {
        refuse(&format!("is a database with {}", count(entries, "entry", "entries")))
    } else {
        Ok(true)
    }
}

/// The rules of the tree, and the limits that the daemon keeps.
fn check(table: &Table, directory: &Path) -> Result<(), ToolError> {
    let refuse = |what: String| Err(ToolError::Refused(format!("'{}': {what}", directory.display())));
    let audit = table.audit();
    if let Some(fault) = table.faults(&audit).first() {
        return refuse(fault.line(&table.places()));
    }
    Ok(())
}

struct Import {
    rows: Vec<Row>,
    skipped: Vec<OsString>,
    /// Sum of all file sizes.
    bytes: u64,
}

/// A directory while it is read.
struct Level {
    inode: Inode,
    id: (u64, u64),
    names: std::vec::IntoIter<OsString>,
}

impl Level {
    fn of(dir: &Dir, inode: Inode) -> Result<Self, ToolError> {
        let read = || Ok(Self { inode, id: Found::of_open(dir)?.id, names: dir.names()?.into_iter() });
        read().map_err(|error: io::Error| refused("read directory", dir.path(), &error))
    }
}

impl Import {
    /// Reads everything in a directory, by name, each directory before its contents. The tree may be deep, so
    /// there is no recursion, and only one directory is open at a time.
    fn all(&mut self, dir: &mut Dir, output: &mut Output<'_>) -> Result<(), ToolError> {
        let mut levels = vec![Level::of(dir, ROOT)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                if let Some(parent) = levels.last() {
                    dir.leave(parent.id).map_err(|error| refused("leave", dir.path(), &error))?;
                }
                continue;
            };
            let parent = level.inode;
            let is_directory = self.entry(dir, name, parent);
            if is_directory? {
                levels.push(Level::of(dir, self.rows.len() as u64 + 1)?);
            }
            output.step("reading files", self.rows.len() as u64 + 1);
        }
        Ok(())
    }

    /// Reads an entry. Returns true if it is a directory; `dir` is then that directory.
    fn entry(&mut self, dir: &mut Dir, name: OsString, parent: Inode) -> Result<bool, ToolError> {
        let found = dir.entry(&name).and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()));
        let found = found.map_err(|error| refused("look at", &dir.path().join(&name), &error))?;
        if parent == ROOT && is_generated(&name, found.kind) {
            self.skipped.push(name);
            return Ok(false);
        }
        let (kind, modified, data) = match found.kind {
            Kind::Directory => {
                let enter = dir.enter(&name).and_then(|()| dir.readable()?.metadata()?.modified());
                let modified = enter.map_err(|error| refused("read directory", dir.path(), &error))?;
                (KIND_DIRECTORY, modified, None)
            }
            Kind::File => {
                let (modified, data) = contents(dir, &name)?;
                self.bytes += data.as_ref().map_or(0, |data| data.len() as u64);
                (KIND_FILE, modified, data)
            }
            _ => {
                let path = dir.path().join(&name);
                let text =
                    "is neither a file nor a directory, and nothing else can be in a database; remove it";
                return Err(ToolError::Refused(format!("'{}' {text}", path.display())));
            }
        };
        let inode = self.rows.len() as u64 + 2;
        let (version, writer, mtime) = (inode, 0, clock::from_system(modified));
        let name = name.as_bytes().into();
        self.rows.push(Row { inode, parent, version, writer, mtime, kind, name, data });
        self.check_space(dir)?;
        Ok(kind == KIND_DIRECTORY)
    }

    /// Checks the limits of the daemon while files are read: sparse files of another user would exhaust the memory.
    fn check_space(&self, dir: &Dir) -> Result<(), ToolError> {
        // The root is an entry, too.
        let (blocks, entries) = (self.bytes.div_ceil(BLOCK_SIZE), self.rows.len() as u64 + 1);
        if blocks <= BLOCKS && entries <= FILES {
            return Ok(());
        }
        let limits =
            format!("a database holds at most {BLOCKS} blocks of {BLOCK_SIZE} bytes and {FILES} entries");
        Err(ToolError::Refused(format!(
            "'{}': the files read so far have {blocks} blocks and {entries} entries; {limits}, remove what is not \
             needed",
            dir.path().display()
        )))
    }
}

/// What a copy of a mounted tree has in it that is in no database.
fn is_generated(name: &OsString, kind: Kind) -> bool {
    let plugs = Plugs::new("");
    let found = plugs.find(name.as_bytes());
    found.is_some_and(|(_, plug)| match plug.target() {
        Ok(_) => kind == Kind::Link,
        Err(_) => kind == Kind::File,
    })
}

type Contents = Option<Arc<Vec<u8>>>;

/// Reads time and contents of a file.
fn contents(dir: &Dir, name: &OsStr) -> Result<(SystemTime, Contents), ToolError> {
    let fail = |action, error: io::Error| refused(action, &dir.path().join(name), &error);
    let check = |size: u64| match size <= MAX_FILE_SIZE {
        true => Ok(()),
        false => Err(ToolError::Refused(format!(
            "'{}' has {size} bytes; a file can hold {MAX_FILE_SIZE}, make it smaller",
            dir.path().join(name).display()
        ))),
    };
    let file = dir.open_file(name, Access::Read).map_err(|error| fail("read", error))?;
    let metadata = file.metadata().map_err(|error| fail("look at", error))?;
    let modified = metadata.modified().map_err(|error| fail("get the time of", error))?;
    // Before it is read: it may be very large.
    check(metadata.len())?;
    let mut data = Vec::with_capacity(metadata.len() as usize);
    // The file may grow meanwhile.
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut data).map_err(|error| fail("read", error))?;
    check(data.len() as u64)?;
    Ok((modified, (!data.is_empty()).then(|| Arc::new(data))))
}
