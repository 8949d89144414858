//! `repair`: shows what would make a database sound and why so, and with `--apply` does it: first a copy, then
//! all of it in one transaction, which is committed only if nothing is wrong then.

mod fixes;
mod latest;
mod lost;
mod numbers;
mod plan;

use super::copy_before::CopyBefore;
use super::in_use::keep_daemon_out;
use super::place::{find_database, warn_if_exposed};
use super::space::{Space, bytes_of, bytes_of_change, bytes_of_rows};
use super::table::Table;
use super::text::count;
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::Clock;
use crate::memdb::{Batch, Finding, MemDb};
use crate::store::{Exclusive, Handles, Log, Reader, Room, Site, Store, StoreError};
use plan::{Plan, Repaired};
use serde_json::{Value, json};
use std::io;
use std::path::Path;

/// Shows what would be done.
pub(super) fn plan(file: &Path, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(file)?;
    let (repaired, problems, is_readable) = work_out(&reader, file, output)?;
    // Whoever waits for the file gets it now, not when all is printed.
    drop(reader);
    if repaired.steps.is_empty() && problems.is_empty() {
        return nothing_to_do(output);
    }
    let site = find_database(file)?;
    let backup = CopyBefore::beside(&site, "repair")?;
    let space = space(&site, &repaired, &backup, is_readable && problems.is_empty())?;
    if output.json {
        output.json(&json!({
            "applied": false, "sqlite": problems, "steps": steps_json(&repaired), "space": space.json(),
        }))?;
    } else {
        print(&repaired, &problems, output)?;
        space.print(output)?;
        output.line("nothing was changed; to do this, with a copy made first: repair --apply")?;
    }
    Ok(Exit::Found)
}

/// Does it, on a copy made to `backup`, or else beside the file.
pub(super) fn apply(file: &Path, backup: Option<&Path>, output: &mut Output<'_>) -> Verdict {
    // Before anything is locked, for the better words.
    drop(Reader::open(file)?);
    let site = find_database(file)?;
    let file = site.path();
    let _lock = keep_daemon_out(&site)?;
    check_space_of_snapshot(&site)?;
    let handles = Handles::open(&site)?;
    let mut database = Exclusive::open(&site)?;
    let (repaired, problems, is_readable) = work_out(database.reader(), file, output)?;
    if repaired.steps.is_empty() && problems.is_empty() {
        return nothing_to_do(output);
    }
    warn_if_exposed(site.dir(), output);
    let backup = backup.map_or_else(|| CopyBefore::beside(&site, "repair"), CopyBefore::at)?;
    let in_place = is_readable && problems.is_empty();
    let space = space(&site, &repaired, &backup, in_place)?;
    space.check()?;
    if !output.json {
        space.print(output)?;
    }
    let copy = backup.make(&handles, &site, output)?;
    output.progress("repairing");
    // Where SQLite finds something, the file is not to be trusted, its schema neither.
    let made = match in_place {
        true => write(&mut database, &repaired, file).map(|()| None),
        false => make_anew(&repaired, file, output).map(Some),
    };
    // Up to here nothing was changed, so nobody needs the copy.
    let made = made.inspect_err(|_| copy.remove())?;
    let (before, is_snapshot) = (site.entry().ok(), database.is_snapshot());
    let stored = match made {
        None => database.close(),
        Some(room) => database.replace(&room.database(), Log::Discard),
    };
    stored.inspect_err(|_| {
        if is_snapshot && site.entry().ok() == before {
            copy.remove();
        }
    })?;
    drop(handles);
    if output.json {
        let backup = backup.path().to_string_lossy();
        output.json(&json!({
            "applied": true, "backup": backup, "sqlite": problems, "steps": steps_json(&repaired),
            "space": space.json(),
        }))?;
    } else {
        print(&repaired, &problems, output)?;
        output.line(&format!("repaired; the database as it was is in '{}'", backup.path().display()))?;
    }
    Ok(Exit::Good)
}

