//! The entry point of `pmxcfs-db`: standard streams and exit code; see [`pmxcfs::dbtool`].

use pmxcfs::dbtool::{self, Output};
use pmxcfs::dir;
use std::io::{BufWriter, IsTerminal};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = dir::remove_on_signals() {
        eprintln!("pmxcfs-db: a signal will leave temporary files: {error}");
    }
    let (mut results, mut complaints) = (BufWriter::new(std::io::stdout().lock()), std::io::stderr().lock());
    let is_terminal = complaints.is_terminal();
    let mut output = Output::new(&mut results, &mut complaints, is_terminal);
    ExitCode::from(dbtool::run(std::env::args_os(), &mut output) as u8)
}
