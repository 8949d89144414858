//! Clients that fill their rings with what does not belong there, or do not move them on.

use super::raw::{COMMITTED, RawClient};
use super::support::*;
use super::{against, against_with, assert_served, message};
use pmxcfs::clock::Clock;
use pmxcfs::ipc::qb::wire::ring_header;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

#[test]
fn changes_what_only_the_server_may_change() {
    against(|server| {
        for absurd in [0, 1, 7, 0x40400, 0x7fff_ffff, u32::MAX] {
            let mut client = RawClient::connect(&server.name);
            for _ in 0..3 {
                for ring in [&client.requests, &client.responses, &client.events] {
                    ring.set(ring_header::WORDS, absurd);
                    ring.set(ring_header::REFERENCES, absurd);
                    ring.set(ring_header::FLOW_CONTROL, absurd);
                    ring.set(ring_header::SEMAPHORE + 8, absurd); // process-shared
                }
                client.requests.set(ring_header::READ_INDEX, absurd);
                client.requests.set(ring_header::WRITE_INDEX, absurd);
                client.responses.set(ring_header::WRITE_INDEX, absurd);
                assert_served(&mut client);
            }
        }
    });
}

#[test]
fn claims_to_have_read_beyond_the_ring() {
    against(|server| {
        for absurd in [0x40400, 0x40401, 0x8000_0000, u32::MAX] {
            let mut client = RawClient::connect(&server.name);
            client.responses.set(ring_header::READ_INDEX, absurd);
            client.send(ECHO, b"x");
            client.expect_hangup();
        }
        // Within the ring it harms only what it reads itself.
        let mut client = RawClient::connect(&server.name);
        client.responses.set(ring_header::READ_INDEX, 0x403ff);
        assert_served(&mut client);
    });
}

#[test]
fn chunks_of_absurd_lengths() {
    against(|server| {
        for len in [0, 1, 15, (1 << 20) + 1, 0x10_1000, 0xffff_fff0, u32::MAX] {
            let mut client = RawClient::connect(&server.name);
            assert_served(&mut client);
            client.put(&message(ECHO, len as i32, b"abc"), len, COMMITTED);
            client.post();
            client.ring_bell();
            client.expect_hangup();
        }
    });
}

#[test]
fn chunks_in_another_state() {
    against(|server| {
        for state in [0, 0xa110_ced0, 0xd0d0_d0d0, u32::MAX] {
            let mut client = RawClient::connect(&server.name);
            client.put(&message(ECHO, 16, b""), 16, state);
            client.post();
            client.ring_bell();
            client.expect_hangup();
        }
    });
}

/// The stock daemon serves a message with bytes behind its end, and answers EINVAL to one that is too short.
#[test]
fn requests_of_another_length_are_answered() {
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        for size in [-5, 0, 15, 20, 0x10_0000, i32::MAX, i32::MIN] {
            client.send_message(&message(ECHO, size, b"abc"));
            eventually("an answer", || client.is_answered());
            let (header, data) = client.answer();
            assert_eq!((header.id, header.error, data.len()), (ECHO, -libc::EINVAL, 0), "{size}");
        }
        for (size, echoed) in [(19, &b"abc"[..]), (18, b"ab"), (16, b"")] {
            client.send_message(&message(ECHO, size, b"abc"));
            eventually("an answer", || client.is_answered());
            let (header, data) = client.answer();
            assert_eq!((header.error, &data[..]), (0, echoed), "{size}");
        }
        assert_served(&mut client);
    });
}

#[test]
fn request_to_disconnect_ends_the_connection() {
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        client.send_message(&message(-3, 19, b"abc"));
        client.expect_hangup();
    });
}

#[test]
fn changes_a_message_while_it_is_handled() {
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        client.send(WAIT, b"as it was sent");
        eventually("the request arrives", || server.service.gate.waiting() == 1);
        client.requests.data.write_all_at(&[0xff; 200], 0).unwrap();
        server.service.gate.open();
        eventually("an answer", || client.is_answered());
        assert_eq!(client.answer().1, b"as it was sent");
    });
}

#[test]
fn semaphores_with_absurd_values() {
    against(|server| {
        // Announces what is not there.
        for surplus in [1, 1000, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let mut client = RawClient::connect(&server.name);
            client.requests.set(ring_header::SEMAPHORE, surplus);
            client.ring_bell();
            client.expect_hangup();
        }
        // Answers cannot be counted any more; waiters that are none.
        for (value, waiters) in [(0x7fff_ffff, 0), (u32::MAX, 0), (0, 1), (0, u32::MAX)] {
            let mut client = RawClient::connect(&server.name);
            client.responses.set(ring_header::SEMAPHORE, value);
            client.responses.set(ring_header::SEMAPHORE + 4, waiters);
            assert_served(&mut client);
            assert_served(&mut client);
        }
    });
}

#[test]
fn rings_too_seldom() {
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        let echo = message(ECHO, 17, b"x");
        for _ in 0..5 {
            client.put(&echo, echo.len() as u32, COMMITTED);
            client.post();
        }
        assert_echo(&mut server.connect(), b"nobody waits for the bytes");
        client.ring_bell();
        for _ in 0..5 {
            eventually("an answer", || client.is_answered());
            assert_eq!(client.answer().1, b"x");
        }
    });
}

#[test]
fn rings_without_end() {
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        for _ in 0..100 {
            client.socket.write_all(&[1; 10_000]).unwrap();
        }
        assert_served(&mut client);
    });
}

#[test]
fn never_reads_its_answers() {
    against_with(
        |options| options.room_timeout = Duration::from_millis(300),
        |server| {
            let mut client = RawClient::connect(&server.name);
            let request = message(LENGTH, 20, &400_000u32.to_ne_bytes());
            for _ in 0..5 {
                client.put(&request, 20, COMMITTED);
            }
            client.requests.set(ring_header::SEMAPHORE, 5);
            client.ring_bell();
            client.expect_hangup();
        },
    );
}

#[test]
fn keeps_the_ring_filled_after_its_socket_is_closed() {
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        client.hang_up();
        let echo = message(ECHO, 17, b"x");
        let clock = Clock::start();
        while client.requests.header_path.exists() {
            assert!(clock.uptime() < LIMIT, "the server serves a ring without a socket");
            client.put(&echo, echo.len() as u32, COMMITTED);
            client.post();
            client.responses.set(ring_header::READ_INDEX, client.write);
        }
    });
}
