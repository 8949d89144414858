//! What the tests of the transport share: a service, a server in this process or in one of its own,
//! and programs that speak stock libqb.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use pmxcfs::clock::Clock;
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::{Client as NativeClient, ConnectOptions};
use pmxcfs::ipc::server::{Access, Client, Link, Peer, Refused, Response, Service};
use pmxcfs::ipc::{Options, Server};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

/// Requests of the test service.
pub const ECHO: i32 = 1;
pub const WHO: i32 = 2;
pub const PANIC: i32 = 3;
pub const WAIT: i32 = 4;
pub const LENGTH: i32 = 5;

/// A user that is admitted, read-only, and one that is not.
pub const READER: u32 = 1234;
pub const STRANGER: u32 = 4321;

/// Longer than anything takes that is not broken, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Lets requests wait until it is opened.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicU32,
}

impl Gate {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_while(open, |open| !*open).unwrap());
    }
}

/// Serves root and [`READER`].
#[derive(Default)]
pub struct TestService {
    pub gate: Gate,
}

impl Service for TestService {
    fn accept(&self, peer: Peer) -> Result<Access, Refused> {
        match peer.uid {
            0 => Ok(Access::ReadWrite),
            READER => Ok(Access::ReadOnly),
            _ => Err(Refused::Stranger),
        }
    }

    fn handle(&self, client: &Client, _: &dyn Link, id: i32, body: &[u8]) -> Response {
        match id {
            ECHO => Response::ok(body.to_vec()),
            WHO => Response::ok(format!("{client:?}").into_bytes()),
            PANIC => panic!("as asked"),
            WAIT => {
                self.gate.wait();
                Response::ok(body.to_vec())
            }
            LENGTH => {
                let len = body.get(..4).map_or(0, |len| u32::from_le_bytes(len.try_into().unwrap()));
                Response::ok(vec![b'x'; len as usize])
            }
            _ => Response::error(libc::ENOSYS),
        }
    }
}

/// A name no other test has.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("pmxcfs-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A server in this process, with a directory of its own for shared memory.
pub struct TestServer {
    pub name: String,
    pub service: Arc<TestService>,
    pub shm: TempDir,
    server: Option<Server>,
}

impl TestServer {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// With options changed by `change`.
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let shm = shm_dir();
        let service = Arc::new(TestService::default());
        let name = unique_name();
        let mut options = Options { shm_dir: shm.path().into(), ..Options::default() };
        options.namespace = Namespace::Abstract;
        change(&mut options);
        let server = Server::start(&name, Arc::<TestService>::clone(&service), options).unwrap();
        Self { name, service, shm, server: Some(server) }
    }

    pub fn connections(&self) -> usize {
        self.server.as_ref().unwrap().connections()
    }

    pub fn connect(&self) -> NativeClient {
        connect(&self.name)
    }

    pub fn stop(&mut self) {
        self.server.take().unwrap().stop();
    }

    /// Waits until all clients are gone and nothing is left of them.
    pub fn assert_clean(&self) {
        eventually("all connections end", || self.connections() == 0);
        assert_eq!(entries(self.shm.path()), [""; 0]);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.service.gate.open();
    }
}

