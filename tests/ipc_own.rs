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
use pmxcfs::ipc::qb::own::{ANSWER_LEN, Answer, DATA, HEADER_LEN, MOVED, REFERENCES, mark};
use pmxcfs::ipc::qb::wire::{
    AUTH_REQUEST_LEN, AuthRequest, AuthResponse, RequestHeader, ResponseHeader, ring_header,
};
use pmxcfs::ipc::session;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;
use support::*;

const COMMITTED: u32 = 0xa1a1_a1a1;

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

/// A client that speaks the protocol byte by byte and may break each of its rules.
struct RawOwn {
    socket: UnixStream,
    memory: File,
    answer: Answer,
    /// Where the next chunk goes in each of the four rings.
    next: [u32; 4],
}

const REQUESTS: usize = 0;
const ANSWERS: usize = 1;
const LONG_REQUESTS: usize = 2;
const LONG_ANSWERS: usize = 3;

/// Where a ring has its semaphore.
fn semaphore(ring: usize) -> usize {
    ring * HEADER_LEN + REFERENCES + ring_header::SEMAPHORE - ring_header::REFERENCES
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
        assert_eq!(memory.metadata().unwrap().len(), answer.layout()[4] as u64);
        Self { socket, memory, answer, next: [0; 4] }
    }

    fn put(&self, at: usize, value: u32) {
        self.memory.write_all_at(&value.to_ne_bytes(), at as u64).unwrap();
    }

    fn get(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read_exact_at(&mut bytes, at as u64).unwrap();
        u32::from_ne_bytes(bytes)
    }

    /// Puts a chunk into a ring, without a word. For as many as fit before it wraps.
    fn put_chunk(&mut self, ring: usize, chunk: &[u8]) {
        let at = self.answer.layout()[ring] + self.next[ring] as usize * 4;
        self.memory.write_all_at(chunk, at as u64 + 8).unwrap();
        self.put(at, chunk.len() as u32);
        self.put(at + 4, COMMITTED);
        self.next[ring] += 2 + chunk.len().div_ceil(4) as u32;
        self.put(ring * HEADER_LEN + ring_header::WRITE_INDEX, self.next[ring]);
        self.put(semaphore(ring), self.get(semaphore(ring)) + 1);
    }

    fn request(id: i32, body: &[u8]) -> Vec<u8> {
        let size = i32::try_from(16 + body.len()).unwrap();
        [&RequestHeader { id, size }.encode()[..], body].concat()
    }

    /// Says nothing if the server has hung up: that is to be found by reading.
    fn say(&self, bytes: &[u8]) {
        let _ = (&self.socket).write_all(bytes);
    }

    fn hang_up(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// The server must hang up.
    fn expect_hangup(&self) {
        let mut rest = Vec::new();
        match (&self.socket).read_to_end(&mut rest) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => {}
        }
    }

    /// The next chunk of a ring, which must come.
    fn expect(&mut self, ring: usize) -> Vec<u8> {
        let at = self.answer.layout()[ring] + self.next[ring] as usize * 4;
        eventually("a chunk", || self.get(at + 4) == COMMITTED);
        let mut bytes = vec![0; self.get(at) as usize];
        self.memory.read_exact_at(&mut bytes, at as u64 + 8).unwrap();
        self.next[ring] += 2 + bytes.len().div_ceil(4) as u32;
        bytes
    }

    fn expect_answer(&mut self, ring: usize) -> (ResponseHeader, Vec<u8>) {
        let bytes = self.expect(ring);
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
fn clients_that_break_the_rules() {
    type Attack = fn(&mut RawOwn);
    let attacks: [(&str, Attack); 9] = [
        ("longer than its header says", |c| {
            c.put_chunk(REQUESTS, &[&RawOwn::request(ECHO, b"")[..], b"xy"].concat());
        }),
        ("a length that is none", |c| {
            c.put_chunk(REQUESTS, &RequestHeader { id: ECHO, size: -5 }.encode());
        }),
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

fn read_only(file: &File) -> File {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
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

const ANSWER: Answer =
    Answer { max_message_size: 1 << 20, requests_len: 4096 - 512, answers_len: 4096, long_len: 65536 };
const END: usize = 4096 + 4096 + 2 * 65536;

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
    let good = || memory(END, libc::F_SEAL_SHRINK);
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
        ("memory that could be cut", encoded.clone(), vec![memory(END, 0)]),
        ("too short", encoded.clone(), vec![memory(END - 1, libc::F_SEAL_SHRINK)]),
        ("too long", encoded.clone(), vec![memory(END + 1, libc::F_SEAL_SHRINK)]),
        ("memory that may only be read", encoded.clone(), vec![read_only(&good())]),
        ("no memory at all", encoded.clone(), vec![File::open("/dev/null").unwrap()]),
        ("a file", encoded.clone(), vec![tempfile::tempfile().unwrap()]),
        ("more bytes", [&encoded[..], &[0]].concat(), vec![good()]),
        ("fewer bytes", encoded[..43].to_vec(), vec![good()]),
        ("another length", changed(8, 45), vec![good()]),
        ("a ring of no length", changed(33, 0), vec![good()]),
        ("an odd ring", changed(32, 1), vec![good()]),
        ("a huge ring", changed(39, 0xff), vec![good()]),
        ("huge long rings", changed(43, 0xff), vec![good()]),
        ("no long rings", changed(42, 0), vec![good()]),
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
            let allowed = [libc::EBADMSG, libc::ETIMEDOUT, libc::EACCES];
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
fn request_to(body: &[u8], then: impl Fn(&UnixStream, &File) + Send + 'static) -> Result<usize, i32> {
    let (_dir, options) = serve(move |mut client| {
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
    let mut client = Client::connect_with("server", &options).unwrap();
    let clock = Clock::start();
    let result = client.request(ECHO, body, Some(Duration::from_millis(200)));
    assert!(clock.uptime() < Duration::from_secs(5), "{:?}", clock.uptime());
    result.map(|answer| answer.data.as_bytes().len()).map_err(|error| error.to_errno())
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
