//! Our C programs against servers that break the rules: they get an error in the time that they asked
//! for, and go on. Each attack is tried by a program on libpmxcfs and by one on our libqb.

use crate::bad_server::{COMMITTED, Files, RING_LEN, admit, bell, listen, message, until_left};
use crate::installed::{c_client, command, qb_dir};
use crate::support::{run, stock_program, unique_name};
use pmxcfs::ipc::qb::wire::{AuthResponse, control_file, ring_header};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// The limit that the programs ask for.
const LIMIT_MS: u64 = 300;
/// What may go by beyond it: the machine may be busy.
const SLACK_MS: u64 = 3000;

/// What a program on libpmxcfs got: results of connecting and of a request.
fn ask(name: &str) -> (i32, i32) {
    let out = run(command(c_client()).args(["ask", name, &LIMIT_MS.to_string()]));
    let numbers: Vec<i64> = out.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let &[connected, result, took] = &numbers[..] else { panic!("{out}") };
    assert!(u64::try_from(took).unwrap() < 2 * LIMIT_MS + SLACK_MS, "took {took} ms");
    (connected as i32, result as i32)
}

/// A program on our libqb, which has a limit for the request only; it must end by itself.
fn ask_by_libqb(name: &str) {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "20"]).arg(stock_program()).args(["try", name, &LIMIT_MS.to_string()]);
    run(command.env("LD_LIBRARY_PATH", qb_dir()));
}

/// Attacks both programs; the errors of connecting and of the request.
fn attack(serve: impl FnMut(UnixStream) + Send + 'static) -> (i32, i32) {
    let name = unique_name();
    listen(&name, serve);
    let result = ask(&name);
    ask_by_libqb(&name);
    result
}

/// Attacks with rings, when the first request has come.
fn attack_rings(at_request: impl Fn(&Files) + Send + 'static) -> i32 {
    let (connected, result) = attack(move |client| {
        let files = Files::rings();
        admit(&client, &files.response());
        if bell(&client) {
            at_request(&files);
            until_left(&client);
        }
    });
    assert_eq!(connected, 0);
    result
}

/// Attacks with what the client is told when it connects.
fn attack_handshake(bytes: impl Fn(&Files) -> Vec<u8> + Send + 'static) -> i32 {
    let name = unique_name();
    listen(&name, move |mut client| {
        let files = Files::rings();
        client.write_all(&bytes(&files)).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        until_left(&client);
    });
    let (connected, _) = ask(&name);
    ask_by_libqb(&name);
    connected
}

fn told(change: impl Fn(&mut AuthResponse) + Send + 'static) -> i32 {
    attack_handshake(move |files| {
        let mut response = files.response();
        change(&mut response);
        response.encode().unwrap()
    })
}

#[test]
fn a_server_that_says_nothing() {
    let name = unique_name();
    listen(&name, |client| until_left(&client));
    assert_eq!(ask(&name), (-libc::ETIMEDOUT, 0));
    let name = unique_name();
    listen(&name, |mut client| {
        client.write_all(&[0xff; 5000]).unwrap();
        until_left(&client);
    });
    assert_eq!(ask(&name), (-libc::ETIMEDOUT, 0));
}

#[test]
fn answers_to_the_handshake_that_are_none() {
    assert_eq!(attack_handshake(|_| Vec::new()), -libc::ENOTCONN);
    assert_eq!(attack_handshake(|_| vec![0xff; 12327]), -libc::ENOTCONN);
    assert_eq!(attack_handshake(|_| vec![0; 12328]), -libc::EBADMSG);
    assert_eq!(attack_handshake(|_| vec![0xff; 12328]), -libc::EBADMSG);
    assert_eq!(told(|response| response.error = -libc::EACCES), -libc::EACCES);
    assert_eq!(told(|response| response.error = i32::MIN), -i32::MAX);
    assert_eq!(told(|response| response.connection_type = 3), -libc::ENOTSUP);
    assert_eq!(told(|response| response.connection_type = 0), -libc::ENOENT, "no such control file");
}

#[test]
fn lies_about_sizes_and_paths() {
    for size in [0, 1, 12328 + 4096, 1 << 30, u32::MAX - 12, u32::MAX] {
        let result = told(move |response| response.max_message_size = size);
        assert!(result < 0, "{size}: {result}");
    }
    assert_eq!(told(|response| response.rings[1] = b"/nowhere/at/all".to_vec()), -libc::ENOENT);
    assert_eq!(told(|response| response.rings[1] = b"relative".to_vec()), -libc::EBADMSG);
    assert!(told(|response| response.rings[2] = Vec::new()) < 0);
    let elsewhere = attack_handshake(|files| {
        files.files[0].set_len(100).unwrap();
        files.response().encode().unwrap()
    });
    assert_eq!(elsewhere, -libc::EBADMSG);
}

#[test]
fn dies_or_stalls_in_a_request() {
    let (connected, result) = attack(|client| {
        let files = Files::rings();
        admit(&client, &files.response());
        // Hangs up without a word when the request comes.
        bell(&client);
    });
    assert_eq!((connected, result), (0, -libc::ENOTCONN));
    assert_eq!(attack_rings(|_| {}), -libc::ETIMEDOUT);
}

