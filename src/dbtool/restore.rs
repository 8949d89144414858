//! `restore`: puts a copy in the place of a database that no daemon has. A copy is a database, or the text that
//! sqlite3's `.dump` prints, also compressed by gzip. Its rows are checked and written to a new file, so nothing else
//! in the copy gets there. The old files keep all they have, under other names.

mod sql_text;

use super::in_use::keep_daemon_out;
use super::place::{find_database, refused, warn_if_exposed};
use super::table::Table;
use super::text::{count, utc_for_name};
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::Clock;
use crate::dcdb::COROSYNC_CONF;
use crate::dir::{self, Belongs, Kind};
use crate::memdb::{Batch, Row};
use crate::store::{Reader, Room, Site, Store, is_in_use};
use flate2::read::MultiGzDecoder;
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// Mode of the database, as the daemon makes it.
const MODE: u32 = 0o600;

/// Names of the files of a database, after its own name.
const SUFFIXES: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// Form of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Database,
    Text,
    Compressed,
}

impl Form {
    fn word(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Text => "sql",
            Self::Compressed => "sql.gz",
        }
    }
}

pub(super) fn run(database: &Path, copy: &Path, output: &mut Output<'_>) -> Verdict {
    let site = find_database(database)?;
    let _lock = keep_daemon_out(&site)?;
    check_target(&site)?;
    let (table, form) = read(copy, output)?;
    let audit = table.audit();
    if let Some(fault) = table.faults(&audit).first() {
        return Err(ToolError::Refused(format!(
            "'{}' has faults, so nothing was restored: {}{}",
            copy.display(),
            fault.line(&table.places()),
            advice(form, copy)
        )));
    }
    let (version, entries) = (audit.tree.version(), table.entries().count());
    let in_cluster = audit.tree.resolve(COROSYNC_CONF).is_some();
    let room = make(&table.rows, version, output)?;
    warn_if_exposed(site.dir(), output);
    let old = put(&site, &room.database())?;
    let old = old.map(|name| site.dir().path().join(name));
    if output.json {
        output.json(&json!({
            "restored": site.path().to_string_lossy(), "from": form.word(), "version": version,
            "entries": entries, "old": old.map(|path| path.to_string_lossy().into_owned()),
        }))?;
        return Ok(Exit::Good);
    }
    let entries = count(entries, "entry", "entries");
    output.line(&format!("restored '{}': version {version}, {entries}", site.path().display()))?;
    if let Some(old) = old {
        output.line(&format!("the old database is '{}'", old.display()))?;
    }
    if in_cluster {
        output.line(
            "it belongs to a cluster: a member with a higher version replaces it when the daemon joins",
        )?;
    }
    Ok(Exit::Good)
}

fn advice(form: Form, copy: &Path) -> String {
    match form {
        Form::Database => format!("; 'pmxcfs-db repair {}' shows what can be done", copy.display()),
        Form::Text | Form::Compressed => {
            "; make a database of it with sqlite3, and see 'pmxcfs-db repair'".to_owned()
        }
    }
}

/// Refuses a target that another program uses, or that is no file.
fn check_target(site: &Site) -> Result<(), ToolError> {
    let unable = |error: io::Error| refused("look at", site.path(), &error);
    for suffix in SUFFIXES {
        let found = if suffix.is_empty() { site.entry() } else { site.beside(suffix) };
        if let Some(found) = found.map_err(unable)?.filter(|found| found.kind != Kind::File) {
            let path = format!("{}{suffix}", site.path().display());
            return Err(ToolError::Refused(format!("'{path}' is {}; move it away first", found.kind)));
        }
    }
    let is_there = site.entry().map_err(unable)?.is_some();
    if is_there && is_in_use(site).map_err(|fault| ToolError::Refused(fault.to_string()))? {
        let file = site.path().display();
        return Err(ToolError::Refused(format!(
            "'{file}' is in use by another program; find it with 'fuser -v {file}' and stop it first"
        )));
    }
    Ok(())
}

