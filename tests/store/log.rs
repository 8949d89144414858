//! Length of the write-ahead log: bounded on every path by which a commit is made, and emptied after a while.

use crate::support::{Home, NOW, create, log_lines, mkdir, wait_until, write};
use pmxcfs::clock::{Clock, Forward};
use pmxcfs::engine::Engine;
use pmxcfs::memdb::{Limits, Stamp};
use pmxcfs::store::Store;
use rusqlite::Connection;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Limit of the log.
const LIMIT: u64 = 4 << 20;
const WRITERS: u64 = 4;
const FILE_BYTES: u64 = 64 << 10;
/// A transaction can contain one file of each writer, with some pages of the tree.
const TRANSACTION: u64 = WRITERS * (FILE_BYTES + (FILE_BYTES >> 3));

/// Program of [`Reader`]; its value is the database.
const READER: &str = "STORE_LOG_READER";

/// Another process that reads the database in a transaction, until it is dropped.
struct Reader(Child);

/// Not a test: the process of [`Reader`].
#[test]
fn reader() {
    let Ok(path) = std::env::var(READER) else { return };
    let connection = Connection::open(Path::new(&path)).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    connection.query_row("SELECT count(*) FROM tree", [], |row| row.get::<_, u32>(0)).unwrap();
    writeln!(std::io::stdout(), "reads").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

impl Reader {
    fn of(home: &Home) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "log::reader", "--nocapture"]).env(READER, home.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line.ends_with("reads")), "the reader does not read");
        Self(child)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log_bytes(home: &Home) -> u64 {
    std::fs::metadata(home.path().with_file_name("config.db-wal")).map_or(0, |log| log.len())
}

fn content(number: u64) -> Vec<u8> {
    let bytes = (0..FILE_BYTES).map(|index| ((index * (number + 7)) >> 3) as u8);
    bytes.collect()
}

/// A database whose clock the test sets forward.
fn forwardable(home: &Home) -> (Engine, Forward) {
    let (clock, forward) = Clock::forwardable();
    (Engine::open(home.store(), clock).unwrap(), forward)
}

/// Runs `work` in as many threads as there are writers, and returns the greatest length of the log meanwhile.
fn longest_log(home: &Home, work: impl Fn(u64) + Sync) -> u64 {
    let (is_done, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                longest.fetch_max(log_bytes(home), Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let work = &work;
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || work(writer))).collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        is_done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    longest.into_inner()
}

fn assert_bounded(longest: u64) {
    // Long enough for the test to prove anything.
    assert!((LIMIT / 2..=LIMIT + TRANSACTION).contains(&longest), "{longest}");
}

#[test]
fn log_is_bounded_when_callers_commit() {
    let home = Home::new();
    let db = home.db();
    let longest = longest_log(&home, |writer| {
        let path = format!("{writer}");
        db.submit_wait(create(&path)).unwrap();
        for number in 0..100 {
            db.submit_wait(write(&path, &content(number))).unwrap();
            db.sync_wait().unwrap();
        }
    });
    assert_bounded(longest);
    assert_eq!(db.commit_stats().failures, 0);
}

#[test]
fn log_is_bounded_when_the_commit_thread_commits() {
    let home = Home::new();
    let db = home.db();
    let longest = longest_log(&home, |writer| {
        let path = format!("{writer}");
        db.submit_wait(create(&path)).unwrap();
        for number in 0..100 {
            db.submit_wait(write(&path, &content(number))).unwrap();
            db.commit_blocking().unwrap();
        }
    });
    assert_bounded(longest);
}

#[test]
fn log_is_empty_after_the_commit_of_a_resync() {
    let home = Home::new();
    let db = home.db();
    db.apply_on_copy(|tree, _| {
        for number in 0..2 * LIMIT / FILE_BYTES {
            let path = format!("{number}");
            for change in [create(&path), write(&path, &content(number))] {
                tree.apply(change, Stamp { writer: 1, time: NOW }, Limits::Agreed, Duration::ZERO).unwrap();
            }
        }
    })
    .unwrap();
    db.commit_blocking().unwrap();
    wait_until("restarted", || log_bytes(&home) == 0);
    let file = std::fs::metadata(home.path()).unwrap().len();
    assert!(file > 2 * LIMIT, "{file}");
}

#[test]
fn idle_log_is_emptied_after_some_seconds() {
    let home = Home::new();
    let db = home.db();
    db.submit_wait(create("file")).unwrap();
    db.submit_wait(mkdir("directory")).unwrap();
    assert!(log_bytes(&home) > 0);
    wait_until("emptied", || log_bytes(&home) == 0);
    // A copy of the file alone has everything.
    let copy = home.path().with_file_name("copy.db");
    std::fs::copy(home.path(), &copy).unwrap();
    assert_eq!(crate::support::rows(&Store::open(&copy, NOW).unwrap()).len(), 3);
}

#[test]
fn log_in_steady_use_is_emptied_each_minute() {
    let home = Home::new();
    let (db, forward) = forwardable(&home);
    for second in 0..130 {
        forward.by_seconds(1);
        // The commit thread does not notice that the test sets the clock forward, so a change must wake it.
        db.submit_wait(create(&format!("{second}"))).unwrap();
        db.commit_blocking().unwrap();
    }
    let copy = home.path().with_file_name("copy.db");
    std::fs::copy(home.path(), &copy).unwrap();
    let rows = crate::support::rows(&Store::open(&copy, NOW).unwrap()).len();
    assert!((61..131).contains(&rows), "{rows} rows in a copy of the file alone");
}

#[test]
fn reader_that_blocks_the_log_is_named_once() {
    let home = Home::new();
    log_lines(&home.path());
    let db = Engine::open(home.store(), Clock::start()).unwrap();
    db.submit_wait(create("file")).unwrap();
    db.sync_wait().unwrap();
    let reader = Reader::of(&home);
    let fill = || {
        for number in 0..100 {
            db.submit_wait(write("file", &content(number))).unwrap();
            db.sync_wait().unwrap();
        }
    };
    fill();
    assert!(log_bytes(&home) > LIMIT, "commits go on");
    let blocked = || {
        let lines = log_lines(&home.path());
        lines.into_iter().filter(|line| line.contains("WARN")).collect::<Vec<_>>()
    };
    wait_until("reported", || !blocked().is_empty());
    let pid = format!("process {} (", reader.0.id());
    assert!(blocked()[0].contains(&pid) && blocked()[0].contains("uses the database"), "{:?}", blocked());
    fill();
    assert_eq!(blocked().len(), 1, "{:?}", blocked());
    drop(reader);
    wait_until("caught up", || log_bytes(&home) == 0);
    let ended = || log_lines(&home.path()).iter().any(|line| line.contains("is moved into the file again"));
    wait_until("reported", ended);
    assert_eq!(log_lines(&home.path()).len(), 2, "{:?}", log_lines(&home.path()));
}
