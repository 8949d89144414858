//! Programs built against stock libqb, run on ours without being built anew: what they print must be
//! what they print on libqb. Against servers of both kinds, over both transports.

use crate::golden::{self, RecordedService};
use crate::installed::{compile, include_dir, qb_dir};
use crate::public;
use crate::support::{
    ECHO, LIMIT, Program, STRANGER, TestServer, entries, eventually, run, stock_program,
    stock_server_program, unique_name,
};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The program as it is.
fn on_libqb(args: &[&str]) -> Command {
    let mut command = Command::new(stock_program());
    command.args(args);
    command
}

/// The same program, on our library.
fn on_ours(args: &[&str]) -> Command {
    let mut command = on_libqb(args);
    command.env("LD_LIBRARY_PATH", qb_dir());
    command
}

/// A running server of stock libqb; killed when dropped.
struct StockServer {
    name: String,
    program: Program,
}

impl StockServer {
    fn over(transport: &str) -> Self {
        let name = unique_name();
        let mut program = Program::start(Command::new(stock_server_program()).args([&name, transport]));
        program.expect("serving 1");
        Self { name, program }
    }

    fn leftovers(&self) -> Vec<String> {
        let prefix = format!("qb-{}-", self.program.id());
        entries(Path::new("/dev/shm")).into_iter().filter(|name| name.starts_with(&prefix)).collect()
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        self.program.kill();
        for name in self.leftovers() {
            std::fs::remove_dir_all(Path::new("/dev/shm").join(name)).unwrap();
        }
    }
}

#[test]
fn the_loader_takes_it_for_libqb() {
    let linked = run(Command::new("ldd").arg(stock_program()).env("LD_LIBRARY_PATH", qb_dir()));
    let line = linked.lines().find(|line| line.contains("libqb.so.100")).unwrap();
    assert!(line.contains(qb_dir().to_str().unwrap()), "{line}");
}

/// Arguments behind the service's name.
const COMMANDS: &[(&str, &[&str])] = &[
    ("echo", &["3", "0", "1", "2", "3", "4", "5", "8", "4071", "65536", "150001"]),
    ("pipeline", &["1", "5", "1000"]),
    ("reconnect", &["20"]),
];

#[test]
fn prints_the_same_on_both_libraries() {
    let ours = TestServer::start();
    let (shm, socket) = (StockServer::over("shm"), StockServer::over("socket"));
    for name in [&ours.name, &shm.name, &socket.name] {
        for (command, rest) in COMMANDS {
            let args: Vec<&str> = [command, name.as_str()].iter().chain(*rest).copied().collect();
            assert_eq!(run(&mut on_ours(&args)), run(&mut on_libqb(&args)), "{args:?}");
        }
    }
    for name in [&ours.name, &shm.name] {
        let args = ["pipeline", name, "1", "200", "1000"];
        assert_eq!(run(&mut on_ours(&args)), "pipelined 200\n");
        let longest = ["length", name, "1048560", "1048552"];
        assert_eq!(run(&mut on_ours(&longest)), "buffer 1048576\nerror 0\ndata 1048552\n");
    }
    ours.assert_clean();
    eventually("servers clean up", || shm.leftovers().is_empty() && socket.leftovers().is_empty());
}

#[test]
fn says_the_same_at_the_edges() {
    let server = StockServer::over("shm");
    let args = ["edges", server.name.as_str()];
    let stock = run(&mut on_libqb(&args));
    assert_eq!(run(&mut on_ours(&args)), stock);
    assert!(stock.contains("short buffer -105\nconnected 0\n"), "{stock}");
    // Over sockets libqb writes past the end of a buffer that is too short.
    let server = StockServer::over("socket");
    assert_eq!(run(&mut on_ours(&["edges", &server.name])), stock);
}

#[test]
fn the_recorded_requests() {
    let service = RecordedService::start(&unique_name());
    let mut program = Program::start(&mut on_ours(&["ask", &service.name]));
    program.expect("connected 1");
    golden::replay(|id, body| {
        let mut line = format!("{id} ");
        body.iter().for_each(|byte| write!(line, "{byte:02x}").unwrap());
        program.say(if body.is_empty() { format!("{id} -") } else { line }.as_str());
        let answer = program.line();
        let (error, hex) = answer.split_once(' ').unwrap();
        let error: i32 = error.parse().unwrap();
        (-error, golden::bytes(&hex.trim_end_matches('-').into()))
    });
    program.finish();
}

#[test]
fn refusals_and_ends() {
    let server = TestServer::start();
    let program = public::Copy::of(stock_program());
    public::copy(&qb_dir().join("libqb.so.100"), program.dir());
    let mut stranger = program.command_as(STRANGER, STRANGER);
    stranger.args(["refused", &server.name]).env("LD_LIBRARY_PATH", program.dir());
    assert_eq!(run(&mut stranger), format!("errno {}\n", libc::EACCES));
    let nobody = run(&mut on_ours(&["refused", &unique_name()]));
    assert_eq!(nobody, format!("errno {}\n", libc::ECONNREFUSED));

    let mut stock = StockServer::over("shm");
    let mut held = Program::start(&mut on_ours(&["hold", &stock.name]));
    held.expect("connected 1");
    held.say("ask");
    held.expect("answer 34");
    stock.program.kill();
    held.say("ask");
    held.expect(&format!("answer {}", -libc::ENOTCONN));
    held.finish();
    assert_eq!(stock.leftovers(), [""; 0], "the client removes what a killed server left");
}

#[test]
fn sixteen_processes_at_once() {
    let server = TestServer::start();
    let start = |_| Program::start(&mut on_ours(&["echo", &server.name, "50", "10", "70000", "3000"]));
    let programs: Vec<Program> = (0..16).map(start).collect();
    programs.into_iter().for_each(Program::finish);
    server.assert_clean();
}

/// Without libqb-dev: our headers, our library at link time, and again libqb's at run time.
#[test]
fn programs_can_be_built_without_libqb() {
    let include = format!("-I{}", include_dir().join("pmxcfs").display());
    let dir = format!("-L{}", qb_dir().display());
    let program = compile("cc", "qb_client.c", "qb-client", &[&include, &dir, "-lqb"]);
    let server = TestServer::start();
    for library in [Some(qb_dir()), None] {
        let mut command = Command::new(&program);
        command.args(["echo", &server.name, "2", "10", "5000"]);
        if let Some(dir) = library {
            command.env("LD_LIBRARY_PATH", dir);
        }
        assert_eq!(run(&mut command), "echoed 4\n");
    }
    let response = server.connect().request(ECHO, b"served", Some(LIMIT)).unwrap();
    assert_eq!(response.data.as_bytes(), b"served");
}
