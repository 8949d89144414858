//! Every verb and every option of a program is in its manual page, and no verb is there that it has not.

use clap::Command;
use std::fs;
use std::path::Path;

/// The pages of programs with a command line of the library.
fn pages() -> Vec<(&'static str, Command)> {
    vec![
        ("pmxcfs.8", pmxcfs::options::command()),
        ("pmxcfs-ctl.8", pmxcfs::ctl::command()),
        ("pmxcfs-db.8", pmxcfs::dbtool::command()),
    ]
}

/// The page as it is read: without the marks of hyphens and the requests at the start of lines.
fn text(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man").join(page);
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    source.replace("\\-", "-").replace("\\&", "")
}

fn has_word(text: &str, word: &str) -> bool {
    let is_inside = |c: char| c.is_alphanumeric() || c == '-';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !before.is_some_and(is_inside) && !after.is_some_and(is_inside)
    })
}

/// What the command line has and the page has not.
fn missing(text: &str, command: &Command) -> Vec<String> {
    let mut missing = Vec::new();
    for argument in command.get_arguments() {
        let long = argument.get_long().map(|long| format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        missing.extend([long, short].into_iter().flatten().filter(|option| !has_word(text, option)));
        let names =
            argument.get_value_names().unwrap_or_default().iter().filter(|_| argument.is_positional());
        missing.extend(names.filter(|name| !has_word(text, name)).map(ToString::to_string));
    }
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        if !has_word(text, verb.get_name()) {
            missing.push(verb.get_name().to_owned());
        }
        missing.extend(self::missing(text, verb));
    }
    missing
}

#[test]
fn what_a_program_takes_is_in_its_page() {
    for (page, mut command) in pages() {
        command.build();
        let missing = missing(&text(page), &command);
        assert!(missing.is_empty(), "not in {page}: {missing:?}");
    }
}

#[test]
fn what_is_in_the_page_of_the_database_tool_is_what_it_takes() {
    let text = text("pmxcfs-db.8");
    let command = pmxcfs::dbtool::command();
    let (_, verbs) = text.split_once(".SH VERBS").expect("a section");
    let (verbs, _) = verbs.split_once(".SH OPTIONS").expect("a section");
    let described: Vec<&str> =
        verbs.lines().filter_map(|line| line.strip_prefix(".BI ")?.split(' ').next()).collect();
    for verb in &described {
        assert!(command.find_subcommand(verb).is_some(), "{verb} is in the page only");
    }
    assert_eq!(described.len(), command.get_subcommands().count());
}

#[test]
fn a_page_that_lacks_something_is_found() {
    let mut command = pmxcfs::dbtool::command();
    command.build();
    let text = text("pmxcfs-db.8").replace("compact", "").replace("--tree", "--trees");
    assert_eq!(missing(&text, &command), ["--tree", "compact"]);
}
