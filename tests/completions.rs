//! The committed completions are those of the programs as they are. `make completions` writes them anew.

#[path = "completions/terminal.rs"]
mod terminal;

use clap::Command;
use clap_complete::{Shell, generate};
use std::fs;
use std::path::{Path, PathBuf};
use terminal::{Terminal, offers};

/// The programs that have completions. The Makefile installs those that it lists as COMPLETED.
fn programs() -> Vec<(&'static str, Command)> {
    vec![
        ("pmxcfs", pmxcfs::options::command()),
        ("pmxcfs-db", pmxcfs::dbtool::command()),
        ("pmxcfs-ctl", pmxcfs::ctl::command()),
    ]
}

fn file(program: &str, shell: Shell) -> PathBuf {
    let name = match shell {
        Shell::Zsh => format!("_{program}"),
        shell => format!("{program}.{shell}"),
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(name)
}

/// clap_complete's script for Bash looks up a subcommand by a label that begins with the program's name, but spells a
/// dash in that name in two ways.
fn with_matching_labels(program: &str, script: Vec<u8>) -> Vec<u8> {
    let script = String::from_utf8(script).expect("a script in UTF-8");
    script.replace(&program.replace('-', "__subcmd__"), &program.replace('-', "__")).into_bytes()
}

#[test]
fn they_are_those_of_the_programs() {
    let write = std::env::var_os("PMXCFS_WRITE_COMPLETIONS").is_some();
    for (program, mut command) in programs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            generate(shell, &mut command, program, &mut text);
            let text = if shell == Shell::Bash { with_matching_labels(program, text) } else { text };
            let path = file(program, shell);
            if write {
                fs::create_dir_all(path.parent().expect("in the project")).expect("a directory");
                fs::write(&path, &text).expect("written");
            }
            let committed = fs::read(&path).unwrap_or_default();
            assert!(committed == text, "'{}' is not up to date: make completions", path.display());
        }
    }
}

#[test]
fn those_and_no_others_are_installed() {
    let makefile =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).expect("readable");
    let listed = makefile.lines().find_map(|line| line.strip_prefix("COMPLETED = ")).expect("listed");
    let names: Vec<&str> = programs().iter().map(|(name, _)| *name).collect();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), names);
}

/// Words of a completion: the line before them, and all that must be offered.
type Offer = (String, Vec<String>);

/// Options of a command and of its subcommands.
fn options(before: &str, command: &Command, found: &mut Vec<Offer>) {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let longs = shown.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
    found.push((format!("{before} --"), longs.chain(["--help".to_owned()]).collect()));
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        options(&format!("{before} {}", subcommand.get_name()), subcommand, found);
    }
}

/// Subcommands, and values of options that take one of a list.
fn lists(before: &str, command: &Command, found: &mut Vec<Offer>) {
    let subcommands: Vec<String> =
        command.get_subcommands().map(|subcommand| subcommand.get_name().to_owned()).collect();
    if !subcommands.is_empty() {
        found.push((format!("{before} "), subcommands));
    }
    for argument in command.get_arguments() {
        let values = argument.get_possible_values();
        let names: Vec<String> = values.iter().map(|value| value.get_name().to_owned()).collect();
        if let (Some(long), false) = (argument.get_long(), names.is_empty()) {
            found.push((format!("{before} --{long} "), names));
        }
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        lists(&format!("{before} {}", subcommand.get_name()), subcommand, found);
    }
}

#[test]
fn bash_offers_all_subcommands_options_and_values() {
    let scripts: Vec<PathBuf> = programs().iter().map(|(program, _)| file(program, Shell::Bash)).collect();
    let mut terminal = Terminal::bash(&scripts);
    let mut offered = Vec::new();
    for (program, command) in programs() {
        options(program, &command, &mut offered);
        lists(program, &command, &mut offered);
    }
    assert!(offered.len() > 20, "{} lines are too few", offered.len());
    for (line, expected) in offered {
        let text = terminal.complete(&line);
        for word in expected {
            assert!(offers(&text, &line, &word), "'{line}' does not offer {word}: {text:?}");
        }
    }
}
