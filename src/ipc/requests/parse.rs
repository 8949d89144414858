//! From the bytes of a request to what is asked. Pure: it looks at nothing but the bytes, every
//! length is checked, and nothing is copied but a list of slices.
//!
//! Strings end at their first NUL. Where a request's last string must end at its last byte, that byte
//! counts as the NUL whatever it is, as clients rely on it.

use super::super::ops::Op;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(op: Op, body: &[u8]) -> Result<Request<'_>, ParseError> {
        Request::parse(op.id(), body)
    }

    /// `text` in a field of 256 bytes.
    fn name(text: &[u8]) -> Vec<u8> {
        let mut field = text.to_vec();
        field.resize(NAME_LEN, 0);
        field
    }

    #[test]
    fn requests_without_data_take_none() {
        for (op, request) in [
            (Op::GetFsVersion, Request::FsVersion),
            (Op::GetClusterInfo, Request::ClusterInfo),
            (Op::GetGuestList, Request::GuestList),
            (Op::GetRrdDump, Request::RrdDump),
            (Op::GetDaemonStatus, Request::DaemonStatus),
        ] {
            assert_eq!(parse(op, b""), Ok(request));
            assert_eq!(parse(op, b"\0"), Err(ParseError::Trailing(op)));
        }
        assert_eq!(Request::parse(9, b""), Err(ParseError::UnknownOp(9)));
        assert_eq!(Request::parse(-5, b"x"), Err(ParseError::UnknownOp(-5)));
    }

    #[test]
    fn a_status_key_fills_its_field_and_the_last_byte_is_always_the_nul() {
        assert_eq!(parse(Op::SetStatus, &[b'a'; 255]), Err(ParseError::Short(Op::SetStatus)));
        let full = [b'a'; 256];
        assert_eq!(parse(Op::SetStatus, &full), Ok(Request::SetStatus { name: &[b'a'; 255], value: b"" }));
        let body = [name(b"kv\0junk"), b"v\0".to_vec()].concat();
        assert_eq!(parse(Op::SetStatus, &body), Ok(Request::SetStatus { name: b"kv", value: b"v\0" }));

        let body = [name(b"kv"), name(b"n1")].concat();
        assert_eq!(parse(Op::GetStatus, &body), Ok(Request::GetStatus { name: b"kv", node: b"n1" }));
        assert_eq!(parse(Op::GetStatus, &body[..511]), Err(ParseError::Short(Op::GetStatus)));
        assert_eq!(parse(Op::GetStatus, &body[..255]), Err(ParseError::Short(Op::GetStatus)));
    }

    #[test]
    fn a_path_loses_its_last_byte_and_ends_at_a_nul() {
        for (body, path) in
            [(&b"a/b\0"[..], &b"a/b"[..]), (b"a/b", b"a/"), (b"a\0b\0", b"a"), (b"\0", b""), (b"x", b"")]
        {
            assert_eq!(parse(Op::GetConfig, body), Ok(Request::GetConfig { path }));
        }
        assert_eq!(parse(Op::GetConfig, b""), Err(ParseError::Short(Op::GetConfig)));
    }

    #[test]
    fn every_string_of_a_log_message_has_its_nul() {
        let log = |body| match parse(Op::LogClusterMsg, body) {
            Ok(Request::LogClusterMsg { priority, ident, tag, message }) => {
                Ok((priority, ident, tag, message))
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(log(b"\x06\x03\x02me\0t\0hi\0"), Ok((6, &b"me"[..], &b"t"[..], &b"hi"[..])));
        assert_eq!(log(b"\xff\x01\x01\0\0\0"), Ok((255, &b""[..], &b""[..], &b""[..])));
        assert_eq!(log(b"\x06\x04\x02m\0e\0t\0h\0i\0"), Ok((6, &b"m"[..], &b"t"[..], &b"h"[..])));
        for bad in [
            &b"\x06\x03\x02me\0t\0"[..], // no message
            b"\x06\x03\x02me\0t\0hi",    // no NUL at the end
            b"\x06\x02\x02me\0t\0hi\0",  // none after ident
            b"\x06\x03\x01me\0t\0hi\0",  // none after tag
            b"\x06\x00\x02t\0hi\0",      // no ident
            b"\x06\x03\x00me\0hi\0",     // no tag
            b"\x06\xc8\x02me\0t\0hi\0",  // longer than there is
            b"\x06\xff\xff\0",
            b"\x06\x00\x00",
        ] {
            assert_eq!(log(bad), Err(ParseError::LogMessage), "{bad:?}");
        }
        assert_eq!(log(b"\x06\x03"), Err(ParseError::Short(Op::LogClusterMsg)));
    }

    #[test]
    fn the_cluster_log_is_asked_with_a_user() {
        let head = |n: u32| [&n.to_le_bytes()[..], &[7; 12]].concat();
        for (body, user, max_entries) in [
            ([head(0), b"\0".to_vec()].concat(), &b""[..], 50),
            ([head(2), b"root@pam\0".to_vec()].concat(), b"root@pam", 2),
            ([head(u32::MAX), b"root@pam".to_vec()].concat(), b"root@pa", u32::MAX),
        ] {
            assert_eq!(parse(Op::GetClusterLog, &body), Ok(Request::ClusterLog { user, max_entries }));
        }
        assert_eq!(parse(Op::GetClusterLog, &head(2)), Err(ParseError::Short(Op::GetClusterLog)));
        assert_eq!(parse(Op::GetClusterLog, b""), Err(ParseError::Short(Op::GetClusterLog)));
    }

    #[test]
    fn lists_of_properties() {
        let ask = |vmid: u32, rest: &[u8]| {
            let body = [&vmid.to_le_bytes()[..], rest].concat();
            parse(Op::GetGuestConfigProperties, &body).map(|r| format!("{r:?}"))
        };
        let request = |guests, properties: &[&'static [u8]]| {
            Ok(format!("{:?}", Request::GuestProperties { guests, properties: properties.to_vec() }))
        };
        assert_eq!(ask(0, b"\x02name\0tags\0"), request(Guests::All, &[b"name", b"tags"]));
        assert_eq!(ask(100, b"\x01n\0"), request(Guests::One(100), &[b"n"]));
        assert_eq!(ask(1, b"\x01n\0"), Err(ParseError::Vmid(1)));
        assert_eq!(ask(99, b""), Err(ParseError::Vmid(99)));
        for bad in [
            &b""[..],
            b"\x00",
            b"\x00n\0",
            b"\x01",
            b"\x01\0",
            b"\x01n",
            b"\x01N\0",
            b"\x01_\0",
            b"\x01n\0x",
            b"\x01n\0\0",
            b"\x01n\0x\0",
            b"\x02n\0",
            b"\x02n\0\0",
            b"\x02n\0N\0",
        ] {
            assert_eq!(ask(100, bad), Err(ParseError::Properties(Guests::One(100))), "{bad:?}");
            assert_eq!(ask(0, bad), Err(ParseError::Properties(Guests::All)), "{bad:?}");
        }
        assert_eq!(
            parse(Op::GetGuestConfigProperties, b"abc"),
            Err(ParseError::Short(Op::GetGuestConfigProperties))
        );
    }

    #[test]
    fn the_older_request_for_one_property_does_not_check_its_name() {
        let ask = |vmid: u32, rest: &[u8]| {
            let body = [&vmid.to_le_bytes()[..], rest].concat();
            parse(Op::GetGuestConfigProperty, &body).map(|r| format!("{r:?}"))
        };
        for (bytes, name) in
            [(&b"name\0"[..], &b"name"[..]), (b"names", b"name"), (b"Name\0", b"Name"), (b"a\0b\0", b"a")]
        {
            let request = Request::GuestProperties { guests: Guests::One(100), properties: vec![name] };
            assert_eq!(ask(100, bytes), Ok(format!("{request:?}")));
        }
        assert_eq!(ask(99, b"name\0"), Err(ParseError::Vmid(99)));
        assert_eq!(ask(100, b""), Err(ParseError::Properties(Guests::One(100))));
        assert_eq!(
            parse(Op::GetGuestConfigProperty, b"abc"),
            Err(ParseError::Short(Op::GetGuestConfigProperty))
        );
    }

    #[test]
    fn changes_are_asked_with_exactly_two_numbers() {
        let body: Vec<u8> = (1..=13).collect();
        let request = Request::Changes { cursor: 0x0807_0605_0403_0201, wait_ms: 0x0c0b_0a09 };
        assert_eq!(parse(Op::GetChanges, &body[..12]), Ok(request));
        for length in [0, 7, 8, 11] {
            assert_eq!(parse(Op::GetChanges, &body[..length]), Err(ParseError::Short(Op::GetChanges)));
        }
        assert_eq!(parse(Op::GetChanges, &body), Err(ParseError::Trailing(Op::GetChanges)));
    }

    #[test]
    fn tokens_are_one_line() {
        assert_eq!(parse(Op::VerifyToken, b"u!t v\0"), Ok(Request::VerifyToken { token: b"u!t v" }));
        for bad in [&b""[..], b"\0", b"abc", b"a\nb\0", b"ab\n\0", b"a\0b\0", b"ab\0\0", b"ab\0\n"] {
            assert_eq!(parse(Op::VerifyToken, bad), Err(ParseError::Token), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(
            id in prop_oneof![-1..20i32, 60..70i32],
            body in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), any::<u8>()], 0..600),
        ) {
            let known = Op::from_id(id).is_some();
            match Request::parse(id, &body) {
                Err(ParseError::UnknownOp(_)) => prop_assert!(!known),
                _ => prop_assert!(known),
            }
        }
    }
}
