//! From the bytes of a request to what is asked. Pure: it looks at nothing but the bytes, every
//! length is checked, and nothing is copied but a list of slices.
//!
//! Strings end at their first NUL. Where a request's last string must end at its last byte, that byte
//! counts as the NUL whatever it is, as clients rely on it.

use super::super::ops::Op;

#[cfg(test)]
mod tests;

/// Length of a status key and of a node name on the wire, filled up with NULs.
const NAME_LEN: usize = 256;
/// Length of what stands before the user's name in a request for the cluster log: a number and
/// three that mean nothing.
const LOG_HEAD_LEN: usize = 16;
/// Entries of the cluster log given when a client names no number.
const LOG_ENTRIES_DEFAULT: u32 = 50;
/// The lowest VMID a guest can have.
const VMID_MIN: u32 = 100;

/// A request whose form is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    FsVersion,
    ClusterInfo,
    GuestList,
    SetStatus {
        name: &'a [u8],
        value: &'a [u8],
    },
    GetStatus {
        name: &'a [u8],
        node: &'a [u8],
    },
    GetConfig {
        path: &'a [u8],
    },
    /// The strings are without their NULs.
    LogClusterMsg {
        priority: u8,
        ident: &'a [u8],
        tag: &'a [u8],
        message: &'a [u8],
    },
    ClusterLog {
        user: &'a [u8],
        max_entries: u32,
    },
    RrdDump,
    GuestProperties {
        guests: Guests,
        properties: Vec<&'a [u8]>,
    },
    VerifyToken {
        token: &'a [u8],
    },
    DaemonStatus,
    Changes {
        cursor: u64,
        wait_ms: u32,
    },
}

/// The guests a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guests {
    All,
    One(u32),
}

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("there is no request {0}")]
    UnknownOp(i32),
    #[error("{0:?} takes no data")]
    Trailing(Op),
    #[error("{0:?} is too short")]
    Short(Op),
    #[error("the lengths or the strings of a log message do not fit together")]
    LogMessage,
    #[error("{0} is no VMID")]
    Vmid(u32),
    /// The guests are given: that one does not exist is reported before this.
    #[error("a list of property names is malformed")]
    Properties(Guests),
    #[error("a token is empty, not terminated, or holds a NUL or a line break")]
    Token,
}

impl<'a> Request<'a> {
    /// Reads the body of request number `id`.
    pub fn parse(id: i32, body: &'a [u8]) -> Result<Request<'a>, ParseError> {
        let op = Op::from_id(id).ok_or(ParseError::UnknownOp(id))?;
        match op {
            Op::GetFsVersion => without_body(op, body, Request::FsVersion),
            Op::GetClusterInfo => without_body(op, body, Request::ClusterInfo),
            Op::GetGuestList => without_body(op, body, Request::GuestList),
            Op::GetRrdDump => without_body(op, body, Request::RrdDump),
            Op::SetStatus => {
                let (name, value) = body.split_at_checked(NAME_LEN).ok_or(ParseError::Short(op))?;
                Ok(Request::SetStatus { name: filled(name), value })
            }
            Op::GetStatus => {
                let (name, rest) = body.split_at_checked(NAME_LEN).ok_or(ParseError::Short(op))?;
                let (node, _) = rest.split_at_checked(NAME_LEN).ok_or(ParseError::Short(op))?;
                Ok(Request::GetStatus { name: filled(name), node: filled(node) })
            }
            Op::GetConfig if body.is_empty() => Err(ParseError::Short(op)),
            Op::GetConfig => Ok(Request::GetConfig { path: filled(body) }),
            Op::LogClusterMsg => log_message(body),
            Op::GetClusterLog => cluster_log(body),
            Op::GetGuestConfigProperty => guest_property(body),
            Op::GetGuestConfigProperties => guest_properties(body),
            Op::VerifyToken => Ok(Request::VerifyToken { token: token(body)? }),
            Op::GetDaemonStatus => without_body(op, body, Request::DaemonStatus),
            Op::GetChanges => changes(body),
        }
    }
}

fn without_body<'a>(op: Op, body: &[u8], request: Request<'a>) -> Result<Request<'a>, ParseError> {
    if body.is_empty() { Ok(request) } else { Err(ParseError::Trailing(op)) }
}

