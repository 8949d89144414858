//! Clients of the service. Through the stock libqb or through libpmxcfs: one process a connection, as on a
//! real node; it compiles that client, talks to it in lines, and adds up what it is told. And through our
//! own client, in place.

use crate::daemon::Daemon;
use crate::{Failure, Outcome};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Request numbers of the service.
pub const GET_FS_VERSION: i32 = 1;
pub const GET_CONFIG: i32 = 6;
pub const GET_GUEST_CONFIG_PROPERTIES: i32 = 13;

/// What the stack's programs ask for: longest request and answer.
const MESSAGE_MAX: u32 = 8192 * 128;

/// The name under which the loader looks for our library.
const LIBRARY_NAME: &str = "libpmxcfs.so.1";

/// Which library a client is built with.
#[derive(Clone, Copy)]
pub enum Library {
    /// The system's libqb; only its run-time library is needed.
    Libqb,
    /// Ours.
    Libpmxcfs,
}

/// Compiles the client into `dir`.
pub fn compile(dir: &Path, library: Library) -> Outcome<PathBuf> {
    let name = match library {
        Library::Libqb => "ipc_client",
        Library::Libpmxcfs => "ipc_client_own",
    };
    let program = dir.join(name);
    if program.exists() {
        return Ok(program);
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-Wall", "-Wextra", "-o"]).arg(&program);
    compiler.arg(project.join("benches/pmxcfs/ipc_client.c"));
    match library {
        Library::Libqb => compiler.arg("-l:libqb.so.100"),
        Library::Libpmxcfs => {
            let built = Path::new(env!("CARGO_BIN_EXE_pmxcfs")).with_file_name("libpmxcfs.so");
            std::os::unix::fs::symlink(&built, dir.join(LIBRARY_NAME))?;
            let rpath = format!("-Wl,-rpath,{}", dir.canonicalize()?.display());
            compiler.args(["-DWITH_LIBPMXCFS", "-I"]).arg(project.join("include")).arg(built).arg(rpath)
        }
    };
    let output = compiler.output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(
            format!("cannot compile the client (needs cc, libqb100 and `make build-lib`): {text}").into()
        );
    }
    Ok(program)
}

/// What a client measured.
pub struct Timing {
    /// All requests of the command together.
    pub took: Duration,
    /// The last answer's error: 0 or a negative errno.
    pub error: i32,
    /// Bytes of data in the last answer.
    pub size: usize,
}

/// One connected process.
pub struct Client {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    pub fn connect(program: &Path, daemon: &Daemon) -> Outcome<Self> {
        let mut process = daemon.inside(|| {
            let mut command = Command::new(program);
            // Not the tree: a working directory there would keep it busy at the daemon's end.
            command.arg("pve2").current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
            Ok(command.spawn()?)
        })?;
        let commands = process.stdin.take().ok_or("no input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("no output")?);
        Ok(Self { process, commands, answers })
    }

    fn begin(&mut self, command: &str) -> Outcome<()> {
        Ok(writeln!(self.commands, "{command}")?)
    }

    fn finish(&mut self) -> Outcome<Timing> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers: Vec<i64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [took, error, size] = numbers[..] else { return Err("the client ended".into()) };
        let took = Duration::from_nanos(took.try_into()?);
        Ok(Timing { took, error: error.try_into()?, size: size.try_into()? })
    }

    /// Time of one connect and disconnect.
    pub fn time_connect(&mut self, count: usize) -> Outcome<Duration> {
        self.begin(&format!("connect {count}"))?;
        Ok(self.finish()?.took / u32::try_from(count)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It ends when its input does; an error here means that it already has.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// One request, to be sent many times.
pub struct Request<'a> {
    pub id: i32,
    pub body: &'a [u8],
    /// Least bytes of data a right answer has: a fast wrong answer must not win.
    pub answer_min: usize,
}

/// What clients measured who sent at the same time.
pub struct Together {
    /// Mean time of one request, as a client sees it.
    pub each: Duration,
    /// Requests of all clients a second.
    pub per_second: f64,
}

/// Has every client send `request` `count` times, all at once.
pub fn call(clients: &mut [Client], request: &Request<'_>, count: usize) -> Outcome<Together> {
    let mut hex = String::new();
    request.body.iter().try_for_each(|byte| write!(hex, "{byte:02x}"))?;
    let body = if hex.is_empty() { "-" } else { &hex };
    let command = format!("call {} {count} {body}", request.id);
    let started = Instant::now();
    for client in clients.iter_mut() {
        client.begin(&command)?;
    }
    let mut total = Duration::ZERO;
    for client in clients.iter_mut() {
        let timing = client.finish()?;
        check(timing.error, timing.size, request)?;
        total += timing.took;
    }
    let requests = clients.len() * count;
    let per_second = requests as f64 / started.elapsed().as_secs_f64();
    Ok(Together { each: total / u32::try_from(requests)?, per_second })
}

/// Mean time of one of `count` requests by our own client, which any server takes.
pub fn call_native(daemon: &Daemon, request: &Request<'_>, count: usize) -> Outcome<Duration> {
    daemon.inside(|| {
        let patience = Duration::from_secs(10);
        let mut client = pmxcfs::ipc::qb::client::Client::connect("pve2", MESSAGE_MAX, patience)?;
        let started = Instant::now();
        for _ in 0..count {
            let response = client.request(request.id, request.body, Some(patience))?;
            check(response.error, response.data.as_bytes().len(), request)?;
        }
        Ok(started.elapsed() / u32::try_from(count)?)
    })
}

fn check(error: i32, size: usize, request: &Request<'_>) -> Outcome<()> {
    if error != 0 || size < request.answer_min {
        return Err(Failure::from(format!("request {}: error {error}, {size} bytes", request.id)));
    }
    Ok(())
}
