//! Connections of our own, between our client and our server: that they carry all that those of libqb do,
//! and that either end survives the other.

#[path = "ipc_own/clients.rs"]
mod clients;
#[path = "ipc/fake.rs"]
mod fake;
#[path = "ipc_own/handshakes.rs"]
mod handshakes;
#[path = "ipc/raw.rs"]
mod raw;
#[path = "ipc_own/raw_own.rs"]
mod raw_own;
#[path = "ipc_own/servers.rs"]
mod servers;
#[path = "ipc/support.rs"]
mod support;

use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::{Client, ClientError, ConnectOptions};
use pmxcfs::ipc::qb::own::Answer;
use pmxcfs::ipc::session;
use std::time::Duration;
use support::*;

/// Runs only in the process that [`spawn_server`] starts.
#[test]
fn server_process() {
    serve_if_asked();
}

#[test]
fn messages_of_all_sizes() {
    let server = TestServer::start();
    let mut client = server.connect();
    assert_eq!(client.max_message_size(), 1 << 20);
    let Answer { requests_len, answers_len, .. } = Answer::new(1 << 20).unwrap();
    // Where it goes on in the long ring: header, margin, and one more or less.
    let edges = [requests_len - 16 - 12, answers_len - 24 - 12].map(|len| len as usize);
    let around = edges.into_iter().flat_map(|edge| edge - 5..edge + 5);
    let others = [0, 1, 3, 4, 700, 4096, 65536, 99_991, 212_992, 300_007, 1_048_551, 1_048_552];
    let mut lens: Vec<usize> = around.chain(others).collect();
    lens.sort();
    for round in 0..20u8 {
        for len in &lens {
            assert_echo(&mut client, &vec![round; *len]);
        }
    }
    let long = |len: u32| len.to_ne_bytes();
    let answer = client.request(LENGTH, &long((1 << 20) - 24), Some(LIMIT)).unwrap();
    assert_eq!(answer.data.as_bytes().len(), (1 << 20) - 24);
    let answer = client.request(LENGTH, &long((1 << 20) - 23), Some(LIMIT)).unwrap();
    assert_eq!(answer.error, -libc::ENOBUFS, "longer than agreed");
    assert!(matches!(client.send(ECHO, &vec![0; (1 << 20) - 15]), Err(ClientError::TooLong)));
    assert_echo(&mut client, b"the connection is fine");
}

#[test]
fn a_smaller_size_is_agreed_as_with_libqb() {
    let server = TestServer::start();
    for (asked, agreed) in [(0, 12328), (20_000, 20_000), (u32::MAX, 1 << 20)] {
        let [own, libqb] = [false, true].map(|as_libqb| {
            let (namespace, timeout) = (Namespace::Abstract, Some(LIMIT));
            let options = ConnectOptions { namespace, max_message_size: asked, timeout, as_libqb };
            Client::connect_with(&server.name, &options).unwrap().max_message_size()
        });
        assert_eq!((own, libqb), (agreed, agreed));
    }
}

#[test]
fn several_requests_on_their_way() {
    let server = TestServer::start();
    let mut client = server.connect();
    for round in 0..50u8 {
        client.send(ECHO, &[round; 100]).unwrap();
        client.send(LENGTH, &150_000u32.to_ne_bytes()).unwrap();
        client.send(ECHO, &vec![round; 30_000]).unwrap();
        client.send(ECHO, &[round; 5]).unwrap();
        for expected in [vec![round; 100], vec![b'x'; 150_000], vec![round; 30_000], vec![round; 5]] {
            let (_, response) = client.receive(Some(LIMIT)).unwrap();
            assert!(response.data.as_bytes() == expected, "{} bytes", expected.len());
        }
    }
}

#[test]
fn many_at_once() {
    let server = TestServer::start();
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    std::thread::scope(|scope| {
        for (index, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                for round in 0..100 {
                    assert_echo(client, &vec![index as u8; round * 7919 % 400_000]);
                }
            });
        }
    });
    drop(clients);
    server.assert_clean();
}

#[test]
fn there_are_no_files() {
    let server = TestServer::start();
    let mut client = server.connect();
    assert_echo(&mut client, &[1; 100_000]);
    assert_eq!(entries(server.shm.path()), [""; 0]);
}

/// A server that may make files as long as libqb's, but no memory as long as ours takes.
#[test]
fn where_memory_of_our_own_cannot_be_had_there_are_files() {
    let (name, shm) = (unique_name(), shm_dir());
    let limited = r#"trap '' XFSZ; exec prlimit --fsize=1500000 "$0" "$@""#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", limited]).arg(std::env::current_exe().unwrap());
    let server = spawn_server_by(&mut command, &name, shm.path());
    let mut client = connect(&name);
    assert_eq!((client.max_message_size(), entries(shm.path()).len()), (1 << 20, 1));
    for len in [0, 700, 100_000, 1_048_552] {
        assert_echo(&mut client, &vec![7; len]);
    }
    drop(client);
    eventually("nothing is left", || entries(shm.path()).is_empty());
    server.finish();
}

#[test]
fn a_late_answer_ends_the_connection_a_late_receive_does_not() {
    let server = TestServer::start();
    let soon = Some(Duration::from_millis(10));
    let mut client = server.connect();
    client.send(WAIT, b"").unwrap();
    assert!(matches!(client.receive(soon), Err(ClientError::TimedOut)));
    assert!(client.is_connected());
    server.service.gate.open();
    assert_eq!(client.receive(Some(LIMIT)).unwrap().0, WAIT);
    assert_echo(&mut client, b"nothing was lost");
}

/// The daemon is restarted while a long request is on its way and when a long answer was had before.
#[test]
fn a_restart_between_and_in_long_messages() {
    let (name, shm) = (unique_name(), shm_dir());
    let (namespace, timeout) = (Namespace::Abstract, Some(LIMIT));
    let connect = ConnectOptions { namespace, max_message_size: 1 << 20, timeout, as_libqb: false };
    let options = session::Options { service: name.clone(), connect, restart: None, resend: true };
    let body = vec![7; 300_000];
    let mut server = spawn_server(&name, shm.path());
    let mut session = session::Session::open(options).unwrap();
    let mut message = Vec::new();
    for round in 0..5 {
        let header = session.request(ECHO, &body, timeout, &mut message).unwrap();
        assert_eq!((header.error, message.len()), (0, 24 + body.len()), "round {round}");
        server.kill();
        server = spawn_server(&name, shm.path());
    }
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| session.request(WAIT, &body, Some(Duration::from_millis(300)), &mut message));
        server.kill();
        server = spawn_server(&name, shm.path());
        // It was sent again to the new one, or never reached the old one; nobody answers it either way.
        let error = waiting.join().unwrap().unwrap_err();
        let allowed = [libc::ETIMEDOUT, libc::ECONNREFUSED, libc::ENOTCONN];
        assert!(allowed.contains(&error.to_errno()), "{error}");
    });
    let header = session.request(ECHO, &body, timeout, &mut message).unwrap();
    assert_eq!((header.error, message.len()), (0, 24 + body.len()));
    server.finish();
}
