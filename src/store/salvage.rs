//! Reading what can be read of a file of which parts are damaged: from the front, from the back, and in
//! between number by number. It never decides what is done with the rows.

use super::Fault;
use super::rows::{self, LooseRow};
use rusqlite::Connection;

/// So many numbers are tried one by one, which takes seconds.
const TRIES_MAX: i64 = 4_000_000;

/// Hands every row that can be read to `take`, by rising inode unless something is damaged; then the result
/// is what SQLite says of that.
pub(super) fn read(connection: &Connection, mut take: impl FnMut(LooseRow)) -> Result<Option<String>, Fault> {
    let (mut last, mut highest) = (i64::MIN, 0);
    let forward = rows::load_loose(connection, rows::LOAD, &[], |row| {
        last = row.row.inode as i64;
        let known = [row.row.inode, row.row.version].map(|number| i64::try_from(number).unwrap_or(0));
        highest = known.into_iter().chain([highest]).max().unwrap_or(0);
        take(row);
    });
    let damage = match forward {
        Ok(()) => return Ok(None),
        Err(Fault::Corrupt(text) | Fault::Io(text)) => text,
        Err(fault) => return Err(fault),
    };
    let mut first = None;
    let backward = rows::load_loose(connection, rows::LOAD_BACKWARDS, &[last], |row| {
        first = Some(row.row.inode as i64);
        take(row);
    });
    if backward.is_ok() {
        return Ok(Some(damage));
    }
    // What is beyond all that was seen is not looked for far.
    let end = first.unwrap_or(highest.saturating_add(TRIES_MAX / 4));
    let begin = last.max(-1).saturating_add(1);
    for inode in begin..end.min(begin.saturating_add(TRIES_MAX)) {
        // A number that is in a damaged part is as one that is not there.
        let _ = rows::load_loose(connection, rows::LOAD_ONE, &[inode], &mut take);
    }
    Ok(Some(damage))
}
