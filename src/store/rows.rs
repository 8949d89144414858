//! Rows between SQLite and [`Row`]: types and ranges are checked here, meaning is not.

use super::{Fault, RowFault};
use crate::memdb::Row;
use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Statement};
use std::sync::Arc;

pub(super) const LOAD: &str =
    "SELECT inode, parent, version, writer, mtime, type, name, data FROM tree ORDER BY inode";

pub(super) const LOAD_FROM: &str = "SELECT inode, parent, version, writer, mtime, type, name, data
     FROM tree WHERE inode >= ?1 ORDER BY inode";

pub(super) const LOAD_ONE: &str =
    "SELECT inode, parent, version, writer, mtime, type, name, data FROM tree WHERE inode = ?1";

/// Runs `build` on all rows, read one by one; see [`super::Store::load`].
pub(super) fn load<T>(
    connection: &Connection,
    build: impl FnOnce(&mut dyn Iterator<Item = Row>) -> T,
) -> Result<T, Fault> {
    let mut statement = connection.prepare(LOAD)?;
    let mut rows = statement.query([])?;
    let mut fault = None;
    let mut next = || match rows.next() {
        Ok(None) => None,
        Ok(Some(row)) => decode(row).map_err(|error| fault = Some(error)).ok(),
        Err(error) => {
            fault = Some(Fault::from(error));
            None
        }
    };
    // Fused: SQLite starts over when it is asked again after the last row.
    let built = build(&mut std::iter::from_fn(&mut next).fuse());
    match fault {
        None => Ok(built),
        Some(fault) => Err(fault),
    }
}

/// A row of which nothing is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooseRow {
    /// What it comes nearest to: every value as SQLite converts it and as the stock daemon, which looks
    /// at no type, takes it. A negative inode is the number with the same bits.
    pub row: Row,
    /// All that makes it no row.
    pub faults: Vec<RowFault>,
}

/// Hands every row of a query to `take`, whatever is in it.
pub(super) fn load_loose(
    connection: &Connection,
    query: &str,
    values: &[i64],
    mut take: impl FnMut(LooseRow),
) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        take(decode_loose(row)?);
    }
    Ok(())
}

fn decode_loose(row: &rusqlite::Row<'_>) -> Result<LooseRow, Fault> {
    let mut faults = Vec::new();
    let inode = row.get_ref(0)?;
    if !matches!(inode, ValueRef::Integer(0..)) {
        faults.push(RowFault::Inode(shown(inode)));
    }
    let inode = loose_number(inode);
    // Above what is asked for there are only bits that stock cuts off.
    let mut number = |index, column, max: u64| -> Result<u64, Fault> {
        let value = row.get_ref(index)?;
        match value {
            ValueRef::Integer(value) if u64::try_from(value).is_ok_and(|value| value <= max) => {}
            ValueRef::Integer(value) => faults.push(RowFault::OutOfRange { inode, column, value }),
            other => faults.push(RowFault::wrong_type(inode, column, "an integer", other.data_type())),
        }
        Ok(loose_number(value) & max)
    };
    let parent = number(1, "parent", u64::MAX)?;
    let version = number(2, "version", u64::MAX)?;
    let writer = number(3, "writer", u32::MAX.into())? as u32;
    let mtime = number(4, "mtime", u32::MAX.into())? as u32;
    let kind = number(5, "type", u8::MAX.into())? as u8;
    let (name, data) = (row.get_ref(6)?, row.get_ref(7)?);
    if !matches!(name, ValueRef::Text(_)) {
        faults.push(RowFault::wrong_type(inode, "name", "text", name.data_type()));
    }
    if !matches!(data, ValueRef::Null | ValueRef::Blob(_) | ValueRef::Text(_)) {
        faults.push(RowFault::wrong_type(inode, "data", "a blob", data.data_type()));
    }
    let (name, data) = (loose_bytes(name), loose_bytes(data));
    let data = (!data.is_empty()).then(|| Arc::new(data));
    let row = Row { inode, parent, version, writer, mtime, kind, name: name.into(), data };
    Ok(LooseRow { row, faults })
}

