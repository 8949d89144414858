//! Updates: entries as a leader sends them, one in a message or several one after the other. Nothing here
//! says when which; see [`super::PACKED`].

use super::{PayloadError, saturate, take_numbers};
use crate::dfsm::Pieces;
use crate::dfsm::wire::take;
use crate::memdb::{Entry, Row, check_entry};
use std::sync::Arc;

/// Bytes before the name of an update.
pub const UPDATE_HEAD: usize = 41;

/// Reads the payload of an update: an entry as the leader has it. The root comes as inode 0 with
/// the empty name.
pub fn decode_update(payload: &[u8]) -> Result<Row, PayloadError> {
    let mut rest = payload;
    let row = take_update(&mut rest)?;
    if rest.is_empty() {
        return Ok(row);
    }
    let told = (payload.len() - rest.len()) as u64;
    Err(PayloadError::Length { len: payload.len(), told })
}

/// Reads the payload of an update where all members understand [`super::PACKED`]: one entry or more.
pub fn decode_updates(payload: &[u8], mut take: impl FnMut(Row)) -> Result<(), PayloadError> {
    let mut rest = payload;
    loop {
        take(take_update(&mut rest)?);
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Decodes an entry from the front and checks it by the rules for all entries. Its header contains the
/// lengths of name and contents.
fn take_update(payload: &mut &[u8]) -> Result<Row, PayloadError> {
    let len = payload.len();
    let short = || PayloadError::Short { len, least: UPDATE_HEAD };
    let (mut head, rest) = payload.split_at_checked(UPDATE_HEAD).ok_or_else(short)?;
    let [parent, inode, version] = take_longs(&mut head).ok_or_else(short)?;
    let [writer, mtime, size, name_len] = take_numbers(&mut head).ok_or_else(short)?;
    let [kind] = take(&mut head).ok_or_else(short)?;
    let told = u64::from(size) + u64::from(name_len);
    let lengths = || PayloadError::Length { len, told: told + UPDATE_HEAD as u64 };
    let (name, rest) = rest.split_at_checked(name_len as usize).ok_or_else(lengths)?;
    let (data, rest) = rest.split_at_checked(size as usize).ok_or_else(lengths)?;
    let name = name.split_last().filter(|(last, _)| **last == 0);
    let (_, name) = name.ok_or(PayloadError::Unterminated)?;
    let data = (!data.is_empty()).then(|| Arc::new(data.to_vec()));
    let row = Row { inode, parent, version, writer, mtime, kind, name: name.into(), data };
    check_entry(&row)?;
    *payload = rest;
    Ok(row)
}

fn take_longs<const N: usize>(rest: &mut &[u8]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = u64::from_le_bytes(take(rest)?);
    }
    Some(numbers)
}

/// Lays out an entry for an update, at the end of what is there.
pub fn encode_update(entry: &Entry, payload: &mut Pieces) {
    for number in [entry.parent, entry.inode, entry.version] {
        payload.push(&number.to_le_bytes());
    }
    let name_len = saturate(entry.name.len() as u64 + 1);
    for number in [entry.writer, entry.mtime, saturate(entry.size()), name_len] {
        payload.push(&number.to_le_bytes());
    }
    payload.push(&[entry.kind()]);
    payload.push(&entry.name);
    payload.push(&[0]);
    if let Some(content) = entry.content().filter(|content| !content.is_empty()) {
        payload.share(Arc::clone(content));
    }
}

/// How many bytes that takes.
pub fn update_len(entry: &Entry) -> usize {
    UPDATE_HEAD + entry.name.len() + 1 + entry.content().map_or(0, |content| content.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{Change, EntryError, WriteAt};

    #[test]
    fn several_entries_in_one_update() {
        let mut db = crate::memdb::MemDb::new();
        let stamp = crate::memdb::Stamp { writer: 1, time: 2 };
        let mut apply = |change| {
            let limits = crate::memdb::Limits::Agreed;
            db.apply(change, stamp, limits, std::time::Duration::ZERO).expect("applies");
        };
        apply(Change::Create { path: "a".into() });
        apply(Change::Write { path: "a".into(), at: WriteAt::Offset(0), data: b"data".to_vec() });
        apply(Change::Mkdir { path: "d".into() });
        let mut pieces = Pieces::default();
        let mut ends = Vec::new();
        for entry in db.all_entries() {
            encode_update(entry, &mut pieces);
            ends.push(pieces.len());
        }
        let payload = pieces.to_vec();
        let read = |len: usize| {
            let mut rows = Vec::new();
            decode_updates(&payload[..len], |row| rows.push(row)).map(|()| rows)
        };
        let found: Vec<_> = read(payload.len()).expect("whole").into_iter().map(|row| row.data).collect();
        assert_eq!(found, [None, Some(Arc::new(b"data".to_vec())), None]);
        for len in 0..payload.len() {
            assert_eq!(read(len).is_ok(), ends.contains(&len), "{len} bytes");
        }
        assert!(decode_update(&payload[..ends[0]]).is_ok());
        assert!(decode_update(&payload).is_err(), "where not all members understand it");
    }

    #[test]
    fn hostile_updates() {
        let mut db = crate::memdb::MemDb::new();
        let stamp = crate::memdb::Stamp { writer: 1, time: 2 };
        let change = Change::Create { path: "name".into() };
        let inode = db
            .apply(change, stamp, crate::memdb::Limits::Agreed, std::time::Duration::ZERO)
            .expect("applies")
            .inode;
        let mut pieces = Pieces::default();
        encode_update(db.get(inode).expect("made"), &mut pieces);
        assert_eq!(pieces.len(), update_len(db.get(inode).expect("made")));
        let head = pieces.to_vec();
        for len in 0..head.len() {
            assert!(decode_update(&head[..len]).is_err(), "{len} bytes");
        }
        let row = decode_update(&head).expect("whole");
        assert_eq!((row.inode, row.parent, &*row.name, row.data), (2, 0, &b"name"[..], None));
        let with = |at: usize, value: u8| {
            let mut bad = head.clone();
            bad[at] = value;
            decode_update(&bad)
        };
        let unknown = EntryError::UnknownType { inode: 2, kind: 10 };
        assert_eq!(with(40, 10), Err(unknown.into()));
        let nul = EntryError::BadName { inode: 2, name: b"n\0me".to_vec() };
        assert_eq!(with(42, 0), Err(nul.into()));
        let range = EntryError::InodeRange { inode: 2 | (1 << 63) };
        assert_eq!(with(15, 0x80), Err(range.into()));
        assert_eq!(with(45, 1), Err(PayloadError::Unterminated));
        // namelen 0: stock looks at the byte before the name.
        let mut nameless = head[..UPDATE_HEAD].to_vec();
        nameless[36] = 0;
        assert_eq!(decode_update(&nameless), Err(PayloadError::Unterminated));
        // A directory with one byte of data in place of one of the name.
        let mut dir = head.clone();
        (dir[32], dir[36], dir[40], dir[44]) = (1, 4, 4, 0);
        assert_eq!(decode_update(&dir), Err(EntryError::DirectoryWithData { inode: 2 }.into()));
    }
}
