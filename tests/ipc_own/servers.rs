//! Servers of our own connections that break the rules, towards our client.

use super::fake::{FakeServer, say_with, until_left};
use super::handshakes::{ANSWER, END, memory};
use super::raw::COMMITTED;
use super::raw_own::{ANSWERS, LONG_ANSWERS, LONG_REQUESTS, REQUESTS, semaphore};
use super::support::ECHO;
use pmxcfs::clock::Clock;
use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::qb::own::{HEADER_LEN, MOVED, REFERENCES};
use pmxcfs::ipc::qb::wire::ResponseHeader;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What a request ends with when the server takes the client in and then does `then` with its memory.
fn request_to(body: &[u8], then: impl Fn(&UnixStream, &File) + Sync) -> Result<usize, i32> {
    let server = FakeServer::start(1 << 20, Duration::from_millis(300));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.accept();
            let memory = memory(END, libc::F_SEAL_SHRINK);
            for ring in 0..4 {
                memory.write_all_at(&1u32.to_ne_bytes(), (ring * HEADER_LEN + REFERENCES) as u64).unwrap();
            }
            say_with(&client, &ANSWER.encode(), &[&memory]);
            if matches!(client.read(&mut [0]), Ok(1)) {
                then(&client, &memory);
            }
            until_left(&client);
        });
        let mut client = server.connect().unwrap();
        let clock = Clock::start();
        let result = client.request(ECHO, body, Some(Duration::from_millis(200)));
        assert!(clock.uptime() < Duration::from_secs(5), "{:?}", clock.uptime());
        result.map(|answer| answer.data.as_bytes().len()).map_err(|error| error.to_errno())
    })
}

/// Puts a chunk at the start of a ring.
fn put_chunk(memory: &File, ring: usize, chunk: &[u8]) {
    let at = ANSWER.layout()[ring] as u64;
    memory.write_all_at(chunk, at + 8).unwrap();
    memory.write_all_at(&(chunk.len() as u32).to_ne_bytes(), at).unwrap();
    memory.write_all_at(&COMMITTED.to_ne_bytes(), at + 4).unwrap();
    memory.write_all_at(&1u32.to_ne_bytes(), semaphore(ring) as u64).unwrap();
    // It may wait for it already, and writing does not wake it: it looks again soon.
}

fn answer(size: i32, data: &[u8]) -> Vec<u8> {
    [&ResponseHeader { id: ECHO, size, error: 0 }.encode()[..], data].concat()
}

#[test]
fn servers_that_break_the_rules() {
    let result = |then: fn(&File)| {
        request_to(b"x", move |_, memory| {
            then(memory);
        })
    };
    assert_eq!(result(|m| put_chunk(m, ANSWERS, &answer(24, b""))), Ok(0), "what is right is taken");
    let moved = result(|m| {
        put_chunk(m, LONG_ANSWERS, &answer(10_024, &[5; 10_000]));
        put_chunk(m, ANSWERS, &MOVED);
    });
    assert_eq!(moved, Ok(10_000));
    let again = result(|m| {
        put_chunk(m, LONG_ANSWERS, &MOVED);
        put_chunk(m, ANSWERS, &MOVED);
    });
    assert_eq!(again, Err(libc::EBADMSG), "a second move");
    assert_eq!(result(|m| put_chunk(m, ANSWERS, &MOVED)), Err(libc::ETIMEDOUT), "and nothing there");
    for (what, chunk) in [
        ("no chunk", vec![]),
        ("short", b"lon".to_vec()),
        ("short too", b"longer".to_vec()),
        ("longer than it says", answer(24, b"x")),
        ("shorter than it says", answer(25, b"")),
        ("no length", answer(-1, b"")),
    ] {
        let result = request_to(b"x", move |_, memory| put_chunk(memory, ANSWERS, &chunk));
        assert_eq!(result, Err(libc::EBADMSG), "{what}");
    }
    assert_eq!(result(|_| {}), Err(libc::ETIMEDOUT));
    let dies = request_to(b"x", |client, memory| {
        put_chunk(memory, ANSWERS, &MOVED);
        client.shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert_eq!(dies, Err(libc::ENOTCONN));
    // More than the agreed size would need: such a server has agreed to more than its rings hold.
    let longer_than_the_ring = request_to(&[1; 100_000], |_, _| {});
    assert_eq!(longer_than_the_ring, Err(libc::EAGAIN));
    let says_more = request_to(b"x", |client, memory| {
        say_with(client, &[5; 5000], &[]);
        put_chunk(memory, ANSWERS, &answer(24, b""));
    });
    assert_eq!(says_more, Ok(0), "nobody reads that");
}

#[test]
fn a_long_request_is_where_it_should_be() {
    let body: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    let sent = body.clone();
    let result = request_to(&body, move |_, memory| {
        let [short, long] = [REQUESTS, LONG_REQUESTS].map(|ring| ANSWER.layout()[ring] as u64);
        let mut chunk = [0; 12];
        memory.read_exact_at(&mut chunk, short).unwrap();
        assert_eq!(chunk, *[&4u32.to_ne_bytes()[..], &COMMITTED.to_ne_bytes(), &MOVED].concat());
        let mut chunk = vec![0; 8 + 16 + sent.len()];
        memory.read_exact_at(&mut chunk, long).unwrap();
        assert_eq!(chunk[..4], (16 + sent.len() as u32).to_ne_bytes());
        assert!(chunk[24..] == sent[..]);
        put_chunk(memory, ANSWERS, &answer(24, b""));
    });
    assert_eq!(result, Ok(0));
}
