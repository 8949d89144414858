//! The program's entry point: where its output goes, and its exit code.

use pmxcfs::ctl::{self, CtlError};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = ctl::run(std::env::args_os(), &mut out);
    let code = match &result {
        Ok(()) => 0,
        Err(error) => error.exit_code(),
    };
    match result {
        Err(CtlError::Help(text)) => {
            // Who closed the pipe has read enough.
            let _ = write!(out, "{text}").and_then(|()| out.flush());
        }
        Err(error) if code != 0 => eprintln!("pmxcfs-ctl: {error}"),
        _ => {}
    }
    ExitCode::from(code)
}
