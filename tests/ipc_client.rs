//! The native client against stock libqb's server, and against servers that are hostile, dead or
//! somebody else's.

#[path = "ipc/fake.rs"]
mod fake;
#[path = "common/public.rs"]
mod public;
#[path = "ipc/support.rs"]
mod support;

use fake::{FakeServer, until_left};
use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::{Client, ClientError, ConnectOptions};
use pmxcfs::ipc::qb::wire::{AuthResponse, TYPE_SHM, new_ring_header};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::*;

/// Runs only in the process that [`spawn_server`] starts.
#[test]
fn server_process() {
    serve_if_asked();
}

/// A running stock server.
struct StockServer {
    name: String,
    program: Program,
}

impl StockServer {
    fn start() -> Self {
        Self::over("shm")
    }

    fn over(transport: &str) -> Self {
        let name = unique_name();
        let mut program = Program::start(Command::new(stock_server_program()).args([&name, transport]));
        program.expect("serving 1");
        Self { name, program }
    }

    /// The directories of its connections.
    fn directories(&self) -> Vec<PathBuf> {
        let prefix = format!("qb-{}-", self.program.id());
        let names = entries("/dev/shm".as_ref()).into_iter();
        names.filter(|name| name.starts_with(&prefix)).map(|n| Path::new("/dev/shm").join(n)).collect()
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        // It is killed, and so does not remove them itself.
        self.program.kill();
        self.directories().iter().for_each(|dir| std::fs::remove_dir_all(dir).unwrap());
    }
}

#[test]
fn a_stock_server_answers_like_ours() {
    let server = StockServer::start();
    let mut client = connect(&server.name);
    assert_eq!((client.server().pid as u32, client.server().uid), (server.program.id(), 0));
    assert_eq!(client.max_message_size(), 1 << 20);
    for round in 0..40 {
        for len in [0, 1, 3, 4, 99_991, 300_007, 1_048_552] {
            assert_echo(&mut client, &vec![round; len]);
        }
    }
    let answer = client.request(LENGTH, &1_048_600u32.to_ne_bytes(), Some(LIMIT)).unwrap();
    assert_eq!(answer.data.as_bytes().len(), 1_048_600, "more than agreed, but the ring holds it");
    for round in 0..200 {
        client.send(ECHO, &[round; 700]).unwrap();
    }
    for round in 0..200 {
        let (id, response) = client.receive(Some(LIMIT)).unwrap();
        assert_eq!((id, response.data.as_bytes()), (ECHO, &[round; 700][..]));
    }
}

#[test]
fn a_stock_server_over_sockets() {
    let server = StockServer::over("socket");
    let mut client = connect(&server.name);
    assert_eq!(client.max_message_size(), 1 << 20);
    for round in 0..40 {
        for len in [0, 1, 3, 4, 99_991, 150_007] {
            assert_echo(&mut client, &vec![round; len]);
        }
    }
    for round in 0..5 {
        client.send(ECHO, &[round; 700]).unwrap();
    }
    for round in 0..5 {
        let (id, response) = client.receive(Some(LIMIT)).unwrap();
        assert_eq!((id, response.data.as_bytes()), (ECHO, &[round; 700][..]));
    }
    let soon = Some(Duration::from_millis(10));
    client.send(WAIT, b"").unwrap();
    assert!(matches!(client.receive(soon), Err(ClientError::TimedOut)));
    assert_echo(&mut client, b"nothing was lost");
    drop(client);
    eventually("the server cleans up", || server.directories().is_empty());
}

#[test]
fn a_server_over_sockets_killed_in_a_request() {
    let mut server = StockServer::over("socket");
    let mut client = connect(&server.name);
    client.send(WAIT, b"").unwrap();
    server.program.kill();
    let error = client.receive(None).unwrap_err();
    assert_eq!(error.to_errno(), libc::ENOTCONN);
    assert_eq!(server.directories().len(), 1);
    drop(client);
    assert_eq!(server.directories().len(), 0);
}

