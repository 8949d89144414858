//! Clients that break the rules, each beside one that keeps them. Whatever they do, the server
//! lives, the other is answered rightly and in time, and nothing is left in the end.

#[path = "ipc/raw.rs"]
mod raw;
#[path = "ipc/support.rs"]
mod support;

use pmxcfs::clock::Clock;
use pmxcfs::errno::ToErrno;
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
fn truncates_each_file() {
    against(|server| {
        for (file, len) in (0..6).flat_map(|file| [0, 4096, 8200].map(|len| (file, len))) {
            let mut client = RawClient::connect(&server.name);
            assert_served(&mut client);
            client.files()[file].set_len(len).unwrap();
            match file {
                0 => client.ring_bell(),
                1 => {
                    client.post();
                    client.ring_bell();
                }
                _ => client.send(ECHO, b"x"),
            }
            // The semaphore of a header is on its third page; the first page of the data is in use.
            let needed = [8192, 1, 8192, 1, 0, 0][file];
            if len < needed {
                client.expect_hangup();
            }
        }
    });
}

#[test]
fn truncates_while_an_answer_is_written() {
    against(|server| {
        for _ in 0..30 {
            let mut client = RawClient::connect(&server.name);
            client.send(LENGTH, &1_000_000u32.to_ne_bytes());
            // Sometimes before, sometimes within, sometimes after the copy.
            client.responses.data.set_len(4096).unwrap();
            client.ring_bell();
            client.responses.header.set_len(0).unwrap();
            client.requests.header.set_len(0).unwrap();
            client.ring_bell();
            client.expect_hangup();
        }
    });
}

#[test]
fn truncates_and_leaves() {
    against(|server| {
        for _ in 0..20 {
            let client = RawClient::connect(&server.name);
            client.files().iter().for_each(|file| file.set_len(0).unwrap());
            client.hang_up();
        }
    });
}

#[test]
fn names_other_files_in_the_header() {
    let victim = tempfile::NamedTempFile::new().unwrap();
    let path = [victim.path().as_os_str().as_encoded_bytes(), b"\0"].concat();
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        for file in [&client.requests, &client.responses, &client.events] {
            file.header.write_all_at(&path, ring_header::HEADER_PATH as u64).unwrap();
            file.header.write_all_at(&path, ring_header::DATA_PATH as u64).unwrap();
        }
        assert_served(&mut client);
        client.hang_up();
    });
    assert!(victim.path().exists());
}

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

#[test]
fn messages_that_lie_about_their_size_or_end_the_connection() {
    against(|server| {
        let sizes = [-5, 0, 15, 18, 20, 0x10_0000, i32::MAX, i32::MIN].map(|size| (ECHO, size));
        for (id, size) in sizes.into_iter().chain([(-3, 19)]) {
            let mut client = RawClient::connect(&server.name);
            client.send_message(&message(id, size, b"abc"));
            client.expect_hangup();
        }
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

/// A file system of its own for shared memory; unmounted when dropped.
struct SmallTmpfs(tempfile::TempDir);

impl SmallTmpfs {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=1777");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(dir.path())
            .status();
        assert!(mount.unwrap().success());
        Self(dir)
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let umount = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(umount.is_ok_and(|status| status.success()));
    }
}

/// The files are sparse. libqb's client allocates them and fails if it cannot; where a client does
/// not care, the server finds out when it writes.
#[test]
fn takes_all_the_shared_memory() {
    let tmpfs = SmallTmpfs::mount("6M");
    against_with(
        |options| options.shm_dir = tmpfs.0.path().into(),
        |server| {
            // The well-behaved client has allocated what it needs by then.
            eventually("it is served", || {
                let dirs = entries(tmpfs.0.path()).into_iter().map(|dir| tmpfs.0.path().join(dir));
                let mut headers = dirs.map(|dir| dir.join(format!("qb-request-{}-header", server.name)));
                let written = |header: Vec<u8>| header.get(..4).is_some_and(|index| index != [0; 4]);
                headers.any(|header| std::fs::read(header).is_ok_and(written))
            });
            let filler = std::fs::File::create(tmpfs.0.path().join("filler")).unwrap();
            let full = (0..).find(|page| filler.write_all_at(&[1; 4096], page * 4096).is_err()).unwrap();
            // Room for the headers and the first pages of the rings only.
            filler.set_len((full - 20) * 4096).unwrap();
            let mut client = RawClient::connect(&server.name);
            assert_served(&mut client);
            client.send(LENGTH, &1_000_000u32.to_ne_bytes());
            client.expect_hangup();
            let refused = try_connect_as_libqb(&server.name).map(drop).map_err(|e| e.to_errno());
            assert_eq!(refused, Err(libc::ENOSPC));
            // Ours needs none of it.
            assert_echo(&mut server.connect(), &[7; 1_000_000]);
            drop(filler);
            std::fs::remove_file(tmpfs.0.path().join("filler")).unwrap();
        },
    );
}

/// Arbitrary bytes at arbitrary places of all files, cuts and bells, from a seed.
#[test]
fn scribbles_at_random() {
    use std::hash::{BuildHasher, Hasher};
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    println!("SEED={seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
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