#[test]
fn cuts_files() {
    for file in 0..5 {
        for len in [0, 4096] {
            let result = attack_rings(move |files| files.files[file].set_len(len).unwrap());
            assert!([-libc::EBADMSG, -libc::ETIMEDOUT].contains(&result), "file {file} to {len}: {result}");
            let (_, result) = attack(move |client| {
                let files = Files::rings();
                admit(&client, &files.response());
                // Somewhere between the opening of the files and the request.
                std::thread::sleep(Duration::from_millis(1));
                files.files[file].set_len(len).unwrap();
                until_left(&client);
            });
            assert!(result <= 0, "file {file} to {len}: {result}");
        }
    }
}

#[test]
fn garbage_in_the_ring() {
    let good = message(1, 24, b"");
    let refused = |len: u32, state: u32, bytes: Vec<u8>| {
        let result = attack_rings(move |files| files.answer(len, state, &bytes));
        assert_eq!(result, -libc::EBADMSG, "length {len}, state {state:x}");
    };
    for len in [0, 1, 8, 23, RING_LEN as u32 - 8, RING_LEN as u32, 0x7fff_ffff, 0xffff_fff0, u32::MAX] {
        refused(len, COMMITTED, good.clone());
    }
    for state in [0, 1, 0xd0d0_d0d0, 0xa110_ced0, u32::MAX] {
        refused(24, state, good.clone());
    }
    for size in [0, 23, 25, 1 << 20, -24, i32::MIN, i32::MAX] {
        refused(24, COMMITTED, message(1, size, b""));
    }
    refused(24, COMMITTED, message(2, 24, b""));
    assert_eq!(attack_rings(move |files| files.answer(24, COMMITTED, &good)), 0, "what is right is taken");
}

#[test]
fn garbage_in_the_headers() {
    for (offset, value) in [
        (ring_header::WRITE_INDEX, u32::MAX),
        (ring_header::READ_INDEX, u32::MAX),
        (ring_header::WORDS, 0),
        (ring_header::REFERENCES, 77),
        (ring_header::SEMAPHORE, u32::MAX),
        (ring_header::SEMAPHORE + 4, u32::MAX),
    ] {
        let result = attack_rings(move |files| {
            (0..3).for_each(|ring| files.put(2 * ring, offset as u64, value));
        });
        assert!([-libc::EBADMSG, -libc::ETIMEDOUT].contains(&result), "{offset}: {result}");
    }
    // Before the request: there is no room, nobody else, or the server is asked to be left alone.
    for (offset, value, expected) in [
        (ring_header::READ_INDEX, 1 << 20, -libc::EBADMSG),
        (ring_header::REFERENCES, 1, -libc::ENOTCONN),
        (ring_header::FLOW_CONTROL, 1, -libc::EAGAIN),
    ] {
        let (connected, result) = attack(move |client| {
            let files = Files::rings();
            if offset == ring_header::REFERENCES {
                // The client adds itself to it.
                files.put(0, offset as u64, value - 1);
            } else {
                files.put(0, offset as u64, value);
            }
            admit(&client, &files.response());
            until_left(&client);
        });
        assert_eq!((connected, result), (0, expected), "{offset}");
    }
}

/// Numbers that look random and are not: xorshift.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn scribbles_at_random() {
    let seed = std::env::var("PMXCFS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
    println!("PMXCFS_TEST_SEED={seed}");
    for round in 0..20u64 {
        let result = attack_rings(move |files| {
            let mut numbers = Numbers(seed.wrapping_add(round));
            files.answer(24, COMMITTED, &message(1, 24, b""));
            for _ in 0..200 {
                let file = numbers.next() as usize % 6;
                let len = if file % 2 == 0 { ring_header::LEN as u64 } else { 64 };
                files.put(file, numbers.next() % (len / 4) * 4, numbers.next() as u32);
            }
        });
        assert!(result <= 0, "seed {seed}, round {round}");
    }
}

/// The same over sockets.
fn attack_sockets(at_request: impl Fn(&Files) + Send + 'static) -> i32 {
    let (connected, result) = attack(move |client| {
        let files = Files::sockets();
        admit(&client, &files.response());
        let mut request = [0; 64];
        // Until the client has sent one, or has left.
        nix::sys::socket::setsockopt(
            &files.sockets[0],
            nix::sys::socket::sockopt::ReceiveTimeout,
            &nix::sys::time::TimeVal::new(5, 0),
        )
        .unwrap();
        if nix::unistd::read(&files.sockets[0], &mut request).is_ok() {
            at_request(&files);
        }
        until_left(&client);
    });
    assert_eq!(connected, 0);
    result
}

#[test]
fn datagrams_that_are_no_answers() {
    assert_eq!(attack_sockets(|files| files.send(&message(1, 24, b""))), 0, "what is right is taken");
    assert_eq!(attack_sockets(|_| {}), -libc::ETIMEDOUT);
    assert_eq!(attack_sockets(|files| files.send(b"")), -libc::ENOTCONN);
    assert_eq!(attack_sockets(|files| files.send(&[0; 23])), -libc::ENOTCONN);
    for size in [0, 23, 25, 1 << 20, -24, i32::MIN, i32::MAX] {
        assert_eq!(attack_sockets(move |files| files.send(&message(1, size, b""))), -libc::EBADMSG);
    }
    assert_eq!(attack_sockets(|files| files.send(&message(1, 60_024, &[0; 60_000]))), -libc::EBADMSG);
    let cut = attack_sockets(|files| {
        files.files[0].set_len(0).unwrap();
        files.send(&message(1, 24, b""));
    });
    assert_eq!(cut, -libc::EBADMSG);
    let held_back = attack_sockets(|files| {
        files.put(0, control_file::FLOW_CONTROL as u64, 1);
        files.send(&message(7, 24, b""));
    });
    assert_eq!(held_back, -libc::EBADMSG);
}
