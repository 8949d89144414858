//! `info`: what a database holds, how full it is, and how the file is laid out.

use super::table::Table;
use super::text::{count, utc};
use super::{Exit, Output, Verdict};
use crate::memdb::{BLOCK_SIZE, BLOCKS, FILES, GuestKind, KIND_DIRECTORY, MemDb, Row};
use crate::store::{FileFacts, PAGE_BYTES, Reader};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn run(file: &Path, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(file)?;
    let facts = reader.facts()?;
    let (table, path) = (Table::read(&reader, output)?, reader.path().to_owned());
    drop(reader);
    let audit = table.audit();
    let faults = table.faults(&audit).len();
    let contents = Contents::of(&table, &audit.tree);
    if output.json {
        let root = audit.tree.root();
        output.json(&json!({
            "file": path.to_string_lossy(), "in_use": facts.in_use, "faults": faults,
            "version": root.version, "writer": root.writer, "mtime": root.mtime,
            "files": contents.files, "directories": contents.directories,
            "content_bytes": contents.bytes, "content_bytes_max": BLOCKS * BLOCK_SIZE,
            "entries_max": FILES, "largest_file_bytes": contents.largest,
            "guests": audit.tree.guests().len(), "guests_by_kind": contents.guests_by_kind,
            "guests_by_node": contents.guests_by_node, "locks": contents.locks,
            "file_bytes": facts.bytes, "log_bytes": facts.log_bytes, "page_size": facts.page_size,
            "pages": facts.pages, "free_pages": facts.free_pages, "journal_mode": facts.journal_mode,
        }))?;
    } else {
        print(&facts, &audit.tree, &contents, faults, output)?;
    }
    Ok(Exit::Good)
}

/// What is in the tree.
struct Contents {
    files: usize,
    directories: usize,
    /// Of all files.
    bytes: u64,
    largest: u64,
    guests_by_kind: BTreeMap<&'static str, u64>,
    guests_by_node: BTreeMap<String, u64>,
    locks: usize,
}

impl Contents {
    fn of(table: &Table, tree: &MemDb) -> Self {
        let size = |row: &Row| row.data.as_ref().map_or(0, |data| data.len() as u64);
        let directories = table.entries().filter(|row| row.kind == KIND_DIRECTORY).count();
        let (mut guests_by_kind, mut guests_by_node) = (BTreeMap::new(), BTreeMap::new());
        for (_, guest) in tree.guests().iter() {
            *guests_by_kind.entry(GuestKind::as_str(guest.kind)).or_default() += 1;
            *guests_by_node.entry(guest.node.to_string()).or_default() += 1;
        }
        let locks = tree.resolve(b"priv/lock").into_iter().flat_map(|dir| tree.children_of(dir));
        Self {
            files: table.entries().count() - directories,
            directories,
            bytes: table.entries().map(size).sum(),
            largest: table.entries().map(size).max().unwrap_or_default(),
            guests_by_kind,
            guests_by_node,
            locks: locks.filter(|entry| entry.is_dir()).count(),
        }
    }
}

fn print(
    facts: &FileFacts,
    tree: &MemDb,
    contents: &Contents,
    faults: usize,
    output: &mut Output<'_>,
) -> std::io::Result<()> {
    let root = tree.root();
    let mut line = |name: &str, value: String| output.line(&format!("{name:<13} {value}"));
    line("version", root.version.to_string())?;
    line("last change", format!("{} by node {}", utc(root.mtime), root.writer))?;
    let files = count(contents.files, "file", "files");
    line("entries", format!("{files}, {}", count(contents.directories, "directory", "directories")))?;
    let (bytes, limit) = (contents.bytes, BLOCKS * BLOCK_SIZE);
    line("contents", format!("{bytes} of {limit} bytes, the largest file {}", contents.largest))?;
    let listed =
        |list: Vec<String>| if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) };
    let kinds = contents.guests_by_kind.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
    line("guests", format!("{}{}", tree.guests().len(), listed(kinds)))?;
    for (node, number) in &contents.guests_by_node {
        line("", format!("{number} on {node}"))?;
    }
    line("locks", contents.locks.to_string())?;
    let log =
        if facts.log_bytes > 0 { format!(", and {} in its log", facts.log_bytes) } else { String::new() };
    line("file", format!("{} bytes{log}", facts.bytes))?;
    let (pages, size, free) = (facts.pages, facts.page_size, facts.free_pages);
    let hint = if size > PAGE_BYTES.into() { "; 'pmxcfs-db compact' makes them smaller" } else { "" };
    line("pages", format!("{pages} of {size} bytes, {free} of them free{hint}"))?;
    line("journal mode", facts.journal_mode.clone())?;
    line("in use", if facts.in_use { "yes, by another program" } else { "no" }.to_owned())?;
    line(
        "faults",
        match faults {
            0 => "none".to_owned(),
            number => format!("{number}; 'pmxcfs-db check' lists them"),
        },
    )
}
