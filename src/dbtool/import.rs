//! `import`: a new database from a directory tree. Everything is read and checked before anything is written.

use super::in_use::keep_daemon_out;
use super::place::{Draft, refused};
use super::table::Table;
use super::text::{count, escape};
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::{self, Clock};
use crate::fs::plug::Plugs;
use crate::memdb::{
    BLOCKS, Batch, FILES, Inode, KIND_DIRECTORY, KIND_FILE, MAX_FILE_SIZE, ROOT, Row, VERSION_ROW_NAME,
};
use crate::store::{Exclusive, Store};
use serde_json::json;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn run(directory: &Path, file: &Path, output: &mut Output<'_>) -> Verdict {
    let draft = Draft::of(file)?;
    let _lock = keep_daemon_out(draft.target())?;
    let replaces = may_be_replaced(draft.target())?;
    let now = Clock::start().unix();
    let mut import = Import { rows: Vec::new(), skipped: Vec::new() };
    import.directory(directory, ROOT, output)?;
    let entries = import.rows.len();
    let version = entries as u64 + 1;
    let name = VERSION_ROW_NAME.into();
    let root = Row { inode: 0, parent: 0, version, writer: 0, mtime: now, kind: KIND_FILE, name, data: None };
    import.rows.insert(0, root);
    let table = Table { rows: import.rows, row_faults: Vec::new(), damage: None };
    check(&table, directory)?;

    let mut store = Store::open(draft.path(), now)?;
    output.progress("writing the database");
    store.commit(&Batch { version, deleted: Vec::new(), rows: table.rows })?;
    store.close()?;
    if replaces {
        draft.take_place()?;
    } else {
        draft.take_free_place()?;
    }
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
fn may_be_replaced(file: &Path) -> Result<bool, ToolError> {
    let refuse = |what: &str| {
        let file = file.display();
        Err(ToolError::Refused(format!("'{file}' {what}; move it away, or name a file that is not there")))
    };
    for suffix in ["-wal", "-journal"] {
        let mut left = file.as_os_str().to_owned();
        left.push(suffix);
        if fs::metadata(&left).is_ok_and(|metadata| metadata.len() > 0) {
            let left = Path::new(&left).display();
            return Err(ToolError::Refused(format!(
                "'{left}' is left of another database; move it away first"
            )));
        }
    }
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(refused("look at", file, &error)),
        Ok(metadata) if !metadata.is_file() => return refuse("is there and is no file"),
        Ok(metadata) if metadata.len() == 0 => return Ok(true),
        Ok(_) => {}
    }
    let mut entries = 0;
    Exclusive::open(file)?.reader().rows(|row| entries += usize::from(row.row.inode != ROOT))?;
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
    let usage = audit.tree.usage();
    if usage.blocks > BLOCKS || usage.entries > FILES {
        let (blocks, entries) = (usage.blocks, usage.entries);
        return refuse(format!("{blocks} blocks and {entries} entries are more than {BLOCKS} and {FILES}"));
    }
    Ok(())
}

struct Import {
    rows: Vec<Row>,
    skipped: Vec<OsString>,
}

impl Import {
    /// Everything in a directory, in the order of names, directories before what is in them.
    fn directory(&mut self, path: &Path, inode: Inode, output: &mut Output<'_>) -> Result<(), ToolError> {
        let unreadable = |error: io::Error| refused("read directory", path, &error);
        let entries = fs::read_dir(path).map_err(unreadable)?;
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>();
        let mut names = names.map_err(unreadable)?;
        names.sort();
        for name in names {
            self.entry(path.join(&name), name, inode, output)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: PathBuf,
        name: OsString,
        parent: Inode,
        output: &mut Output<'_>,
    ) -> Result<(), ToolError> {
        let metadata = fs::symlink_metadata(&path).map_err(|error| refused("look at", &path, &error))?;
        if parent == ROOT && is_generated(&name, &metadata) {
            self.skipped.push(name);
            return Ok(());
        }
        let (kind, data) = match metadata.file_type() {
            kind if kind.is_dir() => (KIND_DIRECTORY, None),
            kind if kind.is_file() => (KIND_FILE, contents(&path, &metadata)?),
            _ => {
                let text =
                    "is neither a file nor a directory, and nothing else can be in a database; remove it";
                return Err(ToolError::Refused(format!("'{}' {text}", path.display())));
            }
        };
        let inode = self.rows.len() as u64 + 2;
        let modified = metadata.modified().map_err(|error| refused("get the time of", &path, &error))?;
        let (version, writer, mtime) = (inode, 0, clock::from_system(modified));
        let name = name.as_bytes().into();
        self.rows.push(Row { inode, parent, version, writer, mtime, kind, name, data });
        output.step("reading files", inode);
        if kind == KIND_DIRECTORY { self.directory(&path, inode, output) } else { Ok(()) }
    }
}

/// What a copy of a mounted tree has in it that is in no database.
fn is_generated(name: &OsString, metadata: &Metadata) -> bool {
    let plugs = Plugs::new("");
    let found = plugs.find(name.as_bytes());
    found.is_some_and(|(_, plug)| match plug.target() {
        Ok(_) => metadata.is_symlink(),
        Err(_) => metadata.is_file(),
    })
}

fn contents(path: &Path, metadata: &Metadata) -> Result<Option<Arc<Vec<u8>>>, ToolError> {
    let too_large = |size: u64| {
        let path = path.display();
        Err(ToolError::Refused(format!(
            "'{path}' has {size} bytes; a file can hold {MAX_FILE_SIZE}, make it smaller"
        )))
    };
    // Before it is read: it may be very large.
    if metadata.len() > MAX_FILE_SIZE {
        return too_large(metadata.len());
    }
    let data = fs::read(path).map_err(|error| refused("read", path, &error))?;
    if data.len() as u64 > MAX_FILE_SIZE {
        return too_large(data.len() as u64);
    }
    Ok((!data.is_empty()).then(|| Arc::new(data)))
}
