//! Connections of our own, between our client and our server: that they carry all that those of libqb do,
//! and that either end survives the other.

#[path = "ipc/support.rs"]
mod support;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use pmxcfs::clock::Clock;
use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::{Client, ClientError, ConnectOptions};
use pmxcfs::ipc::qb::own::{ANSWER_LEN, Answer, DATA, HEADER_LEN, REFERENCES, mark};
use pmxcfs::ipc::qb::wire::{
    AUTH_REQUEST_LEN, AuthRequest, AuthResponse, RequestHeader, ResponseHeader, ring_header,
};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;
use support::*;

const COMMITTED: u32 = 0xa1a1_a1a1;

#[test]
fn messages_of_all_sizes() {
    let server = TestServer::start();
    let mut client = server.connect();
    assert_eq!(client.max_message_size(), 1 << 20);
    let Answer { requests_len, answers_len, .. } = Answer::new(1 << 20);
    // Where one goes from the ring to the socket: header, margin, and one more or less.
    let edges = [requests_len - 16 - 12, answers_len - 24 - 12].map(|len| len as usize);
    let around = edges.into_iter().flat_map(|edge| edge - 5..edge + 5);
    let others = [0, 1, 3, 4, 700, 4096, 65536, 99_991, 212_992, 300_007, 1_048_551, 1_048_552];
    for round in 0..20u8 {
        for len in around.clone().chain(others) {
            assert_echo(&mut client, &vec![round; len]);
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

/// A client that speaks the protocol byte by byte and may break each of its rules.
struct RawOwn {
    socket: UnixStream,
    memory: File,
    answer: Answer,
    write: u32,
    sent: u32,
}

/// Connects to the setup socket and sends a marked request.
fn dial(name: &str) -> UnixStream {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(107, 0);
    let mut socket = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&padded).unwrap()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut request = AuthRequest { max_message_size: 1 << 20 }.encode();
    mark(&mut request);
    socket.write_all(&request).unwrap();
    socket
}

/// Reads with the descriptors that come along.
fn read_with_descriptors(socket: &UnixStream, bytes: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    let mut parts = [std::io::IoSliceMut::new(bytes)];
    let mut control = nix::cmsg_space!([i32; 4]);
    let fd = socket.as_raw_fd();
    let message =
        nix::sys::socket::recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)
            .unwrap();
    let mut descriptors = Vec::new();
    for control in message.cmsgs().unwrap() {
        if let nix::sys::socket::ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just opened them for us alone.
            descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    (message.bytes, descriptors)
}

impl RawOwn {
    fn connect(name: &str) -> Self {
        let socket = dial(name);
        let mut bytes = [0; 4096];
        let (len, mut descriptors) = read_with_descriptors(&socket, &mut bytes);
        assert_eq!((len, descriptors.len()), (ANSWER_LEN, 1));
        let answer = Answer::parse(&bytes[..len]).unwrap();
        let memory = File::from(descriptors.remove(0));
        assert_eq!(memory.metadata().unwrap().len(), answer.memory_len() as u64);
        Self { socket, memory, answer, write: 0, sent: 0 }
    }

    fn put(&self, at: usize, value: u32) {
        self.memory.write_all_at(&value.to_ne_bytes(), at as u64).unwrap();
    }

    fn get(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read_exact_at(&mut bytes, at as u64).unwrap();
        u32::from_ne_bytes(bytes)
    }

    /// Puts a chunk into the ring, without a word. For as many as fit before it wraps.
    fn put_chunk(&mut self, chunk: &[u8]) {
        let at = DATA + self.write as usize * 4;
        self.memory.write_all_at(chunk, at as u64 + 8).unwrap();
        self.put(at, chunk.len() as u32);
        self.put(at + 4, COMMITTED);
        self.write += 2 + chunk.len().div_ceil(4) as u32;
        self.put(ring_header::WRITE_INDEX, self.write);
        self.sent += 1;
        let semaphore = REFERENCES + ring_header::SEMAPHORE - ring_header::REFERENCES;
        self.put(semaphore, self.get(semaphore) + 1);
    }

    fn header(size: i32) -> [u8; 16] {
        RequestHeader { id: ECHO, size }.encode()
    }

    fn say(&self, bytes: &[u8]) {
        (&self.socket).write_all(bytes).unwrap();
    }

    /// The server must hang up.
    fn expect_hangup(&self) {
        let mut rest = Vec::new();
        match (&self.socket).read_to_end(&mut rest) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => {}
        }
    }

    /// The first answer, which must come.
    fn expect_answer(&self) -> (ResponseHeader, Vec<u8>) {
        let at = DATA + self.answer.requests_len as usize;
        eventually("an answer", || self.get(at + 4) == COMMITTED);
        let mut bytes = vec![0; self.get(at) as usize];
        self.memory.read_exact_at(&mut bytes, at as u64 + 8).unwrap();
        let (header, data) = ResponseHeader::split(&bytes).unwrap();
        (header, data.to_vec())
    }
}

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
        let references = [REFERENCES, HEADER_LEN + REFERENCES].map(|at| client.get(at));
        assert_eq!(references, [1, 1]);
        client.put_chunk(&RawOwn::header(16 + 1000));
        client.say(&[0]);
        client.say(&[3; 400]);
        client.say(&[3; 600]);
        let (header, data) = client.expect_answer();
        assert_eq!((header.id, header.error, data), (ECHO, 0, vec![3; 1000]));
    });
}

