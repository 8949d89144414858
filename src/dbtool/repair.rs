//! `repair`: shows what would make a database sound and why so, and with `--apply` does it: first a copy, then
//! all of it in one transaction, which is committed only if nothing is wrong then.

mod fixes;
mod lost;
mod plan;

use super::in_use::keep_daemon_out;
use super::place::{Draft, refused};
use super::table::Table;
use super::text::{count, utc_for_name};
use super::{Exit, Output, ToolError, Verdict};
use crate::clock::Clock;
use crate::memdb::{Batch, Finding, MemDb};
use crate::store::{Exclusive, Handles, Reader, Store, StoreError};
use plan::{Plan, Repaired};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Shows what would be done.
pub(super) fn plan(file: &Path, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(file)?;
    let (repaired, problems, _) = work_out(&reader, file, output)?;
    // Whoever waits for the file gets it now, not when all is printed.
    drop(reader);
    if repaired.steps.is_empty() && problems.is_empty() {
        return nothing_to_do(output);
    }
    if output.json {
        output.json(&json!({ "applied": false, "sqlite": problems, "steps": steps_json(&repaired) }))?;
    } else {
        print(&repaired, &problems, output)?;
        output.line("nothing was changed; to do this, with a copy made first: repair --apply")?;
    }
    Ok(Exit::Found)
}

/// Does it, on a copy made to `backup`, or else beside the file.
pub(super) fn apply(file: &Path, backup: Option<&Path>, output: &mut Output<'_>) -> Verdict {
    // Before anything is locked, for the better words.
    drop(Reader::open(file)?);
    let canonical = fs::canonicalize(file);
    let file = canonical
        .map_err(|error| ToolError::Refused(format!("unable to find '{}': {error}", file.display())))?;
    let _lock = keep_daemon_out(&file)?;
    let handles = Handles::open(&file)?;
    let mut database = Exclusive::open(&file)?;
    let (repaired, problems, is_readable) = work_out(database.reader(), &file, output)?;
    if repaired.steps.is_empty() && problems.is_empty() {
        return nothing_to_do(output);
    }
    let backup = backup.map_or_else(|| beside(&file), Path::to_owned);
    output.progress("copying the file");
    handles.copy_to(&backup)?;
    output.progress("repairing");
    // Where SQLite finds something, the file is not to be trusted, its schema neither.
    let made = match is_readable && problems.is_empty() {
        true => write(&mut database, &repaired, &file).map(|()| None),
        false => make_anew(&repaired, &file, output).map(Some),
    };
    // Up to here nothing was changed, so nobody needs the copy.
    match made.inspect_err(|_| Handles::remove_copy(&backup))? {
        None => database.close()?,
        Some(draft) => put_in_place(draft, database, &file)?,
    }
    drop(handles);
    if output.json {
        let backup = backup.to_string_lossy();
        output.json(&json!({
            "applied": true, "backup": backup, "sqlite": problems, "steps": steps_json(&repaired),
        }))?;
    } else {
        print(&repaired, &problems, output)?;
        output.line(&format!("repaired; the database as it was is in '{}'", backup.display()))?;
    }
    Ok(Exit::Good)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".before-repair-{}", utc_for_name(Clock::start().unix())));
    name.into()
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
fn make_anew(repaired: &Repaired, file: &Path, output: &mut Output<'_>) -> Result<Draft, ToolError> {
    let metadata = fs::metadata(file).map_err(|error| refused("look at", file, &error))?;
    let draft = Draft::of(file)?;
    output.progress("writing a new file");
    let mut store = Store::open(draft.path(), Clock::start().unix())?;
    let version = repaired.all.first().map_or(1, |row| row.version);
    store.commit(&Batch { version, deleted: Vec::new(), rows: repaired.all.clone() })?;
    store.close()?;
    draft.belong_as(&metadata)?;
    let new = Reader::open(draft.path())?;
    if !new.problems()?.is_empty() || !is_sound(&new)? {
        return Err(not_sound(file));
    }
    Ok(draft)
}

fn put_in_place(draft: Draft, damaged: Exclusive, file: &Path) -> Result<(), ToolError> {
    drop(damaged);
    // It was copied with the file, and must not be taken for the log of the new one.
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    match fs::remove_file(&log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(refused("remove", Path::new(&log), &error))
        }
        _ => draft.take_place(),
    }
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
