//! Where the words of the tool go: results to one stream, complaints and progress to another. It never
//! decides what is said.

use std::io::{self, Write};

/// So many steps lie between two marks of progress.
const STEPS_PER_MARK: u64 = 2048;

/// The two streams, and how to write to them.
pub struct Output<'a> {
    results: &'a mut dyn Write,
    complaints: &'a mut dyn Write,
    /// Whether complaints go to a terminal: only there progress is shown.
    is_terminal: bool,
    /// Whether results are for programs.
    pub(super) json: bool,
    is_marked: bool,
}

impl<'a> Output<'a> {
    /// Results to the one, complaints to the other, which may be a terminal.
    pub fn new(results: &'a mut dyn Write, complaints: &'a mut dyn Write, is_terminal: bool) -> Self {
        Self { results, complaints, is_terminal, json: false, is_marked: false }
    }

    /// A part of the result, as it is.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// The same for what may be no text.
    pub(super) fn print_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.end_progress();
        self.results.write_all(bytes)?;
        self.results.flush()
    }

    /// A line of the result.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.end_progress();
        writeln!(self.results, "{text}")
    }

    /// Sends off what was printed.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.results.flush()
    }

    /// The whole result for programs.
    pub(super) fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.line(&format!("{value:#}"))
    }

    /// A line about what went wrong. There is nobody to tell when that cannot be said.
    pub(super) fn complain(&mut self, text: &str) {
        self.end_progress();
        let _ = self.results.flush();
        let _ = writeln!(self.complaints, "pmxcfs-db: {text}");
    }

    /// Shows that something long goes on, to who watches.
    pub(super) fn progress(&mut self, what: &str) {
        if self.is_terminal {
            self.is_marked = true;
            let _ = write!(self.complaints, "\r\x1b[K{what}");
            let _ = self.complaints.flush();
        }
    }

    /// [`Output::progress`] for each of many steps.
    pub(super) fn step(&mut self, what: &str, done: u64) {
        if done % STEPS_PER_MARK == 0 {
            self.progress(&format!("{what}: {done}"));
        }
    }

    /// Takes the marks of progress off the screen.
    pub(super) fn end_progress(&mut self) {
        if std::mem::take(&mut self.is_marked) {
            let _ = write!(self.complaints, "\r\x1b[K");
        }
    }
}