/// The bytes that ring for small requests stand before the body of a large one, whether the server has
/// heard them yet or not.
#[test]
fn a_body_behind_many_bells() {
    against(|server| {
        let mut client = RawOwn::connect(&server.name);
        let small = [&RawOwn::header(17)[..], b"x"].concat();
        (0..100).for_each(|_| client.put_chunk(&small));
        client.put_chunk(&RawOwn::header(16 + 5));
        client.put_chunk(&small);
        client.say(&[0; 30]);
        client.say(&[0; 71]);
        client.say(b"body!");
        client.say(&[0]);
        let answers = DATA + client.answer.requests_len as usize;
        // Each small answer takes 2 words, and 25 bytes that are 7.
        let at = answers + 100 * 9 * 4;
        eventually("the answer to the large one", || client.get(at + 4) == COMMITTED);
        assert_eq!(client.get(at), 24 + 5);
        let mut body = [0; 5];
        client.memory.read_exact_at(&mut body, at as u64 + 8 + 24).unwrap();
        assert_eq!(&body, b"body!");
        let last = at + (2 + 8) * 4;
        eventually("the last answer", || client.get(last + 4) == COMMITTED);
    });
}

#[test]
fn clients_that_break_the_rules() {
    type Attack = fn(&mut RawOwn);
    let attacks: [(&str, Attack); 8] = [
        ("a bell without a request", |c| c.say(&[0])),
        ("a body longer than agreed", |c| {
            c.put_chunk(&RawOwn::header((1 << 20) + 1));
            c.say(&[0]);
        }),
        ("a length that is none", |c| {
            c.put_chunk(&RawOwn::header(-5));
            c.say(&[0]);
        }),
        ("longer than its header says", |c| {
            c.put_chunk(&[&RawOwn::header(17)[..], b"xy"].concat());
            c.say(&[0]);
        }),
        ("a part of the body in the ring", |c| {
            c.put_chunk(&[&RawOwn::header(30)[..], b"xy"].concat());
            c.say(&[0; 20]);
        }),
        ("more than the body", |c| {
            c.put_chunk(&RawOwn::header(20));
            c.say(&[0; 50]);
        }),
        ("a chunk that is too long", |c| {
            c.put_chunk(&RawOwn::header(16));
            c.put(DATA, 0x7fff_ffff);
            c.say(&[0]);
        }),
        ("an index beyond the ring", |c| {
            c.put(HEADER_LEN + ring_header::READ_INDEX, 1 << 30);
            c.put_chunk(&RawOwn::header(16));
            c.say(&[0]);
        }),
    ];
    for (what, attack) in attacks {
        println!("{what}");
        against(|server| {
            let mut client = RawOwn::connect(&server.name);
            attack(&mut client);
            client.expect_hangup();
        });
    }
}