fn loose_number(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Integer(value) => value as u64,
        ValueRef::Real(value) => value as i64 as u64,
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            let digits = std::str::from_utf8(text).unwrap_or_default().trim();
            digits.parse::<i64>().unwrap_or_default() as u64
        }
        ValueRef::Null => 0,
    }
}

fn loose_bytes(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        ValueRef::Integer(value) => value.to_string().into_bytes(),
        ValueRef::Real(value) => value.to_string().into_bytes(),
        ValueRef::Null => Vec::new(),
    }
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Integer(value) => value.to_string(),
        other => type_name(other.data_type()).to_owned(),
    }
}

fn decode(row: &rusqlite::Row<'_>) -> Result<Row, Fault> {
    let inode = match row.get_ref(0)? {
        ValueRef::Integer(value) => u64::try_from(value).map_err(|_| RowFault::Inode(value.to_string()))?,
        other => Err(RowFault::Inode(shown(other)))?,
    };
    Ok(Row {
        inode,
        parent: number(row, inode, 1, "parent")?,
        version: number(row, inode, 2, "version")?,
        writer: number(row, inode, 3, "writer")?,
        mtime: number(row, inode, 4, "mtime")?,
        kind: number(row, inode, 5, "type")?,
        name: match row.get_ref(6)? {
            ValueRef::Text(name) => name.into(),
            other => Err(RowFault::wrong_type(inode, "name", "text", other.data_type()))?,
        },
        // Text is what `UPDATE tree SET data = '...'` leaves, typed by an admin in need.
        data: match row.get_ref(7)? {
            ValueRef::Null => None,
            ValueRef::Blob(data) | ValueRef::Text(data) => Some(Arc::new(data.to_vec())),
            other => Err(RowFault::wrong_type(inode, "data", "a blob", other.data_type()))?,
        },
    })
}

fn number<T: TryFrom<i64>>(
    row: &rusqlite::Row<'_>,
    inode: u64,
    index: usize,
    column: &'static str,
) -> Result<T, Fault> {
    match row.get_ref(index)? {
        ValueRef::Integer(value) => {
            Ok(T::try_from(value).map_err(|_| RowFault::OutOfRange { inode, column, value })?)
        }
        other => Err(RowFault::wrong_type(inode, column, "an integer", other.data_type()))?,
    }
}

/// The name of a type as SQL knows it.
pub(super) fn type_name(found: Type) -> &'static str {
    match found {
        Type::Null => "NULL",
        Type::Integer => "an integer",
        Type::Real => "a real number",
        Type::Text => "text",
        Type::Blob => "a blob",
    }
}

/// Binds a row to the eight parameters of a statement, in the order of the columns.
pub(super) fn bind(statement: &mut Statement<'_>, row: &Row) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(1, integer(row.inode)?)?;
    statement.raw_bind_parameter(2, integer(row.parent)?)?;
    statement.raw_bind_parameter(3, integer(row.version)?)?;
    statement.raw_bind_parameter(4, row.writer)?;
    statement.raw_bind_parameter(5, row.mtime)?;
    statement.raw_bind_parameter(6, row.kind)?;
    // Names are bytes. SQLite stores them as text whether they are UTF-8 or not.
    statement.raw_bind_parameter(7, ToSqlOutput::Borrowed(ValueRef::Text(&row.name)))?;
    // As the stock daemon does: nothing is NULL, not an empty blob.
    match row.data.as_deref() {
        Some(data) if !data.is_empty() => statement.raw_bind_parameter(8, data.as_slice()),
        _ => statement.raw_bind_parameter(8, rusqlite::types::Null),
    }
}

/// SQLite's integers have a sign.
pub(super) fn integer(value: u64) -> rusqlite::Result<i64> {
    i64::try_from(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
