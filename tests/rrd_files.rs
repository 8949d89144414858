//! The round-robin files as `rrdtool` sees them: made and written directly, by a real rrdcached, and
//! beside one that hangs.

use pmxcfs::clock::Clock;
use pmxcfs::rrd::{Options, Sink, Writer};
use pmxcfs::status::map_rrd;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A base directory and a socket's path, gone at the end.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: TempDir::new().unwrap() }
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("rrdcached.sock")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.base().join(name)
    }

    fn start(&self) -> (Sink, Writer) {
        let options = Options { base_dir: self.base(), rrdcached_socket: self.socket() };
        Writer::start(options, Clock::start()).unwrap()
    }

    /// Writes these updates with a writer of their own.
    fn write(&self, updates: &[(&str, String)]) {
        let (sink, writer) = self.start();
        updates.iter().for_each(|(key, value)| send(&sink, key, value));
        assert!(writer.stop(PATIENCE));
    }
}

fn send(sink: &Sink, key: &str, value: &str) {
    sink.send(map_rrd(key.as_bytes(), value.as_bytes()).unwrap());
}

/// Values are of times behind this: a file takes none from before its midnight.
fn now() -> u32 {
    Clock::start().unix()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn rrdtool(command: &str, file: &Path) -> String {
    output("rrdtool", &[command, file.to_str().unwrap()])
}

/// The last line of `rrdtool lastupdate`: time and values.
fn last_update(file: &Path) -> String {
    rrdtool("lastupdate", file).trim_end().lines().last().unwrap_or_default().to_owned()
}

/// So many columns, numbered, behind so many live ones and the time.
fn value(time: u32, live: usize, columns: usize) -> String {
    let start = format!("{}{time}", "0:".repeat(live));
    (1..=columns).fold(start, |value, column| format!("{value}:{column}"))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn files_are_made_as_stock_makes_them() {
    let place = Place::new();
    // Values of a time before the file's start: it is made and stays empty.
    let files = [
        ("node", "pve-node-9.0/n1", value(7, 2, 19)),
        ("vm", "pve-vm-9.0/100", value(7, 4, 17)),
        ("storage", "pve-storage-9.0/n1/local", value(7, 0, 2)),
    ];
    let midnight = || output("date", &["-d", "today 00:00", "+%s"]);
    let midnight_before = midnight();
    place.write(&files.clone().map(|(_, key, value)| (key, value)));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (kind, key, _) in files {
        let info = rrdtool("info", &place.file(key));
        let schema = |line: &&str| {
            let field = line.split(" = ").next().unwrap_or_default().rsplit('.').next();
            ["step", "index", "type", "minimal_heartbeat", "min", "max", "cf", "rows", "pdp_per_row", "xff"]
                .contains(&field.unwrap_or_default())
        };
        let ours: Vec<&str> = info.lines().filter(schema).collect();
        let stock = std::fs::read_to_string(golden.join(format!("rrd-info-{kind}-9.0.txt"))).unwrap();
        assert_eq!(ours, stock.lines().filter(schema).collect::<Vec<_>>());
        assert!(ours.len() > 40, "{kind}");
        let start = info.lines().find_map(|line| line.strip_prefix("last_update = ")).unwrap();
        assert!(start == midnight_before.trim() || start == midnight().trim(), "{start}");
    }
    for dir in ["", "pve-node-9.0", "pve-vm-9.0", "pve-storage-9.0", "pve-storage-9.0/n1"] {
        let mode = place.file(dir).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750, "{dir}");
    }
}

#[test]
fn values_are_written_directly_without_rrdcached() {
    let place = Place::new();
    let now = now();
    place.write(&[
        ("pve-node-9.0/n1", value(now, 2, 19)),
        ("pve2.3-vm/100", value(now, 4, 10)),
        ("pve-storage-10.0/n1/local", value(now, 0, 5)),
        ("pve-storage-10.0/n1/local", value(now + 60, 0, 5)),
        // Neither an old value nor a missing column stops those after it.
        ("pve-storage-9.0/n1/local", value(now + 30, 0, 2)),
        ("pve-storage-9.0/n1/broken", value(now, 0, 1)),
        ("pve-storage-9.0/n1/last", value(now, 0, 2)),
    ]);
    let numbers = |columns| (1..=columns).fold(String::new(), |text, column| format!("{text} {column}"));
    assert_eq!(last_update(&place.file("pve-node-9.0/n1")), format!("{now}:{}", numbers(19)));
    let padded = format!("{now}:{}{}", numbers(10), " U".repeat(7));
    assert_eq!(last_update(&place.file("pve-vm-9.0/100")), padded);
    assert_eq!(last_update(&place.file("pve-storage-9.0/n1/local")), format!("{}: 1 2", now + 60));
    assert_eq!(last_update(&place.file("pve-storage-9.0/n1/last")), format!("{now}: 1 2"));
}

#[test]
fn a_file_that_cannot_be_made_harms_no_other() {
    let place = Place::new();
    let now = now();
    std::fs::create_dir_all(place.file("pve-vm-9.0/100")).unwrap();
    std::fs::write(place.file("pve-node-9.0"), "in the way").unwrap();
    std::fs::write(place.file("pve-vm-9.0/101"), "no RRD").unwrap();
    place.write(&[
        ("pve-node-9.0/n1", value(now, 2, 19)),
        ("pve-vm-9.0/100", value(now, 4, 17)),
        ("pve-vm-9.0/101", value(now, 4, 17)),
        ("pve-storage-9.0/n1/s", value(now, 0, 2)),
    ]);
    assert_eq!(last_update(&place.file("pve-storage-9.0/n1/s")), format!("{now}: 1 2"));
    assert_eq!(std::fs::read(place.file("pve-vm-9.0/101")).unwrap(), b"no RRD");
}

/// A real rrdcached in the place's directory, killed at the end.
struct Daemon<'a> {
    place: &'a Place,
    child: Child,
}

