//! What the writer's thread does with each update: makes the file if it is missing, hands the values
//! to rrdcached or writes them itself, and logs what fails, not too often. No error ends it.

use super::queue::{Next, Queue};
use super::rrdcached::{Error as CachedError, Rrdcached};
use super::{Options, librrd, schema};
use crate::clock::Clock;
use crate::status::RrdUpdate;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As many error lines may be logged within [`LOG_SPAN`]: one broken disk fails every guest.
const LOG_MAX: u32 = 10;
const LOG_SPAN: Duration = Duration::from_secs(60);

struct Writer {
    base_dir: PathBuf,
    clock: Clock,
    rrdcached: Rrdcached,
    /// Whether rrdcached took or refused the last update, so that only a change is logged.
    rrdcached_answers: bool,
    errors: ErrorLog,
}

/// Runs until the queue ends.
pub(super) fn run(queue: &Queue, options: Options, clock: Clock) {
    /// Tells of the end even when a panic is the reason.
    struct Ended<'a>(&'a Queue);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    let _ended = Ended(queue);
    let mut writer = Writer {
        base_dir: options.base_dir,
        clock,
        rrdcached: Rrdcached::new(options.rrdcached_socket, clock),
        rrdcached_answers: false,
        errors: ErrorLog::default(),
    };
    loop {
        match queue.next() {
            Next::Write(update) => writer.write(&update),
            Next::Dropped(count) => {
                log::warn!("RRD files cannot be written fast enough: {count} old updates were dropped");
            }
            Next::End => return,
        }
    }
}

impl Writer {
    fn write(&mut self, update: &RrdUpdate) {
        let file = self.base_dir.join(OsStr::from_bytes(&update.file));
        if !file.exists() {
            self.create(&file, update);
        }
        if self.hand_over(&file, &update.values) {
            return;
        }
        if let Err(error) = librrd::update(&file, &update.values) {
            self.errors.log(self.clock.uptime(), &format!("RRD update error {}: {error}", file.display()));
        }
    }

    /// Makes a file with the directories above it. A failure shows again at the update.
    fn create(&mut self, file: &Path, update: &RrdUpdate) {
        let now = self.clock.uptime();
        if let Some(dir) = file.parent() {
            if let Err(error) = DirBuilder::new().recursive(true).mode(0o750).create(dir) {
                self.errors.log(now, &format!("could not create directory {}: {error}", dir.display()));
            }
        }
        let start = librrd::local_midnight(self.clock.unix());
        let definitions = schema::definitions(update.schema);
        if let Err(error) = librrd::create(file, schema::STEP, start, &definitions) {
            self.errors.log(now, &format!("RRD create error {}: {error}", file.display()));
        }
    }

    /// Gives the values to rrdcached; false when they must be written directly.
    fn hand_over(&mut self, file: &Path, values: &[u8]) -> bool {
        let outcome = self.rrdcached.update(file, values);
        let answers = !matches!(outcome, Err(CachedError::Away(_) | CachedError::Resting));
        if answers != self.rrdcached_answers {
            self.rrdcached_answers = answers;
            match &outcome {
                Err(error) if !answers => {
                    log::warn!("rrdcached does not answer, RRD files are written directly: {error}");
                }
                _ => log::info!("RRD files are written by rrdcached"),
            }
        }
        if let Err(CachedError::Refused(reason)) = &outcome {
            self.errors.log(self.clock.uptime(), &format!("RRDC update error {}: {reason}", file.display()));
        }
        outcome.is_ok()
    }
}

/// Lets so many error lines through in a while, and counts the rest.
#[derive(Debug, Default)]
struct ErrorLog {
    span_start: Duration,
    count: u32,
}

impl ErrorLog {
    fn log(&mut self, now: Duration, line: &str) {
        for line in self.admit(now, line) {
            log::error!("{line}");
        }
    }

    /// The lines to log when one more comes up.
    fn admit(&mut self, now: Duration, line: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if now.saturating_sub(self.span_start) >= LOG_SPAN {
            let hidden = self.count.saturating_sub(LOG_MAX);
            if hidden > 0 {
                lines.push(format!("{hidden} more RRD errors were not logged"));
            }
            *self = ErrorLog { span_start: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        if self.count <= LOG_MAX {
            lines.push(line.to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_logged_not_too_often() {
        let mut errors = ErrorLog::default();
        let at = Duration::from_secs;
        let logged: usize = (0..100).map(|_| errors.admit(at(5), "bad").len()).sum();
        assert_eq!(logged, 10);
        assert_eq!(errors.admit(at(65), "bad"), ["90 more RRD errors were not logged", "bad"]);
        assert_eq!(errors.admit(at(300), "bad"), ["bad"]);
    }
}
