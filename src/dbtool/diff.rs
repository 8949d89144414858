//! `diff`: what two databases do not have in common, by path; an entry that is elsewhere under the same number
//! was moved.

use super::dump::complete;
use super::table::Table;
use super::text::{escape, utc};
use super::{Exit, Output, Verdict};
use crate::memdb::{KIND_DIRECTORY, Row};
use crate::store::Reader;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Entries by path. Damaged tables may have several at one; then the inode tells them apart.
type Entries<'a> = BTreeMap<(Vec<u8>, u64), &'a Row>;

/// One difference.
enum Difference<'a> {
    OnlyOne(&'a Row),
    OnlyOther(&'a Row),
    Moved { row: &'a Row, to: Vec<u8>, changes: Vec<String> },
    Changed(Vec<String>),
}

/// With `only_tree` numbers, versions, writers and times do not count.
pub(super) fn run(one: &Path, other: &Path, only_tree: bool, output: &mut Output<'_>) -> Verdict {
    let files = [one, other];
    let one = Table::read(&Reader::open(one)?, output)?;
    let other = Table::read(&Reader::open(other)?, output)?;
    let mut differences = compare(entries(&one), entries(&other), only_tree);
    if !only_tree {
        if let (Some(one), Some(other)) = (one.version_row(), other.version_row()) {
            let changes = fields(one, other);
            if !changes.is_empty() {
                differences.insert(0, (Vec::new(), Difference::Changed(changes)));
            }
        }
    }
    if output.json {
        let all: Vec<Value> =
            differences.iter().map(|(path, difference)| as_json(path, difference)).collect();
        output.json(&Value::Array(all))?;
    } else {
        for (path, difference) in &differences {
            output.line(&as_line(path, difference))?;
        }
    }
    let complete = [complete(&one, files[0], output), complete(&other, files[1], output)];
    let is_same = differences.is_empty() && complete == [Exit::Good; 2];
    Ok(if is_same { Exit::Good } else { Exit::Found })
}

fn entries(table: &Table) -> Entries<'_> {
    let places = table.places();
    let mut entries: Entries<'_> = BTreeMap::new();
    for row in table.entries() {
        let path = places.path(row.inode);
        // The first at a path is number 0, so that those of two databases meet.
        let taken = entries.contains_key(&(path.clone(), 0));
        entries.insert((path, if taken { row.inode } else { 0 }), row);
    }
    entries
}

fn compare<'a>(one: Entries<'a>, mut other: Entries<'a>, only_tree: bool) -> Vec<(Vec<u8>, Difference<'a>)> {
    let mut differences = Vec::new();
    let mut gone = Vec::new();
    for (key, row) in one {
        match other.remove(&key) {
            Some(now) => {
                let changes = changes(row, now, only_tree);
                if !changes.is_empty() {
                    differences.push((key.0, Difference::Changed(changes)));
                }
            }
            None => gone.push((key.0, row)),
        }
    }
    let mut new: BTreeMap<u64, (Vec<u8>, &Row)> =
        other.into_iter().map(|((path, _), row)| (row.inode, (path, row))).collect();
    for (path, row) in gone {
        let is_moved = |(_, now): &(Vec<u8>, &Row)| !only_tree && now.kind == row.kind;
        if new.get(&row.inode).is_some_and(is_moved) {
            if let Some((to, now)) = new.remove(&row.inode) {
                let changes = changes(row, now, only_tree);
                differences.push((path, Difference::Moved { row, to, changes }));
            }
        } else {
            differences.push((path, Difference::OnlyOne(row)));
        }
    }
    differences.extend(new.into_values().map(|(path, row)| (path, Difference::OnlyOther(row))));
    differences.sort_by(|(one, _), (other, _)| one.cmp(other));
    differences
}

fn changes(one: &Row, other: &Row, only_tree: bool) -> Vec<String> {
    let mut changes = Vec::new();
    if one.kind != other.kind {
        changes.push(format!("type {} -> {}", one.kind, other.kind));
    }
    let (before, after) = (contents(one), contents(other));
    if before != after {
        changes.push(format!("contents {} -> {} bytes", before.len(), after.len()));
    }
    if !only_tree {
        changes.extend(fields(one, other));
    }
    changes
}

fn fields(one: &Row, other: &Row) -> Vec<String> {
    let number =
        |name: &str, one: u64, other: u64| (one != other).then(|| format!("{name} {one} -> {other}"));
    let numbers = [
        number("inode", one.inode, other.inode),
        number("version", one.version, other.version),
        number("writer", one.writer.into(), other.writer.into()),
    ];
    let time =
        (one.mtime != other.mtime).then(|| format!("mtime {} -> {}", utc(one.mtime), utc(other.mtime)));
    numbers.into_iter().chain([time]).flatten().collect()
}

fn contents(row: &Row) -> &[u8] {
    row.data.as_deref().map_or(&[], Vec::as_slice)
}

fn shown(path: &[u8], row: &Row) -> String {
    let slash = if row.kind == KIND_DIRECTORY { "/" } else { "" };
    format!("{}{slash}", escape(path))
}

fn as_line(path: &[u8], difference: &Difference<'_>) -> String {
    match difference {
        Difference::OnlyOne(row) => format!("- {}", shown(path, row)),
        Difference::OnlyOther(row) => format!("+ {}", shown(path, row)),
        Difference::Moved { row, to, changes } => {
            let what = if changes.is_empty() { String::new() } else { format!(": {}", changes.join(", ")) };
            format!("> {} to {}{what}", shown(path, row), shown(to, row))
        }
        Difference::Changed(changes) if path.is_empty() => format!("! database: {}", changes.join(", ")),
        Difference::Changed(changes) => format!("! {}: {}", escape(path), changes.join(", ")),
    }
}

fn as_json(path: &[u8], difference: &Difference<'_>) -> Value {
    let path = escape(path);
    match difference {
        Difference::OnlyOne(row) => {
            json!({ "path": path, "is": "only in the first", "inode": row.inode as i64 })
        }
        Difference::OnlyOther(row) => {
            json!({ "path": path, "is": "only in the second", "inode": row.inode as i64 })
        }
        Difference::Moved { row, to, changes } => {
            json!({ "path": path, "is": "moved", "inode": row.inode as i64, "to": escape(to), "changes": changes })
        }
        Difference::Changed(changes) => json!({ "path": path, "is": "changed", "changes": changes }),
    }
}
