//! `compact`: writes a database anew with small pages. A small change rewrites whole pages, and stock makes
//! large ones; nothing else in the database changes.

use super::in_use::keep_daemon_out;
use super::place::{find_database, warn_if_exposed};
use super::table::Table;
use super::text::count;
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::Clock;
use crate::store::{Exclusive, FileFacts, Log, PAGE_BYTES, Reader, Room, Store};
use serde_json::json;
use std::path::Path;

pub(super) fn run(file: &Path, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(file)?;
    let before = reader.facts()?;
    drop(reader);
    let site = find_database(file)?;
    let _lock = keep_daemon_out(&site)?;
    let database = Exclusive::open(&site)?;
    output.progress("checking the file");
    if let Some(problem) = database.reader().problems()?.into_iter().next() {
        let file = site.path().display();
        return Err(ToolError::Refused(format!(
            "'{file}' is damaged, repair or restore it first: {problem}"
        )));
    }
    warn_if_exposed(site.dir(), output);
    output.progress("writing the file anew");
    let room = Room::new().map_err(|fault| ToolError::Refused(fault.to_string()))?;
    let after = write(&database, &room.database(), output)?;
    database.replace(&room.database(), Log::Merge)?;
    if output.json {
        output.json(&json!({
            "bytes_before": before.bytes, "bytes": after.bytes,
            "page_size_before": before.page_size, "page_size": after.page_size,
        }))?;
    } else {
        let pages = |facts: &FileFacts| {
            let pages = count(facts.pages as usize, "page", "pages");
            format!("{} bytes in {pages} of {}", facts.bytes, facts.page_size)
        };
        output.line(&format!("was {}, is {}", pages(&before), pages(&after)))?;
    }
    Ok(Exit::Good)
}

/// Writes the new file and reads it back.
fn write(database: &Exclusive, path: &Path, output: &mut Output<'_>) -> Result<FileFacts, ToolError> {
    database.write_compact(path, PAGE_BYTES)?;
    // Opens it as the daemon does, which leaves it with a write-ahead log.
    Store::open(path, Clock::start().unix())?.close()?;
    let reader = Reader::open(path)?;
    let new = Table::read(&reader, output)?;
    let old = Table::read(database.reader(), output)?;
    if new.rows != old.rows || new.row_faults != old.row_faults {
        let path = path.display();
        return Err(ToolError::Refused(format!("'{path}' was not written as it should be; check the disk")));
    }
    Ok(reader.facts()?)
}