/// The string in `bytes`: up to the first NUL, or all but the last byte.
fn filled(bytes: &[u8]) -> &[u8] {
    let room = bytes.split_last().map_or(bytes, |(_, room)| room);
    until_nul(room)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// A string of which `bytes` is the field, the NUL at its end included.
fn terminated(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.split_last() {
        Some((0, room)) => Some(until_nul(room)),
        _ => None,
    }
}

fn log_message(body: &[u8]) -> Result<Request<'_>, ParseError> {
    let (&[priority, ident_len, tag_len], rest) =
        body.split_first_chunk::<3>().ok_or(ParseError::Short(Op::LogClusterMsg))?;
    let fields = || {
        let (ident, rest) = rest.split_at_checked(usize::from(ident_len))?;
        let (tag, message) = rest.split_at_checked(usize::from(tag_len))?;
        Some((terminated(ident)?, terminated(tag)?, terminated(message)?))
    };
    let (ident, tag, message) = fields().ok_or(ParseError::LogMessage)?;
    Ok(Request::LogClusterMsg { priority, ident, tag, message })
}

fn cluster_log(body: &[u8]) -> Result<Request<'_>, ParseError> {
    let short = ParseError::Short(Op::GetClusterLog);
    let (head, user) = body.split_at_checked(LOG_HEAD_LEN).ok_or(short)?;
    let (max_entries, _) = head.split_first_chunk::<4>().ok_or(short)?;
    if user.is_empty() {
        return Err(short);
    }
    let max_entries = match u32::from_le_bytes(*max_entries) {
        0 => LOG_ENTRIES_DEFAULT,
        n => n,
    };
    Ok(Request::ClusterLog { user: filled(user), max_entries })
}

fn guests(op: Op, body: &[u8]) -> Result<(Guests, &[u8]), ParseError> {
    let (vmid, rest) = body.split_first_chunk::<4>().ok_or(ParseError::Short(op))?;
    match u32::from_le_bytes(*vmid) {
        0 => Ok((Guests::All, rest)),
        vmid if vmid < VMID_MIN => Err(ParseError::Vmid(vmid)),
        vmid => Ok((Guests::One(vmid), rest)),
    }
}

/// The older request for one property, with none of the newer one's checks of its name.
fn guest_property(body: &[u8]) -> Result<Request<'_>, ParseError> {
    let (guests, property) = guests(Op::GetGuestConfigProperty, body)?;
    if property.is_empty() {
        return Err(ParseError::Properties(guests));
    }
    Ok(Request::GuestProperties { guests, properties: vec![filled(property)] })
}

fn guest_properties(body: &[u8]) -> Result<Request<'_>, ParseError> {
    let (guests, list) = guests(Op::GetGuestConfigProperties, body)?;
    let properties = property_names(list).ok_or(ParseError::Properties(guests))?;
    Ok(Request::GuestProperties { guests, properties })
}

/// A count and exactly so many names, at least one, each with its NUL, and nothing after them.
fn property_names(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (&count, names) = list.split_first()?;
    let (&0, names) = names.split_last()? else { return None };
    let names: Vec<&[u8]> = names.split(|&b| b == 0).collect();
    let valid = |name: &&[u8]| name.first().is_some_and(u8::is_ascii_lowercase);
    (names.len() == usize::from(count) && names.iter().all(valid)).then_some(names)
}

fn changes(body: &[u8]) -> Result<Request<'_>, ParseError> {
    let short = ParseError::Short(Op::GetChanges);
    let (cursor, rest) = body.split_first_chunk::<8>().ok_or(short)?;
    let (wait_ms, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    if !rest.is_empty() {
        return Err(ParseError::Trailing(Op::GetChanges));
    }
    let (cursor, wait_ms) = (u64::from_le_bytes(*cursor), u32::from_le_bytes(*wait_ms));
    Ok(Request::Changes { cursor, wait_ms })
}

fn token(body: &[u8]) -> Result<&[u8], ParseError> {
    match body.split_last() {
        Some((0, token)) if !token.is_empty() && !token.iter().any(|b| matches!(b, 0 | b'\n')) => Ok(token),
        _ => Err(ParseError::Token),
    }
}
