//! The messages of the database group: changes, requests to expire a lock, and the entries a leader
//! sends, in the bytes of stock nodes. Nothing here applies anything.
//!
//! Bytes may be anything. Stock's rules decide what is malformed (the node leaves and syncs again)
//! and what is merely refused; where stock would read out of bounds, a message is malformed.

mod updates;

pub use updates::{UPDATE_HEAD, decode_update, decode_updates, encode_update, update_len};

use crate::dfsm::Outgoing;
use crate::dfsm::wire::{Extension, take};
use crate::memdb::{Change, EntryChange, EntryError, Inode, TreePath, WriteAt};
use std::sync::Arc;

/// On a state: its sender understands appends. On a write: it is one, see [`Request::Append`].
pub const APPEND: Extension = Extension(1);

/// On a state: its sender understands updates with several entries, one after the other.
pub const PACKED: Extension = Extension(2);

/// On a state: its sender understands changes that are bound to an inode. On a write or a change of mtime: it is
/// bound to the inode in its second path, see [`Request::Entry`].
pub const BOUND: Extension = Extension(4);

/// On our states.
pub const UNDERSTOOD: Extension = Extension(APPEND.0 | PACKED.0 | BOUND.0);

/// Digits of an inode in the second path of a bound change.
const INODE_DIGITS: usize = 16;

/// Bytes before the strings of a change.
pub const CHANGE_HEAD: usize = 20;
/// Bytes before the path of an unlock.
pub const UNLOCK_HEAD: usize = 32;

/// What a normal message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subtype {
    Write = 1,
    Mkdir = 2,
    Delete = 3,
    Rename = 4,
    Create = 5,
    Mtime = 6,
    UnlockRequest = 7,
    Unlock = 8,
}

/// What a normal message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A change of the tree.
    Change(Change),
    /// A write to the end of a file, which the sender took to be at `assumed`. Where all members
    /// understand it, it lands at the true end; a stock node writes at `assumed`.
    Append { path: TreePath, assumed: u64, data: Vec<u8> },
    /// A change of the entry with this inode at `path`, and of no other entry there. Only sent if all members
    /// understand it; a stock node changes any entry at the path. `assumed` is as for an append, else 0.
    Entry { inode: Inode, path: TreePath, change: EntryChange, assumed: u64 },
    /// Asks the lowest node to remove a lock if it has expired.
    Expire { path: TreePath, checksum: [u8; 32] },
}

/// Why a payload is no message of the database group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("received unknown message type (msg_type == {0})")]
    UnknownSubtype(u16),
    #[error("received short message ({len} bytes, {least} are the least)")]
    Short { len: usize, least: usize },
    #[error("received malformed message ({len} bytes, its fields say {told})")]
    Length { len: usize, told: u64 },
    #[error("received malformed message (a string without a NUL at its end)")]
    Unterminated,
    #[error("received malformed message (a write of {size} bytes that also cuts)")]
    WriteAndCut { size: u32 },
    #[error("received malformed message ({0})")]
    Entry(#[from] EntryError),
    /// Stock refuses this one, but it is no reason to leave.
    #[error("a message without the path it needs")]
    NoPath,
}

impl Subtype {
    /// The subtype with this number.
    pub fn of(number: u16) -> Option<Subtype> {
        use Subtype::*;
        let all = [Write, Mkdir, Delete, Rename, Create, Mtime, UnlockRequest, Unlock];
        all.into_iter().find(|subtype| *subtype as u16 == number)
    }
}

