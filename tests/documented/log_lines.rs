//! The log lines that docs/OPERATIONS.md explains are in the source.

use crate::page;
use std::fs;
use std::path::Path;

fn read_all(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).expect("UTF-8 source"));
        }
    }
}

/// The source, with strings that go on in the next line put together.
fn source() -> String {
    let mut text = String::new();
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let mut parts = text.split("\\\n");
    let first = parts.next().expect("some source").to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn every_explained_log_line_is_logged() {
    let (page, source) = (page("docs/OPERATIONS.md"), source());
    let section = page.split("\n## Log lines\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its end");
    let mut count = 0;
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let line = row.split("` |").next().expect("a cell");
        let (domain, text) = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((domain, text)) => (Some(domain), text),
            None => (None, line),
        };
        for part in text.split("...").filter(|part| !part.is_empty()) {
            assert!(source.contains(part), "'{line}' is explained, but nothing logs '{part}'");
        }
        if let Some(domain) = domain.filter(|domain| *domain != "main") {
            assert!(source.contains(&format!("\"{domain}\"")), "'{line}': there is no domain '{domain}'");
        }
        count += 1;
    }
    assert!(count > 40, "only {count} rows were found");
}