/// Space for the copy and for the change: made in the file if `in_place`, else in a new file.
fn space(site: &Site, repaired: &Repaired, backup: &CopyBefore, in_place: bool) -> Result<Space, ToolError> {
    let whole = bytes_of(site)?;
    let mut space = Space::default();
    space.add(backup.dir(), whole)?;
    let written = match in_place {
        // Once in the log and once in the file.
        true => 2 * bytes_of_change(repaired.deleted.len(), &repaired.changed),
        false => bytes_of_rows(&repaired.all),
    };
    match (site.dir().is_private(), in_place) {
        (true, true) => space.add(site.dir(), written)?,
        (true, false) => {
            space.add_temporary(2 * written)?;
            space.add(site.dir(), written)?;
        }
        // The database was copied already, and the copy is changed.
        (false, _) => {
            space.add_temporary(2 * written)?;
            space.add(site.dir(), whole.saturating_add(written))?;
        }
    }
    Ok(space)
}

/// In a directory of others a copy, and one with its log moved into it, are made before anything is read.
fn check_space_of_snapshot(site: &Site) -> Result<(), ToolError> {
    if site.dir().is_private() {
        return Ok(());
    }
    let mut space = Space::default();
    space.add_temporary(2 * bytes_of(site)?)?;
    space.check()
}

/// What is to be done, what SQLite found, and whether it could read all rows.
fn work_out(
    reader: &Reader,
    file: &Path,
    output: &mut Output<'_>,
) -> Result<(Repaired, Vec<String>, bool), ToolError> {
    output.progress("checking the file");
    let problems = reader.problems()?;
    let table = Table::read(reader, output)?;
    output.progress("working out what to do");
    let repaired = Plan::of(&table, Clock::start().unix()).map_err(|finding| cannot(file, &finding))?;
    Ok((repaired, problems, table.damage.is_none()))
}

fn cannot(file: &Path, finding: &Finding) -> ToolError {
    ToolError::Refused(format!("'{}' cannot be repaired, restore a copy of it: {finding}", file.display()))
}

/// Stores the repaired rows, all or none of them.
fn write(database: &mut Exclusive, repaired: &Repaired, file: &Path) -> Result<(), ToolError> {
    match database.change(&repaired.deleted, &repaired.changed, is_sound)? {
        true => Ok(()),
        false => Err(not_sound(file)),
    }
}

fn is_sound(reader: &Reader) -> Result<bool, StoreError> {
    let (mut rows, mut is_sound) = (Vec::new(), true);
    reader.rows(|loose| {
        is_sound &= loose.faults.is_empty();
        rows.push(loose.row);
    })?;
    Ok(is_sound && MemDb::audit(rows).findings.is_empty())
}

fn not_sound(file: &Path) -> ToolError {
    let text = "would not be sound after the repair, and was left as it is; restore a copy of it";
    ToolError::Refused(format!("'{}' {text}", file.display()))
}

/// Makes a new file of all rows, for one that cannot be trusted to be written.
fn make_anew(repaired: &Repaired, file: &Path, output: &mut Output<'_>) -> Result<Room, ToolError> {
    let room = Room::new().map_err(|fault| ToolError::Refused(fault.to_string()))?;
    output.progress("writing a new file");
    let mut store = Store::open(&room.database(), Clock::start().unix())?;
    let version = repaired.all.first().map_or(1, |row| row.version);
    store.commit(&Batch { version, deleted: Vec::new(), rows: repaired.all.clone() })?;
    store.close()?;
    let new = Reader::open(&room.database())?;
    if !new.problems()?.is_empty() || !is_sound(&new)? {
        return Err(not_sound(file));
    }
    Ok(room)
}

fn nothing_to_do(output: &mut Output<'_>) -> Verdict {
    if output.json {
        output.json(&json!({ "applied": false, "sqlite": [], "steps": [] }))?;
    } else {
        output.line("nothing to repair")?;
    }
    Ok(Exit::Good)
}

fn steps_json(repaired: &Repaired) -> Vec<Value> {
    let json =
        |step: &plan::Step| json!({ "inode": step.inode as i64, "step": step.what, "reason": step.why });
    repaired.steps.iter().map(json).collect()
}

fn print(repaired: &Repaired, problems: &[String], output: &mut Output<'_>) -> io::Result<()> {
    for step in &repaired.steps {
        output.line(&format!("{}: {}", step.what, step.why))?;
    }
    for problem in problems {
        let problem = problem.replace('\n', "; ");
        output
            .line(&format!("a new file is written, because of what SQLite finds in this one: {problem}"))?;
    }
    output.line(&count(repaired.steps.len(), "step", "steps"))
}