impl Request {
    /// Reads the payload of a normal message.
    pub fn decode(subtype: u16, extension: Extension, payload: &[u8]) -> Result<Request, PayloadError> {
        let kind = Subtype::of(subtype).ok_or(PayloadError::UnknownSubtype(subtype))?;
        if matches!(kind, Subtype::UnlockRequest | Subtype::Unlock) {
            let (path, checksum) = decode_unlock(payload)?;
            return Ok(match kind {
                Subtype::Unlock => Request::Change(Change::Unlock { path, checksum }),
                _ => Request::Expire { path, checksum },
            });
        }
        let fields = Fields::decode(payload)?;
        let path = fields.path.map(TreePath::new).ok_or(PayloadError::NoPath)?;
        let append = kind == Subtype::Write && fields.flags == 0 && extension.has(APPEND);
        let inode = fields.to.and_then(decode_inode).filter(|_| extension.has(BOUND));
        let unbound = Self::unbound(kind, path, &fields, append)?;
        Ok(match inode {
            Some(inode) => unbound.bind(inode),
            None => unbound,
        })
    }

    fn unbound(
        kind: Subtype,
        path: TreePath,
        fields: &Fields<'_>,
        append: bool,
    ) -> Result<Request, PayloadError> {
        Ok(Request::Change(match kind {
            Subtype::Write if append => {
                let (assumed, data) = (fields.offset.into(), fields.data.to_vec());
                return Ok(Request::Append { path, assumed, data });
            }
            Subtype::Write if fields.flags == 0 => {
                Change::Write { path, at: WriteAt::Offset(fields.offset.into()), data: fields.data.to_vec() }
            }
            Subtype::Write if !fields.data.is_empty() => {
                return Err(PayloadError::WriteAndCut { size: fields.data.len() as u32 });
            }
            Subtype::Write => Change::Truncate { path, size: fields.offset.into() },
            Subtype::Mkdir => Change::Mkdir { path },
            Subtype::Delete => Change::Delete { path },
            Subtype::Create => Change::Create { path },
            Subtype::Mtime => Change::SetMtime { path, mtime: fields.offset },
            Subtype::Rename | Subtype::UnlockRequest | Subtype::Unlock => {
                let to = fields.to.map(TreePath::new).ok_or(PayloadError::NoPath)?;
                Change::Rename { from: path, to }
            }
        }))
    }

    /// Binds a change of one entry to an inode. Other requests stay as they are.
    fn bind(self, inode: Inode) -> Request {
        let (path, change, assumed) = match self {
            Request::Change(Change::Write { path, at, data }) => {
                (path, EntryChange::Write { at, data: Arc::new(data) }, 0)
            }
            Request::Append { path, assumed, data } => {
                (path, EntryChange::Write { at: WriteAt::End, data: Arc::new(data) }, assumed)
            }
            Request::Change(Change::Truncate { path, size }) => (path, EntryChange::Truncate { size }, 0),
            Request::Change(Change::SetMtime { path, mtime }) => (path, EntryChange::SetMtime { mtime }, 0),
            other => return other,
        };
        Request::Entry { inode, path, change, assumed }
    }

    /// Lays out the payload, with the extensions that all members have in common. Offsets and sizes saturate:
    /// past 4 GiB a write is refused anyway.
    pub fn encode(self, common: Extension) -> Outgoing {
        let none = Extension::default();
        let request = match self {
            Request::Change(change) => change,
            Request::Entry { inode, path, change, assumed } => {
                return encode_entry(inode, &path, change, assumed, common);
            }
            Request::Append { path, assumed, data } => {
                let at = WriteAt::Offset(assumed);
                let write = Request::Change(Change::Write { path, at, data }).encode(common);
                return Outgoing { extension: APPEND, ..write };
            }
            Request::Expire { path, checksum } => {
                return plain(Subtype::UnlockRequest, encode_unlock(&path, &checksum));
            }
        };
        match request {
            Change::Write { path, at, data } => {
                let offset = match at {
                    WriteAt::Offset(offset) => offset,
                    WriteAt::End => 0,
                };
                encode_write(&path, None, offset, Arc::new(data), none)
            }
            // Only local: `Dcdb::check` makes a request with a path of it.
            Change::Entry { inode, place, change } => {
                encode_entry(inode, &place.unwrap_or_default(), change, 0, common)
            }
            Change::Truncate { path, size } => {
                plain(Subtype::Write, encode_fields(Numbers { size: 0, offset: size, flags: 1 }, &path, None))
            }
            Change::SetMtime { path, mtime } => {
                let numbers = Numbers { size: 0, offset: mtime.into(), flags: 0 };
                plain(Subtype::Mtime, encode_fields(numbers, &path, None))
            }
            Change::Mkdir { path } => plain(Subtype::Mkdir, encode_fields(Numbers::default(), &path, None)),
            Change::Create { path } => plain(Subtype::Create, encode_fields(Numbers::default(), &path, None)),
            Change::Delete { path } => plain(Subtype::Delete, encode_fields(Numbers::default(), &path, None)),
            Change::Rename { from, to } => {
                plain(Subtype::Rename, encode_fields(Numbers::default(), &from, Some(&to)))
            }
            Change::Unlock { path, checksum } => plain(Subtype::Unlock, encode_unlock(&path, &checksum)),
        }
    }
}