#[test]
fn a_late_answer_ends_the_connection() {
    let server = StockServer::start();
    let mut client = connect(&server.name);
    let short = Some(Duration::from_millis(10));
    assert!(matches!(client.request(WAIT, b"", short), Err(ClientError::TimedOut)));
    assert!(!client.is_connected());
    assert!(matches!(client.request(ECHO, b"", short), Err(ClientError::NotConnected)));
}

#[test]
fn a_server_killed_in_a_request_is_noticed_and_cleaned_up_after() {
    let mut server = StockServer::start();
    let mut client = connect(&server.name);
    client.send(WAIT, b"").unwrap();
    server.program.kill();
    let error = client.receive(None).unwrap_err();
    assert_eq!(error.to_errno(), libc::ENOTCONN);
    assert_eq!(server.directories().len(), 1);
    drop(client);
    assert_eq!(server.directories().len(), 0);
}

#[test]
fn nobody_there_and_nobody_answering() {
    assert_eq!(try_connect(&unique_name()).unwrap_err().to_errno(), libc::ECONNREFUSED);
    let error = FakeServer::start(12328, Duration::from_millis(50)).connect().unwrap_err();
    assert!(matches!(error, ClientError::TimedOut), "{error}");
}

/// After the server has ended, a client can send no request, but still receives the responses written before. libqb
/// does the same.
#[test]
fn last_responses_survive_a_failed_send() {
    let mut server = StockServer::start();
    let mut client = connect(&server.name);
    for number in 0..5 {
        client.send(ECHO, &[number]).unwrap();
    }
    let (_, first) = client.receive(Some(LIMIT)).unwrap();
    assert_eq!(first.data.as_bytes(), [0]);
    // Served after the requests above.
    assert_echo(&mut connect(&server.name), b"another client");
    server.program.kill();
    assert!(matches!(client.send(ECHO, b"lost"), Err(ClientError::NotConnected)));
    assert!(!client.is_connected());
    for number in 1..5 {
        assert_eq!(client.receive(Some(LIMIT)).unwrap().1.data.as_bytes(), [number]);
    }
    for _ in 0..2 {
        assert!(matches!(client.receive(Some(LIMIT)), Err(ClientError::NotConnected)));
    }
}

#[test]
fn what_is_too_long_is_not_sent() {
    let server = TestServer::start();
    let mut client = server.connect();
    let error = client.send(ECHO, &vec![0; (1 << 20) - 15]).unwrap_err();
    assert_eq!(error.to_errno(), libc::EMSGSIZE);
    assert_echo(&mut client, b"the connection is fine");
}

#[test]
fn a_full_ring_is_no_broken_connection() {
    let connects = [connect, connect_as_libqb];
    for (connect, len, expected) in [(connects[0], 600, 11..14), (connects[1], 60_000, 15..18)] {
        let server = TestServer::start();
        let mut client = connect(&server.name);
        client.send(WAIT, b"").unwrap();
        eventually("the service waits", || server.service.gate.waiting() == 1);
        let body = vec![5; len];
        let sent = (0..).find(|_| client.send(ECHO, &body).is_err()).unwrap();
        assert!(expected.contains(&sent), "{sent}");
        assert!(matches!(client.send(ECHO, &body), Err(ClientError::Busy)));
        server.service.gate.open();
        assert_eq!(client.receive(Some(LIMIT)).unwrap().0, WAIT);
        for _ in 0..sent {
            let (_, response) = client.receive(Some(LIMIT)).unwrap();
            assert_eq!(response.data.as_bytes(), body);
        }
    }
}

/// Connects to a server that answers `answer` and waits for the client to leave.
fn connect_to(answer: &[u8]) -> ClientError {
    let server = FakeServer::start(12328, LIMIT);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.accept();
            client.write_all(answer).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            until_left(&client);
        });
        server.connect().map(drop).unwrap_err()
    })
}