/// Reads all rows of the copy.
fn read(copy: &Path, output: &mut Output<'_>) -> Result<(Table, Form), ToolError> {
    let unable = |error: io::Error| refused("read", copy, &error);
    let mut file = dir::open_file(copy).map_err(unable)?;
    let form = form_of(&mut file).map_err(unable)?;
    let text: Box<dyn Read> = match form {
        Form::Database => return Ok((read_database(copy, output)?, form)),
        Form::Text => Box::new(file),
        Form::Compressed => Box::new(MultiGzDecoder::new(BufReader::new(file))),
    };
    let rows = sql_text::read(text, |rows| output.step("reading rows", rows));
    let mut rows = rows
        .map_err(|error| ToolError::Refused(format!("'{}' cannot be restored: {error}", copy.display())))?;
    rows.sort_by_key(|row| row.inode);
    Ok((Table { rows, row_faults: Vec::new(), damage: None }, form))
}

fn read_database(copy: &Path, output: &mut Output<'_>) -> Result<Table, ToolError> {
    let reader = Reader::open(copy)?;
    output.progress("checking the copy");
    if let Some(problem) = reader.problems()?.into_iter().next() {
        return Err(ToolError::Refused(format!(
            "'{}' is damaged, so nothing was restored: {problem}{}",
            copy.display(),
            advice(Form::Database, copy)
        )));
    }
    Ok(Table::read(&reader, output)?)
}

/// By the first bytes.
fn form_of(file: &mut File) -> io::Result<Form> {
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Form::Compressed,
        [b'P', b'R', b'A', ..] | [b'B', b'E', b'G', ..] => Form::Text,
        _ => Form::Database,
    })
}

/// Writes a new database of these rows.
fn make(rows: &[Row], version: u64, output: &mut Output<'_>) -> Result<Room, ToolError> {
    let room = Room::new().map_err(|fault| ToolError::Refused(fault.to_string()))?;
    output.progress("writing the database");
    let mut store = Store::open(&room.database(), Clock::start().unix())?;
    store.commit(&Batch { version, deleted: Vec::new(), rows: rows.to_vec() })?;
    store.close()?;
    let reader = Reader::open(&room.database())?;
    let new = Table::read(&reader, output)?;
    if !reader.problems()?.is_empty() || new.rows != rows {
        return Err(ToolError::Refused(
            "the new file was not written as it should be; check the disk".to_owned(),
        ));
    }
    Ok(room)
}

/// Puts the new file in place. The old files get other names first, so an interruption leaves the old or the new
/// database, and never one with the log of the other. Returns the name of the old one.
fn put(site: &Site, new: &Path) -> Result<Option<OsString>, ToolError> {
    let (dir, unable) = (site.dir(), |error: io::Error| refused("write to", site.path(), &error));
    let with = |name: &OsString, suffix: &str| {
        let mut name = name.clone();
        name.push(suffix);
        name
    };
    let own = site.name().to_owned();
    let mut old = own.clone();
    old.push(format!(".before-restore-{}", utc_for_name(Clock::start().unix())));
    let mut kept = Vec::new();
    for suffix in SUFFIXES {
        match dir.link(&with(&own, suffix), &with(&old, suffix)) {
            Ok(()) => kept.push(suffix),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = PathBuf::from(with(&old, suffix));
                return Err(refused("keep the old database as", &dir.path().join(path), &error));
            }
        }
    }
    // The names are on the disk before the first of the old ones goes.
    dir.sync().map_err(unable)?;
    for suffix in kept.iter().filter(|suffix| !suffix.is_empty()) {
        dir.remove(&with(&own, suffix)).map_err(unable)?;
    }
    dir.sync().map_err(unable)?;
    match kept.contains(&"") {
        true => site.put(new, Belongs::to_me(MODE)).map_err(unable)?,
        false => site.put_if_free(new, Belongs::to_me(MODE)).map_err(unable)?,
    }
    Ok((!kept.is_empty()).then_some(old))
}