fn encode_write(
    path: &TreePath,
    to: Option<&TreePath>,
    offset: u64,
    data: Arc<Vec<u8>>,
    extension: Extension,
) -> Outgoing {
    let numbers = Numbers { size: saturate(data.len() as u64), offset, flags: 0 };
    let head = encode_fields(numbers, path, to);
    let body = (!data.is_empty()).then_some(data);
    Outgoing { subtype: Subtype::Write as u16, extension, head, body }
}

/// A change that is bound to an inode if all members understand that; else the bytes that stock sends.
fn encode_entry(
    inode: Inode,
    path: &TreePath,
    change: EntryChange,
    assumed: u64,
    common: Extension,
) -> Outgoing {
    let bound = common.has(BOUND);
    let to = bound.then(|| TreePath::from(format!("{inode:0INODE_DIGITS$x}").as_str()));
    let mut out = match change {
        EntryChange::Write { at: WriteAt::Offset(offset), data } => {
            encode_write(path, to.as_ref(), offset, data, Extension::default())
        }
        EntryChange::Write { at: WriteAt::End, data } => {
            encode_write(path, to.as_ref(), assumed, data, APPEND)
        }
        EntryChange::Truncate { size } => {
            let numbers = Numbers { size: 0, offset: size, flags: 1 };
            plain(Subtype::Write, encode_fields(numbers, path, to.as_ref()))
        }
        EntryChange::SetMtime { mtime } => {
            let numbers = Numbers { size: 0, offset: mtime.into(), flags: 0 };
            plain(Subtype::Mtime, encode_fields(numbers, path, to.as_ref()))
        }
    };
    if bound {
        out.extension = Extension(out.extension.0 | BOUND.0);
    }
    out
}

/// The inode in the second path of a bound change. Other bytes bind the change to none, as if it was not marked:
/// a stock node does not look at them.
fn decode_inode(to: &[u8]) -> Option<Inode> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = Some(to).filter(|to| to.len() == INODE_DIGITS && to.iter().all(is_digit))?;
    Inode::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn plain(subtype: Subtype, head: Vec<u8>) -> Outgoing {
    Outgoing { subtype: subtype as u16, extension: Extension::default(), head, body: None }
}

/// The fields of a change, as they lie.
struct Fields<'a> {
    offset: u32,
    flags: u32,
    path: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    data: &'a [u8],
}

#[derive(Default)]
struct Numbers {
    size: u32,
    offset: u64,
    flags: u32,
}

impl<'a> Fields<'a> {
    fn decode(payload: &'a [u8]) -> Result<Fields<'a>, PayloadError> {
        let len = payload.len();
        let mut rest = payload;
        let numbers = take_numbers(&mut rest).ok_or(PayloadError::Short { len, least: CHANGE_HEAD })?;
        let [size, offset, path_len, to_len, flags] = numbers;
        let told = u64::from(size) + u64::from(path_len) + u64::from(to_len);
        if rest.len() as u64 != told {
            return Err(PayloadError::Length { len, told: told + CHANGE_HEAD as u64 });
        }
        let path = take_string(&mut rest, path_len)?;
        let to = take_string(&mut rest, to_len)?;
        Ok(Fields { offset, flags, path, to, data: rest })
    }
}

fn take_numbers<const N: usize>(rest: &mut &[u8]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = u32::from_le_bytes(take(rest)?);
    }
    Some(numbers)
}

