//! Strict reader of the text that sqlite3's `.dump` prints for a database of pmxcfs. The text is not run as SQL: only
//! rows of `tree` are accepted, with literal values, and everything else is an error. Memory is bounded by the limits
//! of a tree, however long the text becomes when it is uncompressed.

use crate::memdb::{BLOCK_SIZE, BLOCKS, FILES, MAX_FILE_SIZE, NAME_BYTES_MAX, Row};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

/// The longest statement: contents in hexadecimal digits, and a name in which each byte is a quote.
const STATEMENT_MAX: usize = 2 * MAX_FILE_SIZE as usize + 2 * NAME_BYTES_MAX + 1024;

/// The longest text: a full tree, each entry with the longest numbers and a name of 255 bytes.
const TEXT_MAX: u64 = 2 * BLOCKS * BLOCK_SIZE + 1024 * FILES;

/// Fault of the text.
#[derive(Debug, thiserror::Error)]
pub(super) enum TextError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("statement {number} is none that '.dump' prints for a database of pmxcfs: '{begin}'")]
    Statement { number: u64, begin: String },
    #[error("statement {number} is longer than that of the largest file")]
    Length { number: u64 },
    #[error("it holds more than a tree can")]
    Size,
    #[error("it is not complete: the last statement is not COMMIT")]
    Incomplete,
}

/// Reads all rows. `progress` is called with the number of rows so far.
pub(super) fn read(text: impl Read, progress: impl FnMut(u64)) -> Result<Vec<Row>, TextError> {
    read_within(TEXT_MAX, BLOCKS * BLOCK_SIZE, text, progress)
}

fn read_within(
    text_max: u64,
    contents_max: u64,
    text: impl Read,
    progress: impl FnMut(u64),
) -> Result<Vec<Row>, TextError> {
    let mut statements = Statements { text: BufReader::new(text.take(text_max)), number: 0 };
    let rows = statements.rows(contents_max, progress);
    if statements.text.get_ref().limit() == 0 { Err(TextError::Size) } else { rows }
}

/// The definition of the table is not used.
fn is_table(statement: &[u8]) -> bool {
    let names: [&[u8]; 3] =
        [b"CREATE TABLE tree (", b"CREATE TABLE tree(", b"CREATE TABLE IF NOT EXISTS tree ("];
    names.iter().any(|name| statement.starts_with(name))
}

/// The text, cut at semicolons outside of strings.
struct Statements<R: Read> {
    text: BufReader<io::Take<R>>,
    number: u64,
}

impl<R: Read> Statements<R> {
    fn rows(&mut self, contents_max: u64, mut progress: impl FnMut(u64)) -> Result<Vec<Row>, TextError> {
        let (mut rows, mut bytes, mut is_complete) = (Vec::new(), 0, false);
        while let Some(statement) = self.next()? {
            let refuse = || self.refuse(&statement);
            if is_complete {
                return Err(refuse());
            }
            match &*statement {
                b"PRAGMA foreign_keys=OFF" | b"BEGIN TRANSACTION" => {}
                b"COMMIT" => is_complete = true,
                other if is_table(other) => {}
                other => {
                    let row = Values::of(other).and_then(Values::row).ok_or_else(refuse)?;
                    bytes += row.data.as_ref().map_or(0, |data| data.len() as u64);
                    if bytes > contents_max || rows.len() as u64 > FILES {
                        return Err(TextError::Size);
                    }
                    rows.push(row);
                    progress(rows.len() as u64);
                }
            }
        }
        if is_complete { Ok(rows) } else { Err(TextError::Incomplete) }
    }

