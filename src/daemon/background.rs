//! Going into the background: the program starts itself again as a child, and the parent waits for
//! one byte that says "serving". It decides nothing about the daemon itself.
//!
//! A second start instead of a fork, because a fork without exec is only sound before the first
//! thread, and needs unsafe code even then. The child inherits standard error, so that everything
//! that goes wrong until the tree is served is seen where the command was typed; its standard output
//! is the pipe to the parent.

use nix::unistd;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in the environment of the child.
const CHILD_MARK: &str = "PMXCFS_BACKGROUND_CHILD";

/// What the child writes when it serves.
const READY: u8 = b'1';

/// True in a process that [`start`] made.
pub fn is_child() -> bool {
    std::env::var_os(CHILD_MARK).is_some()
}

/// Starts the program again in the background. Returns once it serves.
///
/// # Errors
/// When the child cannot be started, or ended before it served (it has said why on standard error).
pub fn start() -> io::Result<()> {
    let mut arguments = std::env::args_os();
    let program_name = arguments.next().unwrap_or_else(|| "pmxcfs".into());
    // The real path, so that the process keeps the program's name in process lists.
    let mut child = Command::new(std::env::current_exe()?)
        .arg0(program_name)
        .args(arguments)
        .env(CHILD_MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut word = [0u8; 1];
    let read = match child.stdout.take() {
        Some(mut pipe) => pipe.read(&mut word)?,
        None => 0,
    };
    if read == 1 && word[0] == READY {
        return Ok(());
    }
    let status = child.wait()?;
    Err(io::Error::other(format!("the daemon ended before it served the tree ({status})")))
}

/// In the child: tells the parent that the tree is served, and lets go of the terminal.
///
/// # Errors
/// When the parent is gone or `/dev/null` cannot be opened.
pub fn tell_ready() -> io::Result<()> {
    io::stdout().write_all(&[READY])?;
    io::stdout().flush()?;
    leave_terminal()
}

fn leave_terminal() -> io::Result<()> {
    unistd::setsid()?;
    crate::logging::leave_stderr();
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)?;
    Ok(())
}
