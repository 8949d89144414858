//! Clients of our own connections, one that keeps the rules and those that break them: whatever they do, the
//! server serves others, and nothing is left in the end.

use super::raw_own::{ANSWERS, LONG_ANSWERS, LONG_REQUESTS, REQUESTS, RawOwn, dial};
use super::support::*;
use pmxcfs::ipc::qb::own::{DATA, HEADER_LEN, MOVED, REFERENCES};
use pmxcfs::ipc::qb::wire::{RequestHeader, ring_header};
use std::io::Write;
use std::time::Duration;

/// Runs `attack` against a server that must be fine afterwards.
fn against(attack: impl FnOnce(&TestServer)) {
    let server = TestServer::with(|options| options.room_timeout = Duration::from_millis(300));
    let mut witness = server.connect();
    attack(&server);
    assert_echo(&mut witness, &[9; 50_000]);
    assert_echo(&mut server.connect(), b"new clients are served");
    drop(witness);
    server.assert_clean();
}

#[test]
fn a_raw_client_that_keeps_the_rules() {
    against(|server| {
        let mut client = RawOwn::connect(&server.name);
        for ring in [REQUESTS, ANSWERS, LONG_REQUESTS, LONG_ANSWERS] {
            assert_eq!(client.get(ring * HEADER_LEN + REFERENCES), 1);
        }
        client.put_chunk(REQUESTS, &RawOwn::request(ECHO, b"short"));
        client.put_chunk(REQUESTS, &MOVED);
        client.put_chunk(LONG_REQUESTS, &RawOwn::request(ECHO, &[3; 20_000]));
        client.put_chunk(LONG_REQUESTS, &RawOwn::request(ECHO, &[4; 200_000]));
        client.put_chunk(LONG_REQUESTS, &RawOwn::request(ECHO, b"after"));
        client.say(&[0]);
        assert_eq!(client.expect_answer(ANSWERS).1, b"short");
        assert_eq!(client.expect_answer(ANSWERS).1, [3; 20_000]);
        assert_eq!(client.expect(ANSWERS), MOVED);
        assert_eq!(client.expect_answer(LONG_ANSWERS).1, [4; 200_000]);
        let (header, data) = client.expect_answer(LONG_ANSWERS);
        assert_eq!((header.id, header.error, &data[..]), (ECHO, 0, &b"after"[..]));
    });
}

#[test]
fn requests_of_another_length_are_answered() {
    against(|server| {
        let mut client = RawOwn::connect(&server.name);
        client.put_chunk(REQUESTS, &[&RawOwn::request(ECHO, b"text")[..], b"xy"].concat());
        client.say(&[0]);
        assert_eq!(client.expect_answer(ANSWERS).1, b"text");
        for size in [-5, 0, 17] {
            client.put_chunk(REQUESTS, &RequestHeader { id: ECHO, size }.encode());
            client.say(&[0]);
            let (header, data) = client.expect_answer(ANSWERS);
            assert_eq!((header.error, data.len()), (-libc::EINVAL, 0), "{size}");
        }
    });
}

#[test]
fn clients_that_break_the_rules() {
    type Attack = fn(&mut RawOwn);
    let attacks: [(&str, Attack); 7] = [
        ("a chunk that is too long", |c| {
            c.put_chunk(REQUESTS, &RawOwn::request(ECHO, b""));
            c.put(DATA, 0x7fff_ffff);
        }),
        ("short chunks", |c| c.put_chunk(REQUESTS, b"lon")),
        ("other short chunks", |c| c.put_chunk(REQUESTS, b"longer")),
        ("a second move", |c| {
            c.put_chunk(REQUESTS, &MOVED);
            c.put_chunk(LONG_REQUESTS, &MOVED);
        }),
        ("longer than agreed", |c| {
            c.put_chunk(REQUESTS, &MOVED);
            c.put_chunk(LONG_REQUESTS, &RawOwn::request(ECHO, &vec![0; (1 << 20) - 15]));
        }),
        ("an index beyond the ring", |c| {
            c.put(ANSWERS * HEADER_LEN + ring_header::READ_INDEX, 1 << 30);
            c.put_chunk(REQUESTS, &RawOwn::request(ECHO, b""));
        }),
        ("an index beyond the long ring", |c| {
            c.put(LONG_ANSWERS * HEADER_LEN + ring_header::READ_INDEX, 1 << 30);
            c.put_chunk(REQUESTS, &RawOwn::request(LENGTH, &100_000u32.to_ne_bytes()));
        }),
    ];
    for (what, attack) in attacks {
        println!("{what}");
        against(|server| {
            let mut client = RawOwn::connect(&server.name);
            attack(&mut client);
            client.say(&[0]);
            client.expect_hangup();
        });
    }
}

#[test]
fn clients_that_never_read_or_leave() {
    against(|server| {
        let ask = RawOwn::request(LENGTH, &400_000u32.to_ne_bytes());
        let mut client = RawOwn::connect(&server.name);
        (0..5).for_each(|_| client.put_chunk(REQUESTS, &ask));
        client.say(&[0]);
        client.expect_hangup();
        let mut left = RawOwn::connect(&server.name);
        left.put_chunk(REQUESTS, &ask);
        left.say(&[0]);
        drop(left);
        let mut moved = RawOwn::connect(&server.name);
        moved.put_chunk(REQUESTS, &MOVED);
        moved.say(&[0]);
        assert_echo(&mut server.connect(), b"nobody waits for what it has not sent");
    });
}

#[test]
fn clients_that_punch_holes() {
    use nix::fcntl::{FallocateFlags, fallocate};
    against(|server| {
        let mut client = RawOwn::connect(&server.name);
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let [.., end] = client.answer.layout();
        client.put_chunk(REQUESTS, &RawOwn::request(WAIT, b""));
        client.say(&[0]);
        eventually("it waits", || server.service.gate.waiting() == 1);
        fallocate(&client.memory, flags, 0, end as i64).unwrap();
        server.service.gate.open();
        // As if it were a new connection: the answer is there, or the server has hung up.
        client.hang_up();
        assert!(client.memory.set_len(0).is_err() && client.memory.set_len(1 << 30).is_err());
    });
}

#[test]
fn clients_that_never_take_their_memory() {
    against(|server| {
        for _ in 0..50 {
            drop(dial(&server.name));
        }
    });
}

/// Arbitrary bytes at arbitrary places of the memory and on the socket, from a seed.
#[test]
fn scribbles_at_random() {
    let mut random = Random::new();
    let mut next = move |below| random.below(below as u64) as usize;
    against(|server| {
        for _ in 0..100 {
            let mut client = RawOwn::connect(&server.name);
            client.socket.set_nonblocking(true).unwrap();
            for _ in 0..next(40) {
                match next(4) {
                    0 => client.put(next(client.answer.layout()[4] / 4) * 4, next(1 << 31) as u32),
                    1 => client.put(next(DATA / 4) * 4, next(40) as u32),
                    2 if client.next[REQUESTS] < 1000 => {
                        let size = next(3000) as i32;
                        let moves = next(10) == 0;
                        let request = RequestHeader { id: [ECHO, WHO, LENGTH][next(3)], size }.encode();
                        client.put_chunk(REQUESTS, if moves { &MOVED } else { &request });
                    }
                    // It may have hung up, or not listen.
                    _ => drop((&client.socket).write(&vec![next(256) as u8; 1 + next(2000)])),
                }
            }
        }
    });
}
