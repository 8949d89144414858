//! What the pages tell an admin to do is done here, word for word, on a node below a directory; commands that
//! cannot be run are at least read by the programs' own parsers; and log lines that are explained are logged.

#[path = "daemon/fixture.rs"]
mod fixture;

#[path = "documented/commands.rs"]
mod commands;
#[path = "documented/hacking.rs"]
mod hacking;
#[path = "documented/log_lines.rs"]
mod log_lines;
#[path = "documented/node.rs"]
mod node;
#[path = "documented/promises.rs"]
mod promises;
#[path = "documented/recovery.rs"]
mod recovery;

use std::path::Path;

fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of a page in the shell's language, each with the word behind that and its lines.
fn blocks(page: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        if let Some(word) = line.strip_prefix("```sh") {
            let inner = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
            blocks.push((word.trim().to_owned(), inner));
        }
    }
    blocks
}

/// The lines of all blocks with this word.
fn script(path: &str, word: &str) -> String {
    let blocks = blocks(&page(path)).into_iter().filter(|(other, _)| other == word);
    let lines: Vec<String> = blocks.flat_map(|(_, lines)| lines).collect();
    assert!(!lines.is_empty(), "no block '{word}' in {path}");
    lines.join("\n") + "\n"
}
