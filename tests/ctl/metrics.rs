//! Metrics, in each of the three ways they leave.

use crate::fixture::{PATIENCE, Root};
use crate::{ask, ask_json, ctl, fails};
use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::time::{Duration, Instant};

/// The value of a sample, by its name and labels as they are written.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().expect("a number")
}

/// What the text format wants: each name told once, before its samples, which are numbers.
fn assert_well_formed(text: &str) {
    let mut told = HashSet::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().expect("a name");
            assert!(told.insert(current), "{current} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!((name, name.ends_with("_total")), (current, kind == "counter"), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert_eq!(name, current, "{line}");
            let number = line.rsplit(' ').next().expect("a value");
            assert!(number.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn all_that_is_known_is_a_sample() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    fs::create_dir(root.tree("dir")).expect("a directory");
    let text = ask(&root, &["metrics"]);
    assert_well_formed(&text);
    let info = format!("pmxcfs_info{{node=\"n1\",version=\"{}\",mode=\"local\"}}", env!("CARGO_PKG_VERSION"));
    for (sample, expected) in [
        ("pmxcfs_up", 1.0),
        (&info, 1.0),
        ("pmxcfs_quorate", 1.0),
        ("pmxcfs_tree_mounted", 1.0),
        ("pmxcfs_database_writable", 1.0),
        ("pmxcfs_database_entries", 2.0),
        ("pmxcfs_database_commit_failures_total", 0.0),
        ("pmxcfs_kernel_requests_total{request=\"mkdir\"}", 1.0),
        ("pmxcfs_ipc_clients", 1.0),
        ("pmxcfs_ipc_requests_total{request=\"get_daemon_status\"}", 1.0),
    ] {
        assert_eq!(value(&text, sample), expected, "{sample}");
    }
    assert!(value(&text, "pmxcfs_start_time_seconds") > 1e9);
    assert!(!text.contains("pmxcfs_group"), "there is no group");
    let samples = ask_json(&root, &["metrics"]);
    assert_eq!(samples[0]["name"], "pmxcfs_up");
    daemon.stop();
}

#[test]
fn a_file_is_replaced_whole_and_says_when_there_is_no_daemon() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let dir = root.path("metrics");
    fs::create_dir(&dir).expect("a directory");
    let (file, name) = (dir.join("pmxcfs.prom"), "pmxcfs.prom");
    fs::write(&file, "old").expect("a file");
    assert_eq!(ask(&root, &["metrics", "--output", file.to_str().expect("text")]), "");
    let text = fs::read_to_string(&file).expect("written");
    assert_well_formed(&text);
    assert_eq!(fs::metadata(&file).expect("written").permissions().mode() & 0o7777, 0o644);
    daemon.stop();

    let (code, errors) = fails(&root, &["metrics", "--output", file.to_str().expect("text")]);
    assert_eq!((code, errors.contains("no daemon serves")), (3, true), "{errors}");
    assert_eq!(value(&fs::read_to_string(&file).expect("written"), "pmxcfs_up"), 0.0);
    let names: Vec<_> =
        fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(names, [name], "nothing else is left");
    let nowhere = dir.join("missing/pmxcfs.prom");
    let (code, errors) = fails(&root, &["metrics", "--output", nowhere.to_str().expect("text")]);
    assert_eq!((code, errors.contains("cannot write")), (1, true), "{errors}");
}

/// What is answered to `request` on the socket that a service gets of a socket unit.
fn scrape(root: &Root, request: &[u8]) -> String {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let input = OwnedFd::from(theirs.try_clone().expect("a descriptor"));
    let mut child = ctl(root, &["metrics", "--http"])
        .stdin(input)
        .stdout(OwnedFd::from(theirs))
        .spawn()
        .expect("the program starts");
    // Split, as a slow scraper would send it.
    for part in request.chunks(20) {
        ours.write_all(part).expect("sent");
    }
    let mut answer = String::new();
    assert!(child.wait().expect("our child").success());
    ours.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn a_scrape_is_answered() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let padding = "X-Long: ".to_owned() + &"y".repeat(3000);
    let answer = scrape(
        &root,
        format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9638\r\n{padding}\r\n\r\n").as_bytes(),
    );
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert_well_formed(body);
    assert_eq!(value(body, "pmxcfs_up"), 1.0);
    daemon.stop();
    let answer = scrape(&root, b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\npmxcfs_up 0\n"), "{answer}");
    assert!(scrape(&root, b"GET /other HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(scrape(&root, b"\x16\x03\x01\0\0\n\n").starts_with("HTTP/1.1 400 "));
}

/// A program that serves metrics on a listening socket, as a socket unit starts it. Killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(root: &Root, options: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = listener.local_addr().expect("bound");
        let child = ctl(root, &[&["metrics", "--http"], options].concat())
            .stdin(OwnedFd::from(listener))
            .spawn()
            .expect("the program starts");
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream
    }

    /// The answer to a request for the metrics under this name.
    fn get(&self, host: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }
}

#[test]
fn silent_clients_keep_no_place_from_others() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let server = Server::start(&root, &[]);
    // More clients than places, each with a part of a request, and silent for longer than allowed.
    let mut silent: Vec<TcpStream> = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        for _ in 0..40 {
            let mut stream = server.connect();
            stream.write_all(b"GET /met").expect("sent");
            silent.push(stream);
        }
        let asked = Instant::now();
        let answer = server.get("localhost");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with('\n'), "{answer}");
        assert!(asked.elapsed() < Duration::from_secs(2), "it waited {:?} for others", asked.elapsed());
    }
    // The last one had a place and lost it at its deadline; the first one was evicted earlier.
    let mut last = String::new();
    silent.pop().expect("the last").read_to_string(&mut last).expect("an answer");
    assert!(last.starts_with("HTTP/1.1 408 "), "{last}");
    let mut first = Vec::new();
    silent[0].read_to_end(&mut first).expect("its end");
    assert_eq!(first, b"", "no answer");
    daemon.stop();
}

#[test]
fn foreign_host_names_get_no_metrics() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let server = Server::start(&root, &["--host", "n1.example", "--host", "monitor"]);
    for host in ["localhost", "127.0.0.1:9638", "[::1]:1", "n1.example:80", "MONITOR"] {
        assert!(server.get(host).starts_with("HTTP/1.1 200 OK\r\n"), "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", ""] {
        let answer = server.get(host);
        assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("pmxcfs_"), "{host}: {answer}");
    }
    daemon.stop();
}

#[test]
fn many_scrapes_of_a_moment_are_one_for_the_daemon() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let server = Server::start(&root, &[]);
    let asked = || {
        let text = ask(&root, &["metrics"]);
        value(&text, "pmxcfs_ipc_requests_total{request=\"get_daemon_status\"}")
    };
    let before = asked();
    let start = Instant::now();
    for _ in 0..100 {
        assert!(server.get("localhost").contains("\npmxcfs_up 1\n"));
    }
    let most = start.elapsed().as_secs_f64() + 3.0;
    let after = asked() - before;
    assert!((2.0..most).contains(&after), "{after} requests in {:?}", start.elapsed());
    daemon.stop();
}

#[test]
fn metrics_at_a_unix_socket() {
    let (root, dir) = (Root::new(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("metrics.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let mut child =
        ctl(&root, &["metrics", "--http"]).stdin(OwnedFd::from(listener)).spawn().expect("started");
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\npmxcfs_up 0\n"), "{answer}");
    }
    child.kill().expect("our child");
    child.wait().expect("our child");
}
