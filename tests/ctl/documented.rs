//! The pages say what the program and the daemon do.

use clap::Command;
use pmxcfs::ipc::ops::Op;
use std::path::Path;

fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn requests_of_our_own_are_on_the_page_about_clients() {
    let page = page("docs/CLIENTS.md");
    for op in Op::ALL.iter().filter(|op| !op.is_stock()) {
        let row = format!("| {} `{}` |", op.id(), op.name().to_ascii_uppercase());
        assert!(page.contains(&row), "no row '{row}'");
    }
}

/// Every command and option of a command line, with the words that lead to it.
fn words(command: &Command, before: &str, found: &mut Vec<String>) {
    for argument in command.get_arguments() {
        found.extend(argument.get_long().map(|long| format!("--{long}")));
    }
    for inner in command.get_subcommands() {
        let name = format!("{before}{}", inner.get_name());
        found.push(name.clone());
        words(inner, &format!("{name} "), found);
    }
}

#[test]
fn every_command_and_option_is_in_the_manual() {
    let manual = page("docs/man/pmxcfs-ctl.8").replace('\\', "");
    let mut all = Vec::new();
    words(&pmxcfs::ctl::command(), "", &mut all);
    assert!(all.len() > 15, "{all:?}");
    for word in all {
        assert!(manual.contains(&word), "{word} is not in the manual");
    }
}
