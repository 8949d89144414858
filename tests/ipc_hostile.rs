//! Clients that break the rules, each beside one that keeps them. Whatever they do, the server
//! lives, the other is answered rightly and in time, and nothing is left in the end.

#[path = "ipc_hostile/files.rs"]
mod files;
#[path = "ipc/raw.rs"]
mod raw;
#[path = "ipc_hostile/rings.rs"]
mod rings;
#[path = "ipc/support.rs"]
mod support;

use pmxcfs::clock::Clock;
use pmxcfs::ipc::qb::client::Client;
use pmxcfs::ipc::qb::wire::{AuthRequest, AuthResponse, RequestHeader, ring_header};
use raw::{COMMITTED, RawClient, dial, read_to_hangup};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::*;

/// An answer to the well-behaved client that takes longer is a delay. Far more than it ever takes,
/// as the machine may be busy; a stock server delays for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `attack` against a server while well-behaved clients use it, one of either kind.
fn against(attack: impl FnOnce(&TestServer)) {
    against_with(|_| {}, attack);
}

fn against_with(options: impl FnOnce(&mut pmxcfs::ipc::Options), attack: impl FnOnce(&TestServer)) {
    let server = TestServer::with(options);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let connects = [connect, connect_as_libqb];
        let (name, stopped) = (&server.name, &stop);
        let witnesses = connects.map(|connect| scope.spawn(move || behave_well(connect(name), stopped)));
        // Also when the attack's assertions fail, or the scope would wait for ever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let guard = Stop(&stop);
        attack(&server);
        assert_echo(&mut server.connect(), b"new clients are served");
        drop(guard);
        for witness in witnesses {
            let (rounds, slowest) = witness.join().unwrap();
            assert!(rounds > 0 && slowest < PATIENCE, "{rounds} answers, the slowest in {slowest:?}");
        }
    });
    server.assert_clean();
}

/// Echoes until told to stop; how often, and the longest one took.
fn behave_well(mut client: Client, stop: &AtomicBool) -> (u32, Duration) {
    let clock = Clock::start();
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) || rounds < 10 {
        let before = clock.uptime();
        assert_echo(&mut client, format!("round {rounds}").repeat(rounds as usize % 50).as_bytes());
        slowest = slowest.max(clock.uptime() - before);
        rounds += 1;
    }
    (rounds, slowest)
}

/// The hostile client gets an answer to an ordinary request.
fn assert_served(client: &mut RawClient) {
    client.send(ECHO, b"hello");
    eventually("an answer", || client.is_answered());
    let (header, data) = client.answer();
    assert_eq!((header.id, header.error, &data[..]), (ECHO, 0, &b"hello"[..]));
}

fn message(id: i32, size: i32, body: &[u8]) -> Vec<u8> {
    [&RequestHeader { id, size }.encode(), body].concat()
}

#[test]
fn says_nothing_or_half_of_it() {
    against_with(
        |options| options.auth_timeout = Duration::from_millis(300),
        |server| {
            let mut silent = dial(&server.name);
            let mut half = dial(&server.name);
            half.write_all(&AuthRequest { max_message_size: 1 }.encode()[..23]).unwrap();
            assert_eq!(read_to_hangup(&silent), b"", "dropped at the deadline");
            assert_eq!(read_to_hangup(&half), b"");
            assert!(silent.write_all(&[0]).is_err());
        },
    );
}

#[test]
fn floods_with_silent_connections() {
    against(|server| {
        let silent: Vec<_> = (0..300).map(|_| dial(&server.name)).collect();
        assert_echo(&mut server.connect(), b"served before any of them times out");
        assert_eq!(read_to_hangup(&silent[0]), b"", "the oldest had to make room");
    });
}

#[test]
fn comes_and_goes() {
    against(|server| {
        for round in 0..200 {
            let mut socket = dial(&server.name);
            let request = AuthRequest { max_message_size: 1 << 20 }.encode();
            socket.write_all(&request[..round % 25]).unwrap();
        }
        for _ in 0..50 {
            drop(RawClient::connect(&server.name));
        }
    });
}

