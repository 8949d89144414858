//! `pmxcfs-db`: looks at, repairs and moves database files while no daemon has them.
//!
//! One module for each verb. The rules that a database must obey are those of [`crate::memdb`], and only
//! [`crate::store`] opens the file. Nothing is printed but through [`Output`], nothing is written before
//! everything that can refuse it was looked at, and a verb that only reads leaves no trace.

mod backup;
mod check;
mod compact;
mod copy_before;
mod diff;
mod dump;
mod export;
mod import;
mod in_use;
mod info;
mod output;
mod place;
mod repair;
mod restore;
mod space;
mod table;
mod text;

use crate::store::StoreError;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
pub use output::Output;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// What scripts see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well: no faults, no differences, done.
    Good = 0,
    /// There are faults, or differences.
    Found = 1,
    /// It could not be done.
    Failed = 2,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The database file is in the way.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody reads what is printed.
    #[error("unable to print: {0}")]
    Print(io::Error),
    /// Anything else: what, where, what to do.
    #[error("{0}")]
    Refused(String),
}

impl From<io::Error> for ToolError {
    fn from(error: io::Error) -> Self {
        Self::Print(error)
    }
}

type Verdict = Result<Exit, ToolError>;

/// The command line, also for who makes completions or a manual of it.
pub fn command() -> Command {
    Command::new("pmxcfs-db")
        .about("Checks, repairs, shows and moves pmxcfs databases")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .global(true)
                .help("Print JSON, for programs"),
        )
        .subcommands([
            verb("check", "List all that is wrong with a database").arg(database("FILE")),
            verb("dump", "Print the table, or one entry with its contents")
                .arg(database("FILE"))
                .arg(path("PATH").required(false).help("Path of the entry, without /etc/pve"))
                .arg(flag("contents", "Print only the contents of the entry, as they are")),
            verb("repair", "Show what would make a database sound, or do it")
                .arg(database("FILE"))
                .arg(flag("apply", "Do it, after a copy was made"))
                .arg(backup().requires("apply")),
            verb("diff", "Compare two databases")
                .arg(database("FILE"))
                .arg(path("OTHER").help("The other database"))
                .arg(flag("tree", "Compare only paths, types and contents")),
            verb("export", "Make a directory tree from a database")
                .arg(database("FILE"))
                .arg(path("DIR").help("The directory to make; it may be there if it is empty")),
            verb("import", "Make a database from a directory tree")
                .arg(path("DIR").help("The directory, like a copy of /etc/pve"))
                .arg(path("FILE").help("The database to make; it may be there if there is nothing in it")),
            verb("backup", "Copy a database, in use or not, and check the copy")
                .arg(of_node())
                .arg(
                    Arg::new("keep")
                        .long("keep")
                        .value_name("N")
                        .value_parser(value_parser!(u32).range(1..))
                        .help("Remove all but the N newest copies in the directory"),
                )
                .arg(path("TARGET").help("The file to make, or a directory for a file named by its time")),
            verb("restore", "Put a copy in the place of a database that no daemon has").arg(of_node()).arg(
                path("COPY").help("A database, or the text of sqlite3's .dump, also compressed by gzip"),
            ),
            verb("info", "Print what a database holds and how").arg(database("FILE")),
            verb("compact", "Write a database anew, with small pages").arg(database("FILE")).arg(backup()),
        ])
}

fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about)
}

fn path(name: &'static str) -> Arg {
    Arg::new(name).required(true).value_name(name).value_parser(value_parser!(PathBuf))
}

fn database(name: &'static str) -> Arg {
    path(name).help("The database, like /var/lib/pve-cluster/config.db")
}

fn of_node() -> Arg {
    path("database")
        .required(false)
        .long("database")
        .value_name("FILE")
        .help("The database, if it is not that of this node")
}

fn backup() -> Arg {
    path("backup")
        .required(false)
        .long("backup")
        .value_name("COPY")
        .help("Where the copy goes; never onto a file that is there")
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// The value of a required argument.
fn given(arguments: &ArgMatches, name: &str) -> PathBuf {
    arguments.try_get_one::<PathBuf>(name).ok().flatten().cloned().unwrap_or_default()
}

fn node_database(arguments: &ArgMatches) -> PathBuf {
    arguments.get_one::<PathBuf>("database").cloned().unwrap_or_else(backup::default_database)
}

/// Runs a command line, program name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>, output: &mut Output<'_>) -> Exit {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return usage(&error, output),
    };
    output.json = matches.get_flag("json");
    let verdict = match matches.subcommand() {
        Some((verb, arguments)) => dispatch(verb, arguments, output),
        None => Ok(Exit::Failed),
    };
    output.end_progress();
    // What was printed may still be on its way.
    let verdict = verdict.and_then(|exit| output.flush().map(|()| exit).map_err(ToolError::Print));
    verdict.unwrap_or_else(|error| {
        // `pmxcfs-db dump FILE | head` is no reason to complain.
        if !matches!(&error, ToolError::Print(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            output.complain(&error.to_string());
        }
        Exit::Failed
    })
}

fn dispatch(verb: &str, arguments: &ArgMatches, output: &mut Output<'_>) -> Verdict {
    let file = given(arguments, "FILE");
    match verb {
        "check" => check::run(&file, output),
        "dump" => {
            let path = arguments.get_one::<PathBuf>("PATH");
            dump::run(&file, path.map(PathBuf::as_path), arguments.get_flag("contents"), output)
        }
        "repair" if arguments.get_flag("apply") => {
            let backup = arguments.get_one::<PathBuf>("backup");
            repair::apply(&file, backup.map(PathBuf::as_path), output)
        }
        "repair" => repair::plan(&file, output),
        "diff" => diff::run(&file, &given(arguments, "OTHER"), arguments.get_flag("tree"), output),
        "export" => export::run(&file, &given(arguments, "DIR"), output),
        "import" => import::run(&given(arguments, "DIR"), &file, output),
        "backup" => {
            let keep = arguments.get_one::<u32>("keep").copied();
            backup::run(&node_database(arguments), &given(arguments, "TARGET"), keep, output)
        }
        "restore" => restore::run(&node_database(arguments), &given(arguments, "COPY"), output),
        "info" => info::run(&file, output),
        "compact" => {
            let backup = arguments.get_one::<PathBuf>("backup");
            compact::run(&file, backup.map(PathBuf::as_path), output)
        }
        _ => Ok(Exit::Failed),
    }
}

fn usage(error: &clap::Error, output: &mut Output<'_>) -> Exit {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return if output.print(&text).is_ok() { Exit::Good } else { Exit::Failed };
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let said = said.join(" ");
    let said = said.trim_start_matches("error: ");
    output
        .complain(&format!("{}; see pmxcfs-db --help", if said.is_empty() { "no verb given" } else { said }));
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