/// A directory in shared memory that other users may pass.
pub fn shm_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("pmxcfs-test-").tempdir_in("/dev/shm").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// The names in a directory.
pub fn entries(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = dir.read_dir().unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn connect(name: &str) -> NativeClient {
    try_connect(name).unwrap()
}

pub fn try_connect(name: &str) -> Result<NativeClient, pmxcfs::ipc::qb::client::ClientError> {
    NativeClient::connect_with(name, &options(false))
}

/// The same without our mark.
pub fn connect_as_libqb(name: &str) -> NativeClient {
    try_connect_as_libqb(name).unwrap()
}

pub fn try_connect_as_libqb(name: &str) -> Result<NativeClient, pmxcfs::ipc::qb::client::ClientError> {
    NativeClient::connect_with(name, &options(true))
}

fn options(as_libqb: bool) -> ConnectOptions {
    let (namespace, timeout) = (Namespace::Abstract, Some(LIMIT));
    ConnectOptions { namespace, max_message_size: 1 << 20, timeout, as_libqb }
}

/// Random numbers that can be had again: SEED replays what a failed test printed.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        println!("SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// An echo must come back as it is.
pub fn assert_echo(client: &mut NativeClient, body: &[u8]) {
    let response = client.request(ECHO, body, Some(LIMIT)).unwrap();
    assert_eq!(response.error, 0);
    assert!(response.data.as_bytes() == body, "echo of {} bytes", body.len());
}

/// Waits for a condition that nothing announces.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !condition() {
        assert!(clock.uptime() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The client made of `ffi-tests/qb_client.c` with the system's libqb. Without libqb's headers
/// this fails: a transport that was not tried against libqb is not tested.
pub fn stock_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile_with_libqb("qb_client"))
}

/// The server made of `ffi-tests/qb_server.c`, in the same way.
pub fn stock_server_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile_with_libqb("qb_server"))
}

fn compile_with_libqb(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-tests").join(format!("{name}.c"));
    // Under a name of our own first: another test program may be running it.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (new, program) = (dir.join(format!("{name}-{}", std::process::id())), dir.join(name));
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-o"])
        .args([&new, &source])
        .arg("-lqb")
        .status()
        .unwrap();
    assert!(compiled.success(), "cc failed; is libqb-dev installed?");
    std::fs::rename(&new, &program).unwrap();
    program
}

/// Runs a command of the stock program to its end; its output, after it succeeded.
pub fn stock(args: &[&str]) -> String {
    run(Command::new(stock_program()).args(args))
}

/// Runs a command that must succeed; its output.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text
}

/// A running program one talks to by lines; killed when dropped.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take(), child, output }
    }

    pub fn stock(args: &[&str]) -> Self {
        Self::start(Command::new(stock_program()).args(args))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads lines up to this one.
    pub fn expect(&mut self, expected: &str) {
        let mut line = String::new();
        while line.trim_end() != expected {
            line.clear();
            let len = self.output.read_line(&mut line).unwrap();
            assert!(len > 0, "the program ended before it said '{expected}'");
        }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends its input and waits until it ends.
    pub fn finish(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of the test that [`server_process`] runs in a process of its own.
pub const SERVER_TEST: &str = "server_process";
const SERVICE_VARIABLE: &str = "PMXCFS_TEST_SERVICE";
const SHM_VARIABLE: &str = "PMXCFS_TEST_SHM";

/// A server in another process: this test program, told to run [`serve_if_asked`].
pub fn spawn_server(name: &str, shm: &Path) -> Program {
    spawn_server_by(&mut Command::new(std::env::current_exe().unwrap()), name, shm)
}

/// The same by a command that runs this test program with the arguments that are added.
pub fn spawn_server_by(command: &mut Command, name: &str, shm: &Path) -> Program {
    let mut server = Program::start(
        command
            .args(["--exact", SERVER_TEST, "--nocapture"])
            .env(SERVICE_VARIABLE, name)
            .env(SHM_VARIABLE, shm),
    );
    server.expect("serving");
    server
}

/// The body of the test [`SERVER_TEST`]: serves until its input ends, if this process is to.
pub fn serve_if_asked() {
    let Some(name) = std::env::var_os(SERVICE_VARIABLE) else { return };
    let shm_dir = std::env::var_os(SHM_VARIABLE).unwrap().into();
    let options = Options { shm_dir, namespace: Namespace::Abstract, ..Options::default() };
    let service = Arc::new(TestService::default());
    let server = Server::start(name.to_str().unwrap(), service, options).unwrap();
    println!("\nserving");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    server.stop();
}
