//! Reading what can be read of a file of which parts are damaged: from the front, and on from behind each
//! part that cannot be read. It never decides what is done with the rows.

use super::Fault;
use super::rows::{self, LooseRow};
use rusqlite::{Connection, OptionalExtension};

/// So many numbers in all are tried one by one, where parts that can be read may lie between others.
const TRIES_MAX: i64 = 20_000;

const NEXT: &str = "SELECT inode FROM tree WHERE inode >= ?1 ORDER BY inode LIMIT 1";

/// Hands every row that can be read to `take`, by rising inode unless something is damaged; then the result
/// is what SQLite says of that.
pub(super) fn read(connection: &Connection, mut take: impl FnMut(LooseRow)) -> Result<Option<String>, Fault> {
    let (mut damage, mut start, mut tries) = (None, i64::MIN, TRIES_MAX);
    loop {
        let mut last = start;
        let read = rows::load_loose(connection, rows::LOAD_FROM, &[start], |row| {
            last = last.max(row.row.inode as i64);
            take(row);
        });
        match read {
            Ok(()) => return Ok(damage),
            Err(Fault::Corrupt(text) | Fault::Io(text)) => damage.get_or_insert(text),
            Err(fault) => return Err(fault),
        };
        let next = next_readable(connection, last);
        let end = next.unwrap_or(i64::MAX).min(last.max(-1).saturating_add(tries));
        for inode in last.max(-1).saturating_add(1)..end {
            tries -= 1;
            // A number that is in a damaged part is as one that is not there.
            let _ = rows::load_loose(connection, rows::LOAD_ONE, &[inode], &mut take);
        }
        match next {
            Some(inode) => start = inode,
            None => return Ok(damage),
        }
    }
}

/// The first row behind `last` that can be reached: looked for in steps that double, then between the last
/// two of them.
fn next_readable(connection: &Connection, last: i64) -> Option<i64> {
    let seek = |from: i64| connection.query_row(NEXT, [from], |row| row.get::<_, i64>(0)).optional();
    let (mut bad, mut step) = (last, 1i64);
    let mut good = loop {
        let from = last.checked_add(step)?;
        match seek(from) {
            Ok(found) => break (from, found),
            Err(_) => bad = from,
        }
        step = step.checked_mul(2)?;
    };
    while bad + 1 < good.0 {
        let middle = bad + (good.0 - bad) / 2;
        match seek(middle) {
            Ok(found) => good = (middle, found),
            Err(_) => bad = middle,
        }
    }
    // In a damaged file it may even lie before.
    good.1.filter(|&found| found > last)
}
