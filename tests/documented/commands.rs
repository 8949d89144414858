//! Commands of ours in pages and manuals are such that the programs take them.

use crate::{blocks, page};
use clap::Command;
use std::path::Path;

const PAGES: [&str; 3] = ["README.md", "docs/MIGRATION.md", "docs/OPERATIONS.md"];

/// The command line in a line of a script, up to what the shell does with its output.
fn words(line: &str) -> Vec<String> {
    let end = line.find(['|', '>', ';', '&', '#']).unwrap_or(line.len());
    line[..end].split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect()
}

fn program(name: &str) -> Option<Command> {
    match name.rsplit('/').next()? {
        "pmxcfs" => Some(pmxcfs::options::command()),
        "pmxcfs-ctl" => Some(pmxcfs::ctl::command()),
        "pmxcfs-db" => Some(pmxcfs::dbtool::command()),
        _ => None,
    }
}

/// Tries a line; says whether it was a command of ours.
fn try_line(place: &str, line: &str) -> bool {
    let words = words(line);
    let Some(command) = words.first().and_then(|name| program(name)) else { return false };
    if let Err(error) = command.try_get_matches_from(&words) {
        panic!("{place}: '{line}': {error}");
    }
    true
}

#[test]
fn every_command_in_the_pages_is_understood() {
    let mut tried = 0;
    for path in PAGES {
        for (_, lines) in blocks(&page(path)) {
            tried += lines.iter().filter(|line| try_line(path, line)).count();
        }
    }
    assert!(tried > 12, "only {tried} commands were found");
}

#[test]
fn every_example_in_the_manuals_is_understood() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let mut tried = 0;
    for manual in std::fs::read_dir(directory).expect("manuals") {
        let path = format!("docs/man/{}", manual.expect("an entry").file_name().to_string_lossy());
        let text = page(&path).replace("\\-", "-").replace("\\&", "");
        let examples = text.split(".EX\n").skip(1).filter_map(|part| part.split(".EE").next());
        tried += examples.flat_map(str::lines).filter(|line| try_line(&path, line)).count();
    }
    assert!(tried > 4, "only {tried} examples were found");
}