impl<'a> Daemon<'a> {
    fn start(place: &'a Place) -> Daemon<'a> {
        std::fs::create_dir_all(place.base()).unwrap();
        let path = |name: &str| place.dir.path().join(name);
        let child = Command::new("rrdcached")
            .args(["-g", "-B", "-F", "-w", "3600"])
            .arg("-b")
            .arg(place.base())
            .arg("-p")
            .arg(path("rrdcached.pid"))
            .arg("-l")
            .arg(format!("unix:{}", place.socket().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rrdcached is installed");
        wait_until("rrdcached", || UnixStream::connect(place.socket()).is_ok());
        Daemon { place, child }
    }

    /// Has rrdcached write what it keeps for a file.
    fn flush(&self, file: &Path) {
        let mut connection = UnixStream::connect(self.place.socket()).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(connection, "FLUSH {}", file.display()).unwrap();
        let mut answer = String::new();
        BufReader::new(connection).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("0 "), "{answer}");
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_file(self.place.socket()).unwrap();
    }
}

#[test]
fn rrdcached_writes_when_it_answers() {
    let place = Place::new();
    let now = now();
    let vm = place.file("pve-vm-9.0/100");
    let written = |time: u32| last_update(&vm).starts_with(&format!("{time}: 1 2 3 "));
    let daemon = Daemon::start(&place);
    let (sink, writer) = place.start();
    send(&sink, "pve-vm-9.0/100", &value(now + 1, 4, 17));
    // A second kind, so that the connection is used again, then a file that only is made and
    // written after the first: its presence tells that rrdcached has had both.
    send(&sink, "pve-vm-9.0/101", &value(now + 1, 4, 17));
    send(&sink, "pve-vm-9.0/102", &value(now + 1, 4, 17));
    wait_until("the third file", || place.file("pve-vm-9.0/102").exists());
    assert!(!written(now + 1), "rrdcached keeps it in memory");
    daemon.flush(&vm);
    assert!(written(now + 1));

    // The connection is lost: the writer does it itself, until there is an rrdcached again.
    drop(daemon);
    send(&sink, "pve-vm-9.0/100", &value(now + 2, 4, 17));
    wait_until("the direct update", || written(now + 2));
    let daemon = Daemon::start(&place);
    send(&sink, "pve-vm-9.0/100", &value(now + 3, 4, 17));
    assert!(writer.stop(PATIENCE));
    assert!(!written(now + 3));
    daemon.flush(&vm);
    assert!(written(now + 3));
}

/// rrdcached says no, for one that may only write below another directory: it is done directly.
#[test]
fn what_rrdcached_refuses_is_written_directly() {
    let place = Place::new();
    let other = Place::new();
    let daemon = Daemon::start(&other);
    let now = now();
    let options = Options { base_dir: place.base(), rrdcached_socket: other.socket() };
    let (sink, writer) = Writer::start(options, Clock::start()).unwrap();
    send(&sink, "pve-storage-9.0/n1/a b\\c", &value(now, 0, 2));
    assert!(writer.stop(PATIENCE));
    assert_eq!(last_update(&place.file("pve-storage-9.0/n1/a b\\c")), format!("{now}: 1 2"));
    drop(daemon);
}

#[test]
fn names_with_spaces_reach_rrdcached() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let now = now();
    place.write(&[("pve-storage-9.0/n1/a b\\c", value(now, 0, 2))]);
    let file = place.file("pve-storage-9.0/n1/a b\\c");
    assert!(!last_update(&file).starts_with(&format!("{now}")), "rrdcached has it");
    drop(daemon);
}

/// Somebody listens and never answers: who sends does not notice, and files are written.
#[test]
fn a_hanging_rrdcached_delays_nobody() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.socket()).unwrap();
    let now = now();
    let (sink, writer) = place.start();
    let start = Instant::now();
    for number in 0..2000u32 {
        send(&sink, &format!("pve-storage-9.0/n1/s{}", number % 4), &value(now + number, 0, 2));
    }
    let sent = start.elapsed();
    assert!(sent < Duration::from_millis(500), "2000 updates took {sent:?} to send");
    assert!(writer.stop(PATIENCE));
    for number in 0..4u32 {
        let file = place.file(&format!("pve-storage-9.0/n1/s{number}"));
        assert_eq!(last_update(&file), format!("{}: 1 2", now + 1996 + number));
    }
    // One wait of a second, then the daemon is left alone.
    let all = start.elapsed();
    assert!(all >= Duration::from_secs(1) && all < Duration::from_secs(10), "{all:?}");
}

#[test]
fn a_stop_is_bounded() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.socket()).unwrap();
    let (sink, writer) = place.start();
    send(&sink, "pve-vm-9.0/100", &value(now(), 4, 17));
    let start = Instant::now();
    assert!(!writer.stop(Duration::from_millis(100)), "it waits for rrdcached");
    assert!(start.elapsed() < Duration::from_millis(900));
    // What comes after the stop goes nowhere, and the thread ends by itself.
    send(&sink, "pve-vm-9.0/101", &value(now(), 4, 17));
    wait_until("the update of before", || place.file("pve-vm-9.0/100").exists());
    drop(sink);
}