#[test]
fn clients_that_leave_or_stall_in_a_body() {
    against(|server| {
        for said in [1, 2, 900] {
            let mut client = RawOwn::connect(&server.name);
            client.put_chunk(&RawOwn::header(1016));
            client.say(&vec![0; said]);
            drop(client);
        }
        let mut stalled = RawOwn::connect(&server.name);
        stalled.put_chunk(&RawOwn::header(1016));
        stalled.say(&[0; 900]);
        assert_echo(&mut server.connect(), b"nobody waits for it");
    });
    // A stop does not wait for it either.
    let mut server = TestServer::start();
    let mut stalled = RawOwn::connect(&server.name);
    stalled.put_chunk(&RawOwn::header(1016));
    stalled.say(&[0; 900]);
    let clock = Clock::start();
    server.stop();
    assert!(clock.uptime() < Duration::from_secs(2));
    stalled.expect_hangup();
}

#[test]
fn clients_that_do_not_read_a_long_answer() {
    against(|server| {
        let ask =
            [&RequestHeader { id: LENGTH, size: 20 }.encode()[..], &1_000_000u32.to_ne_bytes()].concat();
        let mut client = RawOwn::connect(&server.name);
        client.put_chunk(&ask);
        client.say(&[0]);
        eventually("it is hung up on", || server.connections() == 1);
        let mut left = RawOwn::connect(&server.name);
        left.put_chunk(&ask);
        left.say(&[0]);
        drop(left);
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

/// A server of our own whose every word a test chooses.
fn serve(words: impl Fn(UnixStream) + Send + 'static) -> (tempfile::TempDir, ConnectOptions) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("server")).unwrap();
    setsockopt(&listener, sockopt::PassCred, &true).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            if client.read_exact(&mut [0; AUTH_REQUEST_LEN]).is_ok() {
                words(client);
            }
        }
    });
    let options = ConnectOptions {
        namespace: Namespace::Directory(dir.path().into()),
        max_message_size: 1 << 20,
        timeout: Some(Duration::from_millis(300)),
        as_libqb: false,
    };
    (dir, options)
}

