//! The daemon's entry point: options, foreground or background, exit code.

use pmxcfs::daemon::{self, background, guard, watchdog};
use pmxcfs::logging;
use pmxcfs::options::{Config, Options, OptionsError};
use std::io::Write;
use std::process::ExitCode;

/// What the service manager and scripts see.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Exit {
    Stopped = 0,
    WrongUsage = 1,
    CannotStart = 255,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    logging::start(false);
    if guard::run_if_guard() || watchdog::run_if_probe() {
        return Exit::Stopped.into();
    }
    match Options::parse(std::env::args_os()) {
        Ok(options) => run(&options).into(),
        Err(OptionsError::Help(text)) => {
            // Fails if the reader of a pipe has closed it, and then needs no more output.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Stopped.into()
        }
        Err(OptionsError::Usage(text)) => {
            log::error!("{text}");
            Exit::WrongUsage.into()
        }
    }
}

fn run(options: &Options) -> Exit {
    logging::set_debug(options.debug);
    if options.foreground || background::is_child() {
        return serve(options);
    }
    match background::start() {
        Ok(()) => Exit::Stopped,
        Err(error) => {
            log::error!("{error}");
            Exit::CannotStart
        }
    }
}

fn serve(options: &Options) -> Exit {
    let config = match Config::resolve(options) {
        Ok(config) => config,
        Err(error) => {
            log::error!("{error}");
            return Exit::CannotStart;
        }
    };
    let ready = || if background::is_child() { background::tell_ready() } else { Ok(()) };
    let exit = match daemon::run(&config, ready) {
        Ok(_) => Exit::Stopped,
        Err(error) => {
            log::error!("{error}");
            Exit::CannotStart
        }
    };
    log::info!("exit proxmox configuration filesystem ({})", exit as u8);
    exit
}
