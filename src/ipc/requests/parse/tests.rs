//! Requests byte by byte, right and wrong.

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
        Ok(Request::LogClusterMsg { priority, ident, tag, message }) => Ok((priority, ident, tag, message)),
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
    assert_eq!(parse(Op::GetGuestConfigProperty, b"abc"), Err(ParseError::Short(Op::GetGuestConfigProperty)));
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
