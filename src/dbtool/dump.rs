//! `dump`: the rows of the table, or one entry with its contents. It shows damaged rows as well as sound
//! ones.

use super::table::{Places, Table};
use super::text::{escape, hex, unescape, utc};
use super::{Exit, Output, ToolError, Verdict};
use crate::memdb::{Inode, KIND_DIRECTORY, KIND_FILE, ROOT, Row, TreePath};
use crate::store::Reader;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn run(file: &Path, path: Option<&Path>, only_contents: bool, output: &mut Output<'_>) -> Verdict {
    if only_contents && path.is_none() {
        return Err(ToolError::Refused("--contents prints those of one entry; name its PATH too".to_owned()));
    }
    let table = Table::read(&Reader::open(file)?, output)?;
    let places = table.places();
    match path {
        None if output.json => rows_json(&table, &places, output)?,
        None => rows(&table, &places, output)?,
        Some(path) => {
            let row = find(&table, &places, path.as_os_str().as_bytes()).ok_or_else(|| {
                let shown = escape(path.as_os_str().as_bytes());
                ToolError::Refused(format!("there is no '{shown}' in '{}'; 'dump' lists all", file.display()))
            })?;
            if only_contents {
                output.print_bytes(contents(row))?;
            } else if output.json {
                output.json(&entry_json(row, &places, true))?;
            } else {
                entry(row, &table, &places, output)?;
            }
        }
    }
    Ok(complete(&table, file, output))
}

/// Says so when there is more in the file than could be read.
pub(super) fn complete(table: &Table, file: &Path, output: &mut Output<'_>) -> Exit {
    let Some(damage) = &table.damage else { return Exit::Good };
    let file = file.display();
    output.complain(&format!(
        "this is not all of '{file}', as it is damaged; see 'pmxcfs-db check {file}': {damage}"
    ));
    Exit::Found
}

fn contents(row: &Row) -> &[u8] {
    row.data.as_deref().map_or(&[], Vec::as_slice)
}

/// The entry at a path given as it is or as it is shown; of two at one path the one that was changed last.
fn find<'a>(table: &'a Table, places: &Places<'_>, path: &[u8]) -> Option<&'a Row> {
    let at = |wanted: &[u8]| {
        let wanted = TreePath::new(wanted);
        if wanted.is_root() {
            return table.version_row();
        }
        let found = walk(table, &wanted).into_iter().max_by_key(|row| row.version);
        // Entries that no path from the root leads to are found by the path shown for them.
        found.or_else(|| {
            let shown = table.entries().filter(|row| places.path(row.inode) == wanted.as_bytes());
            shown.max_by_key(|row| row.version)
        })
    };
    at(path).or_else(|| at(&unescape(path)?))
}

/// Entries at a path from the root. Damaged tables may have several.
fn walk<'a>(table: &'a Table, path: &TreePath) -> Vec<&'a Row> {
    let mut named = BTreeMap::<(Inode, &[u8]), Vec<&Row>>::new();
    for row in table.entries() {
        named.entry((row.parent, &*row.name)).or_default().push(row);
    }
    let (mut directories, mut found) = (vec![ROOT], Vec::new());
    for name in path.components() {
        found =
            directories.iter().filter_map(|inode| named.get(&(*inode, name))).flatten().copied().collect();
        directories = found.iter().map(|row: &&Row| row.inode).collect();
    }
    found
}

fn kind(row: &Row) -> String {
    match row.kind {
        _ if row.inode == ROOT => "version".to_owned(),
        KIND_DIRECTORY => "dir".to_owned(),
        KIND_FILE => "file".to_owned(),
        other => other.to_string(),
    }
}

fn rows(table: &Table, places: &Places<'_>, output: &mut Output<'_>) -> Result<(), ToolError> {
    output.line(&format!(
        "{:>8} {:>8} {:>8} {:>6} {:<20} {:<7} {:>8} PATH",
        "INODE", "PARENT", "VERSION", "WRITER", "MTIME", "TYPE", "SIZE"
    ))?;
    for row in &table.rows {
        let Row { inode, parent, version, writer, mtime, .. } = row;
        let (mtime, kind, size) = (utc(*mtime), kind(row), contents(row).len());
        let path = places.shown(*inode);
        // Negative ones as they are in the table.
        let (inode, parent, version) = (*inode as i64, *parent as i64, *version as i64);
        output.line(&format!(
            "{inode:>8} {parent:>8} {version:>8} {writer:>6} {mtime:<20} {kind:<7} {size:>8} {path}"
        ))?;
    }
    Ok(())
}

fn rows_json(table: &Table, places: &Places<'_>, output: &mut Output<'_>) -> Result<(), ToolError> {
    let rows: Vec<Value> = table.rows.iter().map(|row| entry_json(row, places, false)).collect();
    Ok(output.json(&Value::Array(rows))?)
}

fn entry_json(row: &Row, places: &Places<'_>, with_contents: bool) -> Value {
    let mut value = json!({
        "inode": row.inode as i64, "parent": row.parent as i64, "version": row.version as i64, "writer": row.writer,
        "mtime": row.mtime, "type": row.kind, "size": contents(row).len(),
        "name": escape(&row.name), "path": places.shown(row.inode),
    });
    if with_contents {
        match std::str::from_utf8(contents(row)) {
            Ok(text) => value["text"] = text.into(),
            Err(_) => value["hex"] = hex(contents(row)).into(),
        }
    }
    value
}

fn entry(row: &Row, table: &Table, places: &Places<'_>, output: &mut Output<'_>) -> Result<(), ToolError> {
    output.line(&format!("path     {}", places.shown(row.inode)))?;
    output.line(&format!("inode    {} in {}", row.inode, row.parent))?;
    output.line(&format!("version  {} by node {}", row.version, row.writer))?;
    output.line(&format!("mtime    {}", utc(row.mtime)))?;
    output.line(&format!("type     {}, {} bytes", kind(row), contents(row).len()))?;
    output.line("")?;
    let in_it = table.entries().filter(|child| child.parent == row.inode);
    for child in in_it {
        let slash = if child.kind == KIND_DIRECTORY { "/" } else { "" };
        output.line(&format!("{}{slash}", escape(&child.name)))?;
    }
    Ok(output.print_bytes(contents(row))?)
}
