//! Where log lines go: the system log, as `pmxcfs` of the daemon facility, and standard error until
//! the daemon is in the background. It owns the form of a line and the debug switch, never what is
//! said: `[domain] level: text`, where the domain is the target of the `log` macros.

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::sys::stat::fstat;
use nix::syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// A line is cut at this many bytes, as the system log would.
const LINE_SIZE_MAX: usize = 8192;

struct Logger {
    to_stderr: AtomicBool,
}

static LOGGER: Logger = Logger { to_stderr: AtomicBool::new(true) };

/// Starts logging; a second call has no effect.
pub fn start(debug: bool) {
    if log::set_logger(&LOGGER).is_ok() {
        let flags = LogFlags::LOG_PID | LogFlags::LOG_NDELAY;
        if let Err(error) = openlog(Some(c"pmxcfs"), flags, Facility::LOG_DAEMON) {
            // Called when the log itself fails.
            let _ = writeln!(std::io::stderr(), "no system log: {error}");
        }
    }
    // Where standard error leads to the system's journal, each line would be there twice.
    if stderr_is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        leave_stderr();
    }
    set_debug(debug);
}

/// Whether standard error is the stream that the service manager says leads to the journal.
fn stderr_is_journal(stream: Option<&str>) -> bool {
    let Ok(stat) = fstat(std::io::stderr()) else { return false };
    stream.is_some_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Switches debug messages on or off.
pub fn set_debug(on: bool) {
    log::set_max_level(if on { LevelFilter::Debug } else { LevelFilter::Info });
}

/// True while debug messages are logged.
pub fn is_debug() -> bool {
    log::max_level() >= LevelFilter::Debug
}

/// From now on only the system log: standard error belongs to somebody else.
pub fn leave_stderr() {
    LOGGER.to_stderr.store(false, Ordering::Relaxed);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format_line(record);
        if self.to_stderr.load(Ordering::Relaxed) {
            // Nobody is told when standard error is gone: there is nowhere left to say it.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
        let priority = Priority::new(severity(record.level()), Facility::LOG_DAEMON);
        // The system log reconnects by itself; a line that it refuses has no other place to go.
        let _ = syslog(priority, line.as_str());
    }

    fn flush(&self) {}
}

fn format_line(record: &Record<'_>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail; a Display that does keeps what it wrote so far.
    let _ = write!(text, "{}", record.args());
    let mut line = format!("[{}] {}: ", domain(record.target()), level_name(record.level()));
    for c in text.chars() {
        if line.len() + 8 > LINE_SIZE_MAX {
            break;
        }
        match c {
            // Control characters would forge further lines; log readers expect ASCII.
            '\u{0}'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(line, "#{:03}", u32::from(c));
            }
            ' '..='~' => line.push(c),
            _ if u32::from(c) < 0x10000 => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            _ => {}
        }
    }
    line
}

/// Lines without a domain of their own, and those of libraries, are the daemon's.
fn domain(target: &str) -> &str {
    if target.contains("::") || target == "pmxcfs" { "main" } else { target }
}

/// The words that operators grep for.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "crit",
        Level::Warn => "warning",
        Level::Info => "notice",
        Level::Debug | Level::Trace => "debug",
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Error => Severity::LOG_CRIT,
        Level::Warn => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_NOTICE,
        Level::Debug | Level::Trace => Severity::LOG_DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, target: &str, text: &str) -> String {
        format_line(&Record::builder().level(level).target(target).args(format_args!("{text}")).build())
    }

    #[test]
    fn lines_have_domain_level_and_text() {
        assert_eq!(line(Level::Info, "status", "node has quorum"), "[status] notice: node has quorum");
        assert_eq!(line(Level::Error, "pmxcfs::daemon", "x"), "[main] crit: x");
        assert_eq!(line(Level::Warn, "pmxcfs", "x"), "[main] warning: x");
        assert_eq!(line(Level::Debug, "fuser::session", "x"), "[main] debug: x");
    }

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let stat = fstat(std::io::stderr()).expect("open");
        assert!(stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        assert!(!stderr_is_journal(Some("nonsense")));
        assert!(!stderr_is_journal(None));
    }

    #[test]
    fn a_text_cannot_forge_a_line() {
        assert_eq!(line(Level::Info, "main", "a\nb\u{7f}ü😀c"), "[main] notice: a#010b#127\\u00fcc");
        assert!(line(Level::Info, "main", &"x".repeat(20_000)).len() <= LINE_SIZE_MAX);
    }
}