#[test]
fn answers_that_are_none() {
    let refusal = AuthResponse::refusal(libc::EACCES).encode().unwrap();
    assert_eq!(connect_to(&refusal).to_errno(), libc::EACCES);
    assert_eq!(connect_to(&refusal[..12_327]).to_errno(), libc::ENOTCONN);
    assert_eq!(connect_to(b"").to_errno(), libc::ENOTCONN);
    assert_eq!(connect_to(&[0; 12_328]).to_errno(), libc::EBADMSG);
    let mut positive = refusal;
    positive[16..20].copy_from_slice(&13i32.to_ne_bytes());
    assert_eq!(connect_to(&positive).to_errno(), libc::EBADMSG);
    let queues = AuthResponse { connection_type: 2, ..AuthResponse::default() }.encode().unwrap();
    assert!(matches!(connect_to(&queues), ClientError::Unsupported(2)));
    let nowhere = AuthResponse::default().encode().unwrap();
    assert_eq!(connect_to(&nowhere).to_errno(), libc::EBADMSG, "sockets without a name");
}

/// The files of a connection as a server makes them.
struct Rings {
    dir: tempfile::TempDir,
    len: u64,
}

impl Rings {
    fn make() -> Self {
        let rings = Self { dir: shm_dir(), len: 16384 };
        for ring in ["request", "response", "event"] {
            let [header, data] = [rings.path(ring, "header"), rings.path(ring, "data")];
            rings.write_header(ring, 4096, &data);
            assert!(header.exists());
            std::fs::File::create(data).unwrap().set_len(rings.len).unwrap();
        }
        rings
    }

    fn path(&self, ring: &str, file: &str) -> PathBuf {
        self.dir.path().join(format!("{ring}-{file}"))
    }

    fn write_header(&self, ring: &str, words: u32, data: &Path) {
        let path = self.path(ring, "header");
        let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
        let header = new_ring_header(words, &bytes(&path), &bytes(data)).unwrap();
        std::fs::write(path, header).unwrap();
    }

    fn response(&self) -> AuthResponse {
        let base = |ring| self.dir.path().join(ring).as_os_str().as_encoded_bytes().to_vec();
        AuthResponse {
            error: 0,
            connection_type: TYPE_SHM,
            max_message_size: 12328,
            rings: [base("request"), base("response"), base("event")],
        }
    }

    fn connect(&self) -> ClientError {
        connect_to(&self.response().encode().unwrap())
    }
}

#[test]
fn files_that_are_not_what_a_server_makes() {
    type Change = fn(&Rings);
    let changes: [(&str, Change); 8] = [
        ("a short header", |r| {
            std::fs::File::create(r.path("event", "header")).unwrap().set_len(8247).unwrap();
        }),
        ("short data", |r| {
            std::fs::File::create(r.path("response", "data")).unwrap().set_len(16383).unwrap();
        }),
        ("another number of words", |r| r.write_header("request", 4097, &r.path("request", "data"))),
        ("data elsewhere", |r| r.write_header("request", 4096, Path::new("/etc/passwd"))),
        ("data above", |r| r.write_header("request", 4096, &r.dir.path().join(".."))),
        ("a relative path", |r| r.write_header("request", 4096, Path::new("request-data"))),
        ("a link in place of the data", |r| {
            let data = r.path("request", "data");
            let moved = r.path("request", "moved");
            std::fs::rename(&data, &moved).unwrap();
            std::os::unix::fs::symlink(&moved, &data).unwrap();
        }),
        ("a directory in place of the data", |r| {
            std::fs::remove_file(r.path("response", "data")).unwrap();
            std::fs::create_dir(r.path("response", "data")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let rings = Rings::make();
        change(&rings);
        let error = rings.connect();
        let expected = [libc::EBADMSG, libc::ELOOP, libc::EISDIR];
        assert!(expected.contains(&error.to_errno()), "{what}: {error}");
    }
    let mut relative = Rings::make().response();
    relative.rings[0] = b"request".to_vec();
    assert_eq!(connect_to(&relative.encode().unwrap()).to_errno(), libc::EBADMSG);
}

/// The files of [`Rings`] are accepted as they are: the changes above are what is refused.
#[test]
fn files_as_a_server_makes_them() {
    let rings = Rings::make();
    let server = FakeServer::start(12328, LIMIT);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.accept();
            client.write_all(&rings.response().encode().unwrap()).unwrap();
            until_left(&client);
        });
        let mut client = server.connect().unwrap();
        client.send(ECHO, b"x").unwrap();
        assert!(matches!(client.send(ECHO, &[0; 12313]), Err(ClientError::TooLong)));
    });
}