/// Memory of a length, sealed or not.
fn memory(len: usize, seals: i32) -> File {
    let file = File::from(memfd_create(c"test", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    file.set_len(len as u64).unwrap();
    let seals = nix::fcntl::SealFlag::from_bits_retain(seals);
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

fn say_with(socket: &UnixStream, bytes: &[u8], files: &[&File]) {
    let fds: Vec<i32> = files.iter().map(|file| file.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    // The client may have left.
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
}

fn until_left(mut client: &UnixStream) {
    while matches!(client.read(&mut [0; 64]), Ok(1..)) {}
}

const ANSWER: Answer = Answer { max_message_size: 1 << 20, requests_len: 4096 - 256, answers_len: 4096 };

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs only in the process that [`a_server_sends_what_it_should_not`] starts, which has no other threads
/// that open files.
#[test]
fn handshakes_process() {
    if std::env::var_os("PMXCFS_TEST_HANDSHAKES").is_none() {
        return;
    }
    let good = || memory(ANSWER.memory_len(), libc::F_SEAL_SHRINK);
    let encoded = ANSWER.encode().to_vec();
    let libqb = AuthResponse::refusal(libc::EACCES).encode().unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = encoded.clone();
        bytes[at] = value;
        bytes
    };
    type Case = (&'static str, Vec<u8>, Vec<File>);
    let cases: Vec<Case> = vec![
        ("no memory", encoded.clone(), vec![]),
        ("two memories", encoded.clone(), vec![good(), good()]),
        ("many", encoded.clone(), (0..200).map(|_| good()).collect()),
        ("memory that could be cut", encoded.clone(), vec![memory(ANSWER.memory_len(), 0)]),
        ("too short", encoded.clone(), vec![memory(ANSWER.memory_len() - 1, libc::F_SEAL_SHRINK)]),
        ("too long", encoded.clone(), vec![memory(ANSWER.memory_len() + 1, libc::F_SEAL_SHRINK)]),
        ("no memory at all", encoded.clone(), vec![File::open("/dev/null").unwrap()]),
        ("a file", encoded.clone(), vec![tempfile::tempfile().unwrap()]),
        ("more bytes", [&encoded[..], &[0]].concat(), vec![good()]),
        ("fewer bytes", encoded[..39].to_vec(), vec![good()]),
        ("another length", changed(8, 41), vec![good()]),
        ("a ring of no length", changed(33, 0), vec![good()]),
        ("an odd ring", changed(32, 1), vec![good()]),
        ("a huge ring", changed(39, 0xff), vec![good()]),
        ("another version", changed(20, 0), vec![good()]),
        ("without the mark", changed(4, 0), vec![good()]),
        ("an error", changed(16, 1), vec![good()]),
        ("that of libqb, with memory", libqb, vec![good()]),
    ];
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("server")).unwrap();
    setsockopt(&listener, sockopt::PassCred, &true).unwrap();
    let options = ConnectOptions {
        namespace: Namespace::Directory(dir.path().into()),
        max_message_size: 1 << 20,
        timeout: Some(Duration::from_millis(100)),
        as_libqb: false,
    };
    let before = open_descriptors();
    for (what, bytes, files) in &cases {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut client, _) = listener.accept().unwrap();
                client.read_exact(&mut [0; AUTH_REQUEST_LEN]).unwrap();
                say_with(&client, bytes, &files.iter().collect::<Vec<_>>());
                until_left(&client);
            });
            let error = Client::connect_with("server", &options).unwrap_err();
            let allowed = [libc::EBADMSG, libc::ETIMEDOUT];
            assert!(allowed.contains(&error.to_errno()), "{what}: {error}");
        });
        assert_eq!(open_descriptors(), before, "{what}");
    }
    let good = good();
    let cut_off = |marked: bool| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut client, _) = listener.accept().unwrap();
                client.read_exact(&mut [0; AUTH_REQUEST_LEN]).unwrap();
                say_with(&client, &encoded, &[&good]);
                until_left(&client);
            });
            let options = ConnectOptions { as_libqb: !marked, ..options.clone() };
            Client::connect_with("server", &options).map(drop).map_err(|error| error.to_errno())
        })
    };
    assert_eq!(cut_off(true), Ok(()), "what is right is taken");
    assert_eq!(cut_off(false), Err(libc::EBADMSG), "but not by who has not asked for it");
    println!("\nall refused");
}

#[test]
fn a_server_sends_what_it_should_not() {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    command.args(["--exact", "handshakes_process", "--nocapture"]).env("PMXCFS_TEST_HANDSHAKES", "1");
    assert!(run(&mut command).contains("\nall refused\n"));
}

/// What a request ends with when the server takes the client in and then does `then` with its memory.
fn request_to(then: impl Fn(&UnixStream, &File) + Send + 'static) -> (Result<usize, i32>, Duration) {
    let (_dir, options) = serve(move |mut client| {
        let memory = memory(ANSWER.memory_len(), libc::F_SEAL_SHRINK);
        for at in [REFERENCES, HEADER_LEN + REFERENCES] {
            memory.write_all_at(&1u32.to_ne_bytes(), at as u64).unwrap();
        }
        say_with(&client, &ANSWER.encode(), &[&memory]);
        if matches!(client.read(&mut [0]), Ok(1)) {
            then(&client, &memory);
        }
        until_left(&client);
    });
    let mut client = Client::connect_with("server", &options).unwrap();
    let clock = Clock::start();
    let result = client.request(ECHO, b"x", Some(Duration::from_millis(200)));
    (result.map(|answer| answer.data.as_bytes().len()).map_err(|error| error.to_errno()), clock.uptime())
}

/// Puts an answer of which only these bytes are in the ring.
fn answer(memory: &File, chunk: &[u8]) {
    let at = (DATA + ANSWER.requests_len as usize) as u64;
    memory.write_all_at(chunk, at + 8).unwrap();
    memory.write_all_at(&(chunk.len() as u32).to_ne_bytes(), at).unwrap();
    memory.write_all_at(&COMMITTED.to_ne_bytes(), at + 4).unwrap();
    let semaphore = HEADER_LEN + REFERENCES + ring_header::SEMAPHORE - ring_header::REFERENCES;
    memory.write_all_at(&1u32.to_ne_bytes(), semaphore as u64).unwrap();
}

