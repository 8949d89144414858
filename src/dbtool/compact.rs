//! `compact`: writes a database anew with small pages. A small change rewrites whole pages, and stock makes
//! large ones; nothing else in the database changes.

use super::copy_before::CopyBefore;
use super::in_use::keep_daemon_out;
use super::place::{find_database, warn_if_exposed};
use super::space::{Space, bytes_of};
use super::table::Table;
use super::text::count;
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::Clock;
use crate::store::{Exclusive, FileFacts, Handles, Log, PAGE_BYTES, Reader, Room, Site, Store};
use serde_json::json;
use std::path::Path;

/// Copies the file to `backup` before, if that is given.
pub(super) fn run(file: &Path, backup: Option<&Path>, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(file)?;
    let before = reader.facts()?;
    drop(reader);
    let site = find_database(file)?;
    let _lock = keep_daemon_out(&site)?;
    let backup = backup.map(CopyBefore::at).transpose()?;
    let space = space(&site, &before, backup.as_ref())?;
    // In a directory of others the next step makes a copy.
    space.check()?;
    let handles = backup.as_ref().map(|_| Handles::open(&site)).transpose()?;
    let database = Exclusive::open(&site)?;
    output.progress("checking the file");
    if let Some(problem) = database.reader().problems()?.into_iter().next() {
        let file = site.path().display();
        return Err(ToolError::Refused(format!(
            "'{file}' is damaged, repair or restore it first: {problem}"
        )));
    }
    warn_if_exposed(site.dir(), output);
    if !output.json {
        space.print(output)?;
    }
    let copy = match (&backup, &handles) {
        (Some(backup), Some(handles)) => Some(backup.make(handles, &site, output)?),
        _ => None,
    };
    output.progress("writing the file anew");
    let room = Room::new().map_err(|fault| ToolError::Refused(fault.to_string()))?;
    // Up to here nothing was changed, so the copy has no use after a failure.
    let after = write(&database, &room.database(), output).inspect_err(|_| {
        if let Some(copy) = &copy {
            copy.remove();
        }
    })?;
    database.replace(&room.database(), Log::Merge)?;
    drop(handles);
    if output.json {
        output.json(&json!({
            "bytes_before": before.bytes, "bytes": after.bytes,
            "page_size_before": before.page_size, "page_size": after.page_size,
            "backup": backup.as_ref().map(|copy| copy.path().to_string_lossy()), "space": space.json(),
        }))?;
    } else {
        let pages = |facts: &FileFacts| {
            let pages = count(facts.pages as usize, "page", "pages");
            format!("{} bytes in {pages} of {}", facts.bytes, facts.page_size)
        };
        output.line(&format!("was {}, is {}", pages(&before), pages(&after)))?;
        if let Some(backup) = &backup {
            output.line(&format!("the database as it was is in '{}'", backup.path().display()))?;
        }
    }
    Ok(Exit::Good)
}

/// The new file is written to a private directory, and copied from there beside the old one.
fn space(site: &Site, before: &FileFacts, backup: Option<&CopyBefore>) -> Result<Space, ToolError> {
    let whole = bytes_of(site)?;
    let used = before.pages.saturating_sub(before.free_pages).saturating_mul(before.page_size);
    // A row that filled half of a small page shared a large one with others.
    let new = if before.page_size > PAGE_BYTES.into() { 2 * used } else { used };
    let mut space = Space::default();
    if let Some(backup) = backup {
        space.add(backup.dir(), whole)?;
    }
    match site.dir().is_private() {
        true => {
            space.add_temporary(new)?;
            space.add(site.dir(), new.saturating_add(before.log_bytes))?;
        }
        // A copy, and one with its log moved into it.
        false => {
            space.add_temporary(new.saturating_add(2 * whole))?;
            space.add(site.dir(), new.saturating_add(whole))?;
        }
    }
    Ok(space)
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