/// Responds to the handshake as another user, at a socket of its own in a directory or at the socket on its
/// standard input. Does nothing unless the environment requests it.
#[test]
fn squatter_process() {
    let Some(dir) = std::env::var_os("PMXCFS_TEST_SQUAT") else { return };
    let listener = match dir.is_empty() {
        true => {
            let listener = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().unwrap();
            std::os::unix::net::UnixListener::from(listener)
        }
        false => fake::listen(Path::new(&dir)),
    };
    println!("\nserving");
    let mut client = fake::accept(&listener);
    client.write_all(&AuthResponse::default().encode().unwrap()).unwrap();
    until_left(&client);
}

#[test]
fn a_server_of_another_user_is_not_trusted() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let program = public::Copy::of(std::env::current_exe().unwrap());
    let sockets = program.dir().join("sockets");
    std::fs::create_dir(&sockets).unwrap();
    chown(&sockets, Some(STRANGER), Some(STRANGER)).unwrap();
    std::fs::set_permissions(&sockets, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = program.command_as(STRANGER, STRANGER);
    command.args(["--exact", "squatter_process", "--nocapture"]).env("PMXCFS_TEST_SQUAT", &sockets);
    let mut squatter = Program::start(&mut command);
    squatter.expect("serving");
    let options = ConnectOptions {
        namespace: Namespace::Directory(sockets),
        max_message_size: 12328,
        timeout: Some(LIMIT),
        as_libqb: false,
    };
    let error = Client::connect_with("server", &options).unwrap_err();
    assert!(matches!(error, ClientError::Untrusted(server) if server.uid == STRANGER), "{error}");
    assert!(error.to_string().contains(&format!("process {} of user {STRANGER}", squatter.id())), "{error}");
}

/// Root made the socket listen, but a process of another user has it and responds.
#[test]
fn answer_of_another_user_is_not_trusted() {
    let dir = shm_dir();
    let program = public::Copy::of(std::env::current_exe().unwrap());
    let listener = std::os::fd::OwnedFd::from(fake::listen(dir.path()));
    let mut command = program.command_as(STRANGER, STRANGER);
    command.args(["--exact", "squatter_process", "--nocapture"]).env("PMXCFS_TEST_SQUAT", "").stdin(listener);
    let mut squatter = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let options = ConnectOptions {
        namespace: Namespace::Directory(dir.path().into()),
        max_message_size: 12328,
        timeout: Some(LIMIT),
        as_libqb: false,
    };
    let error = Client::connect_with("server", &options).unwrap_err();
    squatter.wait().unwrap();
    assert!(matches!(error, ClientError::Untrusted(server) if server.uid == STRANGER), "{error}");
}

#[test]
fn our_own_server_across_processes() {
    let (name, shm) = (unique_name(), shm_dir());
    let server = spawn_server(&name, shm.path());
    let connects = [connect, connect_as_libqb];
    let mut clients: Vec<_> = (0..8).map(|index| connects[index % 2](&name)).collect();
    std::thread::scope(|scope| {
        for (index, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                for round in 0..300 {
                    assert_echo(client, &vec![index as u8; round * 31 % 20_000]);
                }
            });
        }
    });
    drop(clients);
    server.finish();
    assert_eq!(entries(shm.path()), [""; 0]);
}