fn header(size: i32) -> [u8; 24] {
    ResponseHeader { id: ECHO, size, error: 0 }.encode()
}

#[test]
fn servers_that_break_the_rules() {
    let result = |then: fn(&UnixStream, &File)| {
        let (result, took) = request_to(then);
        assert!(took < Duration::from_secs(5), "{took:?}");
        result
    };
    let right = result(|client, memory| {
        say_with(client, &[5; 500], &[]);
        answer(memory, &header(1024));
        say_with(client, &[5; 500], &[]);
    });
    assert_eq!(right, Ok(1000), "what is right is taken");
    assert_eq!(result(|_, memory| answer(memory, &header(24))), Ok(0));
    let too_long = result(|_, memory| answer(memory, &header((1 << 20) + 1)));
    assert_eq!(too_long, Err(libc::EBADMSG));
    assert_eq!(result(|_, memory| answer(memory, &header(i32::MAX))), Err(libc::EBADMSG));
    assert_eq!(result(|_, memory| answer(memory, &header(-1))), Err(libc::EBADMSG));
    assert_eq!(result(|_, memory| answer(memory, &header(23))), Err(libc::EBADMSG));
    let in_part = result(|_, memory| answer(memory, &[&header(50)[..], b"x"].concat()));
    assert_eq!(in_part, Err(libc::EBADMSG));
    let stalls = result(|client, memory| {
        answer(memory, &header(1024));
        say_with(client, &[5; 999], &[]);
    });
    assert_eq!(stalls, Err(libc::ETIMEDOUT));
    let dies = result(|client, memory| {
        answer(memory, &header(1024));
        say_with(client, &[5; 999], &[]);
        client.shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert_eq!(dies, Err(libc::ENOTCONN));
    assert_eq!(result(|_, _| {}), Err(libc::ETIMEDOUT));
    let says_more = result(|client, memory| {
        say_with(client, &[5; 5000], &[]);
        answer(memory, &header(24));
    });
    assert_eq!(says_more, Ok(0), "only the next long answer is affected");
}

#[test]
fn an_answer_in_pieces_that_comes_too_late_is_the_end() {
    let (_dir, options) = serve(|mut client| {
        let memory = memory(ANSWER.memory_len(), libc::F_SEAL_SHRINK);
        for at in [REFERENCES, HEADER_LEN + REFERENCES] {
            memory.write_all_at(&1u32.to_ne_bytes(), at as u64).unwrap();
        }
        say_with(&client, &ANSWER.encode(), &[&memory]);
        if matches!(client.read(&mut [0]), Ok(1)) {
            answer(&memory, &header(1024));
        }
        until_left(&client);
    });
    let mut client = Client::connect_with("server", &options).unwrap();
    client.send(ECHO, b"x").unwrap();
    assert!(matches!(client.receive(Some(Duration::from_millis(100))), Err(ClientError::TimedOut)));
    assert!(!client.is_connected());
}

/// Arbitrary bytes at arbitrary places of the memory and on the socket, from a seed.
#[test]
fn scribbles_at_random() {
    use std::hash::{BuildHasher, Hasher};
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish()) | 1;
    println!("SEED={seed}");
    let mut state = seed;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    against(|server| {
        for _ in 0..100 {
            let mut client = RawOwn::connect(&server.name);
            client.socket.set_nonblocking(true).unwrap();
            for _ in 0..next(40) {
                match next(4) {
                    0 => client.put(next(client.answer.memory_len() / 4) * 4, next(1 << 31) as u32),
                    1 => client.put(next(DATA / 4) * 4, next(40) as u32),
                    2 if client.write < 1000 => {
                        client.put_chunk(&RawOwn::header(next(3000) as i32));
                    }
                    // It may have hung up, or not listen.
                    _ => drop((&client.socket).write(&vec![next(256) as u8; 1 + next(2000)])),
                }
            }
        }
    });
}