    /// The next statement without its semicolon; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, TextError> {
        let (mut statement, mut in_string) = (Vec::new(), false);
        self.number += 1;
        loop {
            let part = self.text.fill_buf()?;
            if part.is_empty() {
                let rest = statement.trim_ascii();
                return if rest.is_empty() { Ok(None) } else { Err(TextError::Incomplete) };
            }
            let end = part.iter().position(|&byte| {
                in_string ^= byte == b'\'';
                byte == b';' && !in_string
            });
            let taken = end.unwrap_or(part.len());
            if statement.len() + taken > STATEMENT_MAX {
                return Err(TextError::Length { number: self.number });
            }
            statement.extend_from_slice(&part[..taken]);
            self.text.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(statement.trim_ascii().to_vec()));
            }
        }
    }

    fn refuse(&self, statement: &[u8]) -> TextError {
        let begin = statement[..statement.len().min(40)].escape_ascii().to_string();
        TextError::Statement { number: self.number, begin }
    }
}

/// The rest of the values of an INSERT.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// `None` for other statements.
    fn of(statement: &'a [u8]) -> Option<Self> {
        let rest = statement.strip_prefix(b"INSERT INTO ")?;
        let rest = rest.strip_prefix(b"tree ").or_else(|| rest.strip_prefix(b"\"tree\" "))?;
        Some(Self(rest.strip_prefix(b"VALUES(")?))
    }

    fn row(mut self) -> Option<Row> {
        let inode = self.integer()?;
        let parent = self.comma()?.integer()?;
        let version = self.comma()?.integer()?;
        let writer = self.comma()?.integer()?.try_into().ok()?;
        let mtime = self.comma()?.integer()?.try_into().ok()?;
        let kind = self.comma()?.integer()?.try_into().ok()?;
        let name = self.comma()?.string()?.into();
        let data = self.comma()?.contents()?;
        let data = (!data.is_empty()).then(|| Arc::new(data));
        (self.0 == b")").then_some(Row { inode, parent, version, writer, mtime, kind, name, data })
    }

    fn comma(&mut self) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(b",")?;
        Some(self)
    }

    fn integer(&mut self) -> Option<u64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        number.try_into().ok()
    }

    /// A string; control characters are in a call that puts them in.
    fn string(&mut self) -> Option<Vec<u8>> {
        match self.0.strip_prefix(b"replace(") {
            None => self.quoted(),
            Some(rest) => {
                self.0 = rest;
                self.replaced()
            }
        }
    }

    /// The rest of `replace('a\\nb','\\n',char(10))`, which may be nested.
    fn replaced(&mut self) -> Option<Vec<u8>> {
        let text = self.string()?;
        let mark = self.comma()?.quoted()?;
        self.0 = self.0.strip_prefix(b",char(")?;
        let byte = u8::try_from(self.integer()?).ok().filter(u8::is_ascii)?;
        self.0 = self.0.strip_prefix(b"))")?;
        if mark.is_empty() {
            return None;
        }
        let (mut result, mut rest) = (Vec::with_capacity(text.len()), text.as_slice());
        while let Some((&first, after)) = rest.split_first() {
            rest = match rest.strip_prefix(mark.as_slice()) {
                Some(behind) => {
                    result.push(byte);
                    behind
                }
                None => {
                    result.push(first);
                    after
                }
            };
        }
        Some(result)
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        self.0 = self.0.strip_prefix(b"'")?;
        let mut text = Vec::new();
        loop {
            let end = self.0.iter().position(|&byte| byte == b'\'')?;
            text.extend_from_slice(&self.0[..end]);
            self.0 = &self.0[end + 1..];
            match self.0.strip_prefix(b"'") {
                None => return Some(text),
                Some(rest) => {
                    text.push(b'\'');
                    self.0 = rest;
                }
            }
        }
    }

    fn contents(&mut self) -> Option<Vec<u8>> {
        if let Some(rest) = self.0.strip_prefix(b"NULL") {
            self.0 = rest;
            return Some(Vec::new());
        }
        let Some(rest) = self.0.strip_prefix(b"X'") else { return self.string() };
        let end = rest.iter().position(|&byte| byte == b'\'')?;
        let (digits, rest) = rest.split_at(end);
        self.0 = &rest[1..];
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let bytes = digits.chunks(2).map(|pair| match *pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        });
        bytes.collect()
    }
}

#[cfg(test)]
mod tests;
