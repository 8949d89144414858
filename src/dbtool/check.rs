//! `check`: all that is wrong with a database, and the digests by which it compares with others.

use super::table::{Fault, Table};
use super::text::{count, hex, utc};
use super::{Exit, Output, Verdict};
use crate::memdb::{Finding, MemDb};
use crate::store::Reader;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;

pub(super) fn run(file: &Path, output: &mut Output<'_>) -> Verdict {
    let reader = Reader::open(file)?;
    output.progress("checking the file");
    let problems = reader.problems()?;
    let table = Table::read(&reader, output)?;
    // Whoever waits for the file gets it now, not when all is printed.
    drop(reader);
    output.progress("checking the tree");
    let mut audit = table.audit();
    let faults = table.faults(&audit);
    let digests = Digests::of(&mut audit.tree, &audit.findings, &table);
    let is_clean = problems.is_empty() && faults.is_empty();
    if output.json {
        let places = table.places();
        let faults: Vec<_> = faults.iter().map(|fault| fault.json(&places)).collect();
        output.json(&json!({
            "file": file.to_string_lossy(), "clean": is_clean, "sqlite": problems, "faults": faults,
            "version": audit.tree.version(), "entries": table.entries().count(),
            "guests": audit.tree.guests().len(),
            "index": digests.as_ref().map(|digests| &digests.index),
            "checksum": digests.as_ref().map(|digests| &digests.checksum),
        }))?;
    } else {
        print(&table, &audit.tree, digests.as_ref(), output)?;
        print_faults(&problems, &faults, &table, output)?;
    }
    Ok(if is_clean { Exit::Good } else { Exit::Found })
}

/// By which nodes compare their databases.
struct Digests {
    index: String,
    checksum: String,
}

impl Digests {
    /// None for a tree that no daemon would load.
    fn of(tree: &mut MemDb, findings: &[Finding], table: &Table) -> Option<Self> {
        let is_refused = findings.iter().any(|finding| matches!(finding, Finding::Refused(_)));
        if is_refused || !table.row_faults.is_empty() || table.damage.is_some() {
            return None;
        }
        let index = hex(&Sha256::digest(tree.index().encode()));
        Some(Self { index, checksum: hex(&tree.checksum()) })
    }
}

fn print(
    table: &Table,
    tree: &MemDb,
    digests: Option<&Digests>,
    output: &mut Output<'_>,
) -> Result<(), std::io::Error> {
    let root = tree.root();
    let last = format!("last change {} by node {}", utc(root.mtime), root.writer);
    output.line(&format!("version   {}, {last}", root.version))?;
    let entries = count(table.entries().count(), "entry", "entries");
    output.line(&format!("entries   {entries}, {}", count(tree.guests().len(), "guest", "guests")))?;
    if let Some(digests) = digests {
        output.line(&format!("index     {}", digests.index))?;
        output.line(&format!("checksum  {}", digests.checksum))?;
    }
    Ok(())
}

fn print_faults(
    problems: &[String],
    faults: &[Fault],
    table: &Table,
    output: &mut Output<'_>,
) -> Result<(), std::io::Error> {
    let places = table.places();
    for problem in problems {
        output.line(&format!("fault     SQLite: {}", problem.replace('\n', "; ")))?;
    }
    for fault in faults {
        output.line(&format!("fault     {}", fault.line(&places)))?;
    }
    output.line(&match problems.len() + faults.len() {
        0 => "no faults".to_owned(),
        number => format!("{}; 'pmxcfs-db repair' shows what can be done", count(number, "fault", "faults")),
    })
}
