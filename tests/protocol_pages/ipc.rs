//! docs/protocol/ipc.md: the messages of the service, and both transports.

use crate::golden::RecordedService;
use crate::page::Page;
use crate::raw::RawClient;
use crate::support::eventually;
use pmxcfs::ipc::calls;
use pmxcfs::ipc::ops::Op;
use pmxcfs::ipc::qb::own::{self, Answer};
use pmxcfs::ipc::qb::wire::{
    AuthRequest, AuthResponse, RequestHeader, ResponseHeader, TYPE_SHM, new_ring_header, parse_ring_header,
    ring_header,
};
use pmxcfs::ipc::requests::parse::{Guests, Request};
use std::fs::File;
use std::os::unix::fs::FileExt;

#[test]
fn ipc_examples_decode_and_encode() {
    let mut page = Page::open("ipc.md");
    check_bodies(&mut page);
    check_headers(&mut page);
    check_handshake(&mut page);
    check_memfd(&mut page);
    check_chunks(&mut page);
    page.finish();
}

fn check_bodies(page: &mut Page) {
    let mut check = |op: Op, expected: Request<'_>, encoded: Vec<u8>| {
        let body = page.example(&format!("body-{}", op.name().replace('_', "-")));
        assert_eq!(Request::parse(op.id(), &body), Ok(expected), "{op:?}");
        assert_eq!(encoded, body, "{op:?}");
    };
    let set = Request::SetStatus { name: b"kv/a", value: b"v1" };
    check(Op::SetStatus, set, calls::set_status(b"kv/a", b"v1").unwrap());
    let get = Request::GetStatus { name: b"kv/a", node: b"n1" };
    check(Op::GetStatus, get, calls::get_status(b"kv/a", b"n1").unwrap());
    let config = Request::GetConfig { path: b"storage.cfg" };
    check(Op::GetConfig, config, calls::get_config(b"storage.cfg").unwrap());
    let log = Request::LogClusterMsg { priority: 6, ident: b"root@pam", tag: b"test", message: b"hello" };
    check(Op::LogClusterMsg, log, calls::log_cluster_msg(6, b"root@pam", b"test", b"hello").unwrap());
    let entries = Request::ClusterLog { user: b"root@pam", max_entries: 2 };
    check(Op::GetClusterLog, entries, calls::get_cluster_log(2, b"root@pam").unwrap());
    let guests = Guests::One(100);
    let property = Request::GuestProperties { guests, properties: vec![b"memory"] };
    check(Op::GetGuestConfigProperty, property, calls::get_guest_config_property(100, b"memory").unwrap());
    let token = b"root@pam!t0 aaa";
    check(Op::VerifyToken, Request::VerifyToken { token }, calls::verify_token(token).unwrap());
    let properties = Request::GuestProperties { guests, properties: vec![b"memory", b"name"] };
    let encoded = calls::get_guest_config_properties(100, &[b"memory", b"name"]).unwrap();
    check(Op::GetGuestConfigProperties, properties, encoded);
    let changes = Request::Changes { cursor: 7, wait_ms: 5000 };
    check(Op::GetChanges, changes, calls::get_changes(7, 5000));
}

fn check_headers(page: &mut Page) {
    let bytes = page.example("request");
    let (header, body) = RequestHeader::split(&bytes).expect("a request");
    assert_eq!((header.id, body), (Op::GetConfig.id(), &b"storage.cfg\0"[..]));
    assert_eq!([&header.encode()[..], body].concat(), bytes);
    for (name, error, expected) in [("response", 0, &b"abchello\n"[..]), ("response-error", -2, b"")] {
        let bytes = page.example(name);
        let (header, data) = ResponseHeader::split(&bytes).expect(name);
        assert_eq!((header.id, header.error, data), (Op::GetConfig.id(), error, expected), "{name}");
        assert_eq!([&header.encode()[..], data].concat(), bytes, "{name}");
    }
}

fn check_handshake(page: &mut Page) {
    let bytes = page.example("auth-request");
    let request = AuthRequest::parse(&bytes).expect("a request");
    assert_eq!((request.max_message_size, &request.encode()[..]), (1 << 20, &bytes[..]));
    let bytes = page.example("auth-response");
    let response = AuthResponse::parse(&bytes).expect("a response");
    assert_eq!((response.error, response.connection_type, response.max_message_size), (0, TYPE_SHM, 1 << 20));
    assert!(response.rings[0].ends_with(b"/qb-request-pve2"));
    assert_eq!(response.encode(), Some(bytes));
    let bytes = page.example("ring-header");
    let (words, data_path) = parse_ring_header(&bytes).expect("a header");
    let data_path = String::from_utf8(data_path).expect("a path");
    let header_path = data_path.replace("-data", "-header");
    assert_eq!((words, data_path.ends_with("/qb-request-pve2-data")), (0x40400, true));
    assert_eq!(new_ring_header(words, header_path.as_bytes(), data_path.as_bytes()), Some(bytes));
}

fn check_memfd(page: &mut Page) {
    let mut request = AuthRequest { max_message_size: 1 << 20 }.encode();
    own::mark(&mut request);
    assert_eq!(page.example("memfd-request"), request);
    let bytes = page.example("memfd-response");
    let answer = Answer::parse(&bytes).expect("a response");
    assert_eq!((answer, &answer.encode()[..]), (Answer::new(1 << 20).expect("rings"), &bytes[..]));
    let layout = answer.layout();
    assert_eq!((layout[0], layout[1]), (512, 512 + 7680));
    assert_eq!(page.example("chunk-long")[8..], own::MOVED);
}

fn read(file: &File, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).expect("bytes of the ring");
    bytes
}

/// Puts the chunk of the page into a ring of a running server, and compares the rings with the page. Needs root.
fn check_chunks(page: &mut Page) {
    let service = RecordedService::start(&format!("pmxcfs-pages-{}", std::process::id()));
    let mut client = RawClient::connect(&service.name);
    let chunk = page.example("chunk-request");
    client.requests.data.write_all_at(&chunk, 0).expect("written");
    let words = u32::try_from(chunk.len() / 4).expect("short");
    client.requests.set(ring_header::WRITE_INDEX, words);
    client.post();
    client.ring_bell();
    eventually("a response", || client.is_answered());
    assert_eq!(client.requests.get(ring_header::READ_INDEX), words);
    let consumed = page.example("chunk-consumed");
    assert_eq!(read(&client.requests.data, consumed.len()), consumed);
    let response = page.example("chunk-response");
    assert_eq!(read(&client.responses.data, response.len()), response);
    client.hang_up();
}

#[test]
fn ipc_page_lists_all_requests() {
    let page = Page::open("ipc.md");
    for op in Op::ALL {
        let row = format!("\n| {} | {} |", op.id(), op.name().to_ascii_uppercase());
        assert!(page.text().contains(&row), "no row '{row}'");
    }
}