#[test]
fn asks_for_something_else_than_authentication() {
    against(|server| {
        for request in [[0; 24], [0xaa; 24]] {
            let mut socket = dial(&server.name);
            socket.write_all(&request).unwrap();
            assert_eq!(read_to_hangup(&socket), b"", "not a word");
        }
    });
}

#[test]
fn sends_more_than_its_request() {
    against(|server| {
        let mut socket = dial(&server.name);
        let request = AuthRequest { max_message_size: 0 }.encode();
        socket.write_all(&[&request[..], &[7; 5000]].concat()).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = read_to_hangup(&socket);
        assert_eq!(AuthResponse::parse(&answer).unwrap().max_message_size, 12328);
    });
}

#[test]
fn asks_for_absurd_sizes() {
    against(|server| {
        for (asked, agreed) in
            [(0, 12328), (1, 12328), (20000, 20000), (200 << 20, 1 << 20), (u32::MAX, 1 << 20)]
        {
            let mut client = RawClient::connect_asking(&server.name, asked);
            assert_eq!(client.response.max_message_size, agreed);
            let len = client.requests.data.metadata().unwrap().len();
            assert!(len < u64::from(agreed) + 8192, "{len}");
            assert_served(&mut client);
        }
    });
}

#[test]
fn sends_descriptors_with_the_bell() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::{IoSlice, Read};
    use std::os::fd::AsRawFd;
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        let (mut ours, sent) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(LIMIT)).unwrap();
        let (fds, bell) = ([sent.as_raw_fd()], [IoSlice::new(&[0])]);
        let rights = [ControlMessage::ScmRights(&fds)];
        let socket = client.socket.as_raw_fd();
        sendmsg::<()>(socket, &bell, &rights, MsgFlags::empty(), None).unwrap();
        drop(sent);
        assert_served(&mut client);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the server keeps no copy");
    });
}

/// Arbitrary bytes at arbitrary places of all files, cuts and bells, from a seed.
#[test]
fn scribbles_at_random() {
    let mut seeded = Random::new();
    let mut random = move |below| seeded.below(below);
    const PLACES: [usize; 8] = [
        ring_header::WRITE_INDEX,
        ring_header::READ_INDEX,
        ring_header::WORDS,
        ring_header::REFERENCES,
        ring_header::SEMAPHORE,
        ring_header::SEMAPHORE + 4,
        ring_header::SEMAPHORE + 8,
        ring_header::FLOW_CONTROL,
    ];
    const VALUES: [u32; 8] = [0, 1, 2, 16, 0x403ff, 0x40400, COMMITTED, u32::MAX];
    against(|server| {
        for _ in 0..60 {
            let mut client = RawClient::connect(&server.name);
            for _ in 0..30 {
                let ring = [&client.requests, &client.responses, &client.events];
                let ring = ring[random(3) as usize];
                let value = match random(2) {
                    0 => VALUES[random(8) as usize],
                    _ => random(1 << 32) as u32,
                };
                let sent = match random(8) {
                    0 => ring.header.set_len(random(9000)),
                    1 => ring.data.set_len(random(1 << 21)),
                    2 | 3 => {
                        ring.header.write_all_at(&value.to_ne_bytes(), PLACES[random(8) as usize] as u64)
                    }
                    4 => ring.data.write_all_at(&value.to_ne_bytes(), random(64) * 4),
                    5 => client.socket.write_all(&[0]),
                    _ => {
                        let (header, state) = (message(ECHO, 20, b"abcd"), COMMITTED);
                        client.put(&header, 20, state);
                        let semaphore = ring_header::SEMAPHORE as u64;
                        let posted = client.requests.header.write_all_at(&1u32.to_ne_bytes(), semaphore);
                        posted.and_then(|()| client.socket.write_all(&[0]))
                    }
                };
                if sent.is_err() {
                    break; // hung up on
                }
            }
        }
    });
}