/// Cuts off a string whose length counts its NUL; `None` when it is not there. As in stock it ends
/// at its first NUL.
fn take_string<'a>(rest: &mut &'a [u8], len: u32) -> Result<Option<&'a [u8]>, PayloadError> {
    if len == 0 {
        return Ok(None);
    }
    let lengths = PayloadError::Length { len: rest.len(), told: len.into() };
    let (string, behind) = rest.split_at_checked(len as usize).ok_or(lengths)?;
    *rest = behind;
    terminated(string).map(Some)
}

fn terminated(string: &[u8]) -> Result<&[u8], PayloadError> {
    if string.last() != Some(&0) {
        return Err(PayloadError::Unterminated);
    }
    Ok(string.split(|&byte| byte == 0).next().unwrap_or_default())
}

fn encode_fields(numbers: Numbers, path: &TreePath, to: Option<&TreePath>) -> Vec<u8> {
    let length = |path: &TreePath| saturate(path.as_bytes().len() as u64 + 1);
    let strings = path.as_bytes().len() + to.map_or(0, |to| to.as_bytes().len() + 1) + 1;
    let mut head = Vec::with_capacity(CHANGE_HEAD + strings);
    for number in [numbers.size, saturate(numbers.offset), length(path), to.map_or(0, length), numbers.flags]
    {
        head.extend_from_slice(&number.to_le_bytes());
    }
    for path in [Some(path), to].into_iter().flatten() {
        head.extend_from_slice(path.as_bytes());
        head.push(0);
    }
    head
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn decode_unlock(payload: &[u8]) -> Result<(TreePath, [u8; 32]), PayloadError> {
    let short = PayloadError::Short { len: payload.len(), least: UNLOCK_HEAD + 1 };
    let mut rest = payload;
    let checksum = take(&mut rest).filter(|_| payload.len() > UNLOCK_HEAD).ok_or(short)?;
    Ok((TreePath::new(terminated(rest)?), checksum))
}

fn encode_unlock(path: &TreePath, checksum: &[u8; 32]) -> Vec<u8> {
    [checksum.as_slice(), path.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(out: &Outgoing) -> Vec<u8> {
        let body = out.body.as_ref().map_or(&[][..], |body| body.as_slice());
        [out.head.as_slice(), body].concat()
    }

    fn requests() -> Vec<Request> {
        let path = || TreePath::from("a/b");
        let at = WriteAt::Offset(3);
        let changes = [
            Change::Write { path: path(), at, data: b"xyz".to_vec() },
            Change::Write { path: path(), at, data: Vec::new() },
            Change::Truncate { path: path(), size: 9 },
            Change::Mkdir { path: path() },
            Change::Delete { path: path() },
            Change::Rename { from: path(), to: "c".into() },
            Change::Create { path: path() },
            Change::SetMtime { path: path(), mtime: 77 },
            Change::Unlock { path: path(), checksum: [5; 32] },
        ];
        let mut all: Vec<Request> = changes.into_iter().map(Request::Change).collect();
        all.push(Request::Append { path: path(), assumed: 4, data: b"q".to_vec() });
        all.push(Request::Expire { path: path(), checksum: [6; 32] });
        all.extend(bound_requests());
        all
    }

    fn bound_requests() -> Vec<Request> {
        let data = || Arc::new(b"xyz".to_vec());
        let changes = [
            (EntryChange::Write { at: WriteAt::Offset(3), data: data() }, 0),
            (EntryChange::Write { at: WriteAt::End, data: data() }, 7),
            (EntryChange::Truncate { size: 9 }, 0),
            (EntryChange::SetMtime { mtime: 77 }, 0),
        ];
        let path = || TreePath::from("a/b");
        let bound = |(change, assumed)| Request::Entry { inode: 0x1234, path: path(), change, assumed };
        changes.map(bound).to_vec()
    }

    #[test]
    fn requests_survive_the_wire() {
        for request in requests() {
            let out = request.clone().encode(UNDERSTOOD);
            assert_eq!(Request::decode(out.subtype, out.extension, &bytes(&out)), Ok(request));
        }
    }

    #[test]
    fn a_stock_node_takes_an_append_for_a_write() {
        let append = Request::Append { path: "a".into(), assumed: 4, data: b"q".to_vec() }.encode(UNDERSTOOD);
        let write = Change::Write { path: "a".into(), at: WriteAt::Offset(4), data: b"q".to_vec() };
        let decoded = Request::decode(append.subtype, Extension(0), &bytes(&append));
        assert_eq!(decoded, Ok(Request::Change(write)));
    }

    #[test]
    fn bound_change_is_plain_for_a_stock_member() {
        for request in bound_requests() {
            let Request::Entry { path, change, assumed, .. } = request.clone() else { panic!("not bound") };
            let plain = match change {
                EntryChange::Write { at: WriteAt::End, data } => {
                    Request::Append { path, assumed, data: data.to_vec() }
                }
                other => Request::Change(other.at_path(path)),
            };
            // A stock node looks at neither the mark nor the second path.
            let out = request.clone().encode(UNDERSTOOD);
            let append = out.extension.common(APPEND);
            assert_eq!(Request::decode(out.subtype, append, &bytes(&out)), Ok(plain.clone()));
            // With a stock node among the members, the bytes are those of the plain change.
            assert_eq!(request.encode(APPEND), plain.encode(APPEND));
        }
    }

    #[test]
    fn malformed_inode_binds_to_none() {
        let request = bound_requests().remove(2);
        let Request::Entry { path, change, .. } = request.clone() else { panic!("not bound") };
        let out = request.encode(UNDERSTOOD);
        let digit = out.head.iter().position(|byte| *byte == b'4').expect("a digit of the inode");
        for wrong in [b'g', b'A', b'/', b'-'] {
            let mut head = out.head.clone();
            head[digit] = wrong;
            let decoded = Request::decode(out.subtype, out.extension, &head);
            assert_eq!(decoded, Ok(Request::Change(change.clone().at_path(path.clone()))));
        }
    }

    #[test]
    fn cut_and_garbled_requests_are_refused() {
        for request in requests() {
            let out = request.encode(UNDERSTOOD);
            let whole = bytes(&out);
            for len in 0..whole.len() {
                let cut = Request::decode(out.subtype, out.extension, &whole[..len]);
                assert!(cut.is_err(), "{len} of {} bytes of {}", whole.len(), out.subtype);
            }
            for at in 0..whole.len() {
                for value in [0, 1, 0xff] {
                    let mut garbled = whole.clone();
                    garbled[at] = value;
                    // Whatever it says, it must be read within bounds.
                    let _ = Request::decode(out.subtype, out.extension, &garbled);
                }
            }
        }
        assert_eq!(Request::decode(9, Extension(0), &[]), Err(PayloadError::UnknownSubtype(9)));
        assert_eq!(Request::decode(0, Extension(0), &[]), Err(PayloadError::UnknownSubtype(0)));
        assert_eq!(Request::decode(2, Extension(0), &[0; 20]), Err(PayloadError::NoPath));
    }

    #[test]
    fn lengths_do_not_overflow() {
        let mut payload = vec![0xff; 12];
        payload.resize(24, 0);
        let told = 3 * u64::from(u32::MAX) - u64::from(u32::MAX) + 20;
        assert_eq!(Request::decode(1, Extension(0), &payload), Err(PayloadError::Length { len: 24, told }));
    }
}
