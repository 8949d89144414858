//! `compact`: writes a database anew with small pages. A small change rewrites whole pages, and stock makes
//! large ones; nothing else in the database changes.

use super::in_use::keep_daemon_out;
use super::place::{Draft, refused};
use super::table::Table;
use super::text::count;
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::Clock;
use crate::store::{Exclusive, PAGE_BYTES, Reader, Store};
use serde_json::json;
use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(super) fn run(file: &Path, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(file)?;
    let before = reader.facts()?;
    drop(reader);
    let file = fs::canonicalize(file).map_err(|error| refused("find", file, &error))?;
    let _lock = keep_daemon_out(&file)?;
    let metadata = fs::metadata(&file).map_err(|error| refused("look at", &file, &error))?;
    let database = Exclusive::open(&file)?;
    output.progress("checking the file");
    if let Some(problem) = database.reader().problems()?.into_iter().next() {
        let file = file.display();
        return Err(ToolError::Refused(format!(
            "'{file}' is damaged, repair or restore it first: {problem}"
        )));
    }
    let draft = Draft::of(&file)?;
    output.progress("writing the file anew");
    write(&database, &draft, &metadata, output)?;
    // Merges its log, which must not be found beside the new file.
    database.close()?;
    draft.take_place()?;
    let after = Reader::open(&file)?.facts()?;
    if output.json {
        output.json(&json!({
            "bytes_before": before.bytes, "bytes": after.bytes,
            "page_size_before": before.page_size, "page_size": after.page_size,
        }))?;
    } else {
        let pages = |facts: &crate::store::FileFacts| {
            let pages = count(facts.pages as usize, "page", "pages");
            format!("{} bytes in {pages} of {}", facts.bytes, facts.page_size)
        };
        output.line(&format!("was {}, is {}", pages(&before), pages(&after)))?;
    }
    Ok(Exit::Good)
}

/// Makes the new file, with owner and mode of the old one, and reads it back.
fn write(
    database: &Exclusive,
    draft: &Draft,
    metadata: &Metadata,
    output: &mut Output<'_>,
) -> Result<(), ToolError> {
    let path = draft.path();
    let unable = |error: std::io::Error| refused("write", path, &error);
    // Before SQLite makes it, for all to read.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unable)?;
    database.write_compact(path, PAGE_BYTES)?;
    // Opens it as the daemon does, which leaves it with a write-ahead log.
    Store::open(path, Clock::start().unix())?.close()?;
    draft.belong_as(metadata)?;
    let same = {
        let new = Table::read(&Reader::open(path)?, output)?;
        let old = Table::read(database.reader(), output)?;
        new.rows == old.rows && new.row_faults == old.row_faults
    };
    if !same {
        let path = path.display();
        return Err(ToolError::Refused(format!("'{path}' was not written as it should be; check the disk")));
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(unable)
}
