//! Free space that a verb needs, per file system. It is known, printed and checked before the verb writes anything.

use super::place::refused;
use super::{Output, ToolError};
use crate::dir::Dir;
use crate::memdb::Row;
use crate::store::Site;
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;

/// Log and shared memory of a new database until it is closed, and rounding up to blocks.
const OVERHEAD_BYTES: u64 = 128 << 10;

/// Largest pages of a database that the daemon or stock makes. A changed row can touch two of them beside its contents.
const PAGE_BYTES_MAX: u64 = 4096;

/// Columns of a row beside its name and contents, as SQLite stores them.
const COLUMNS_BYTES: u64 = 64;

/// Upper bounds of the bytes that a verb writes, summed by file system.
#[derive(Debug, Default)]
pub(super) struct Space {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    file_system: u64,
    dir: PathBuf,
    free: u64,
    needed: u64,
}

impl Space {
    /// Adds bytes that are written to files in `dir`.
    pub fn add(&mut self, dir: &Dir, bytes: u64) -> Result<(), ToolError> {
        let unable = |error: io::Error| refused("find the free space of", dir.path(), &error);
        // The first write fails with the better words.
        if dir.is_read_only().map_err(unable)? {
            return Ok(());
        }
        let file_system = dir.file_system().map_err(unable)?;
        let needed = bytes.saturating_add(OVERHEAD_BYTES);
        match self.parts.iter_mut().find(|part| part.file_system == file_system) {
            Some(part) => part.needed = part.needed.saturating_add(needed),
            None => {
                let (dir, free) = (dir.path().to_owned(), dir.free_bytes().map_err(unable)?);
                self.parts.push(Part { file_system, dir, free, needed });
            }
        }
        Ok(())
    }

    /// Adds bytes that are written to the private directory for temporary files.
    pub fn add_temporary(&mut self, bytes: u64) -> Result<(), ToolError> {
        let path = std::env::temp_dir();
        let dir = Dir::open(&path).map_err(|error| refused("open", &path, &error))?;
        self.add(&dir, bytes)
    }

    /// Fails if a file system has less free space than is needed.
    pub fn check(&self) -> Result<(), ToolError> {
        match self.parts.iter().find(|part| part.free < part.needed) {
            None => Ok(()),
            Some(part) => Err(ToolError::Refused(format!(
                "up to {} bytes of free space are needed in '{}', which has {}; free some space there, or use another \
                 place for the copy (--backup) and for temporary files (TMPDIR); nothing was changed",
                part.needed,
                part.dir.display(),
                part.free
            ))),
        }
    }

    /// Prints one line for each file system.
    pub fn print(&self, output: &mut Output<'_>) -> io::Result<()> {
        for Part { dir, free, needed, .. } in &self.parts {
            let dir = dir.display();
            output.line(&format!("needs up to {needed} bytes of free space in '{dir}', which has {free}"))?;
        }
        output.flush()
    }

    /// For programs.
    pub fn json(&self) -> Vec<Value> {
        let json = |part: &Part| json!({ "dir": part.dir.to_string_lossy(), "needed": part.needed, "free": part.free });
        self.parts.iter().map(json).collect()
    }
}

/// Bytes of a database and its log.
pub(super) fn bytes_of(site: &Site) -> Result<u64, ToolError> {
    let bytes = || -> io::Result<u64> {
        let (file, log) = (site.entry()?, site.beside("-wal")?);
        Ok(file.map_or(0, |found| found.bytes) + log.map_or(0, |found| found.bytes))
    };
    bytes().map_err(|error| refused("read", site.path(), &error))
}

/// Upper bound of the bytes that a database needs for these rows.
pub(super) fn bytes_of_rows<'a>(rows: impl IntoIterator<Item = &'a Row>) -> u64 {
    rows.into_iter()
        .map(|row| {
            let contents = row.data.as_ref().map_or(0, |data| data.len());
            let bytes = (row.name.len() + contents) as u64 + COLUMNS_BYTES;
            // A small row may have a page to itself, a large one a page that is not full.
            bytes + bytes.min(PAGE_BYTES_MAX)
        })
        .sum()
}

/// Upper bound of the bytes that one transaction with these rows adds to the log.
pub(super) fn bytes_of_change<'a>(deleted: usize, rows: impl IntoIterator<Item = &'a Row>) -> u64 {
    let (mut count, mut bytes) = (deleted as u64, 0);
    for row in rows {
        count += 1;
        bytes += bytes_of_rows([row]);
    }
    bytes + 2 * count * PAGE_BYTES_MAX
}
