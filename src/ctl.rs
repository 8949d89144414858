//! `pmxcfs-ctl`: what an admin and a monitoring system ask a running daemon. It reads its command line,
//! asks over the IPC service, and prints text or JSON. It changes nothing, and works against a stock
//! daemon as far as that one answers: what it does not tell is called unknown.

mod daemon;
mod get;
mod guests;
mod log;
mod metrics;
mod options;
mod status;
mod text;
mod watch;

pub use options::command;

use crate::ipc::qb::client::ClientError;
use crate::ipc::qb::{Holder, Namespace};
use options::{Action, Options};
use std::ffi::OsString;
use std::io::{self, Write};

/// Why there is no answer, with one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Help or the version was asked for: the text.
    #[error("{0}")]
    Help(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// Nobody serves.
    #[error(
        "no daemon serves '{service}': is pmxcfs running? (systemctl status pve-cluster; another name: --service)"
    )]
    NotRunning {
        /// The service.
        service: String,
    },
    /// Another program has the service's name.
    #[error(
        "the name of the service, '{service}', is taken by {holder}: end that process; a running pmxcfs then \
         serves within a second (its log has the details)"
    )]
    NameTaken {
        /// The service.
        service: String,
        /// The process.
        holder: Holder,
    },
    /// This user may not ask that.
    #[error("{0}: permission denied; root may ask everything, the group www-data what is not private")]
    NoPermission(String),
    /// No answer in time.
    #[error(
        "no answer within {seconds} s: the daemon hangs or is overloaded (see its log; longer: --timeout)"
    )]
    TimedOut {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Stock daemons do not know that request.
    #[error("this daemon cannot tell: {0} needs pmxcfs of this project to run, not a stock one")]
    Unsupported(&'static str),
    /// The daemon's database file is not at its path any more.
    #[error("the database: {0}")]
    FileLost(String),
    /// Anything else that the daemon or the system said.
    #[error("{0}")]
    Failed(String),
    /// Nobody reads the output any more, or it cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CtlError {
    /// What the program exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            // Who closed a pipe has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Failed(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::NotRunning { .. } | Self::NameTaken { .. } => 3,
            Self::NoPermission(_) => 4,
            Self::TimedOut { .. } => 5,
            Self::Unsupported(_) => 6,
            Self::FileLost(_) => 7,
        }
    }

    fn of_client(error: ClientError, options: &Options) -> Self {
        let service = || options.service.clone();
        // A process that does not accept connections, or has only bound the name, looks like a daemon that
        // hangs or is missing.
        let taken = || {
            let holder = Holder::find(&options.service, &Namespace::Machine)?;
            (!holder.is_trusted()).then(|| Self::NameTaken { service: service(), holder })
        };
        let not_running = || taken().unwrap_or_else(|| Self::NotRunning { service: service() });
        match error {
            ClientError::Untrusted(server) => {
                Self::NameTaken { service: service(), holder: Holder::of_process(server) }
            }
            ClientError::TimedOut | ClientError::Busy => {
                taken().unwrap_or(Self::TimedOut { seconds: options.timeout.as_secs() })
            }
            ClientError::NotConnected => not_running(),
            ClientError::Refused(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        Self::NoPermission("connecting to the daemon".to_owned())
                    }
                    _ => Self::Failed(format!("the daemon refuses the connection: {error}")),
                }
            }
            ClientError::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => not_running(),
                io::ErrorKind::PermissionDenied => Self::NoPermission("connecting to the daemon".to_owned()),
                _ => Self::Failed(format!("cannot connect to '{}': {error}", options.service)),
            },
            other => Self::Failed(format!("talking to '{}': {other}", options.service)),
        }
    }
}

/// Does what a command line says, program name first.
///
/// # Errors
/// [`CtlError`] is one line for the user, and has the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> Result<(), CtlError> {
    let options = Options::parse(arguments)?;
    match &options.action {
        Action::Status { interval } => status::run(&options, *interval, out)?,
        Action::Log(filter) => log::run(&options, filter, out)?,
        Action::Guests(filter) => guests::run(&options, filter, out)?,
        Action::Get(what) => get::run(&options, what, out)?,
        Action::Metrics(target) => metrics::run(&options, target, out)?,
        Action::Watch(filter) => watch::run(&options, filter, out)?,
    }
    Ok(out.flush()?)
}
