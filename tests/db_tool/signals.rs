//! A signal ends a tool in the middle of its work: no temporary file is left, and the signal is the cause of its end.

use crate::support::{Home, command};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pmxcfs::memdb::{Change, Limits, MAX_FILE_SIZE, MemDb, Stamp, TreePath, WriteAt};
use pmxcfs::store::Store;
use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A database in a directory of another user, large enough that each verb takes a while.
struct Work {
    home: Home,
    theirs: PathBuf,
}

impl Work {
    fn new() -> Self {
        let home = Home::empty();
        let (theirs, temporary) = (home.at("theirs"), home.at("tmp"));
        for dir in [&theirs, &temporary] {
            std::fs::create_dir(dir).unwrap();
        }
        let mut tree = MemDb::new();
        let mut apply = |change| {
            tree.apply(change, Stamp { writer: 1, time: 1 }, Limits::Enforced, Duration::ZERO).unwrap();
        };
        for number in 0..24 {
            let path = TreePath::from(format!("file{number}").as_str());
            apply(Change::Create { path: path.clone() });
            let data = vec![b'x'; MAX_FILE_SIZE as usize];
            apply(Change::Write { path, at: WriteAt::Offset(0), data });
        }
        for number in 0..2000 {
            apply(Change::Create { path: TreePath::from(format!("small{number}").as_str()) });
        }
        let mut store = Store::open(&theirs.join("config.db"), 1).unwrap();
        store.commit(&tree.take_batch().unwrap()).unwrap();
        store.close().unwrap();
        chown(&theirs, Some(65534), Some(65534)).expect("needs root");
        Self { home, theirs }
    }

    fn tool(&self, verb: &[&str], paths: &[&Path]) -> Command {
        let mut tool = command();
        tool.args(verb).args(paths);
        self.set_up(tool)
    }

    fn set_up(&self, tool: Command) -> Command {
        // A shell starts its background processes, this test among them, with SIGINT ignored.
        let mut with_signals = Command::new("env");
        with_signals.arg("--default-signal=INT,TERM,HUP").arg(tool.get_program()).args(tool.get_args());
        let mut tool = with_signals;
        tool.env("TMPDIR", self.home.at("tmp")).stdin(Stdio::null());
        tool.stdout(Stdio::null()).stderr(Stdio::null());
        tool
    }

    /// Names with the marks of temporary files.
    fn temporary(&self) -> Vec<PathBuf> {
        let entries = ["tmp", "theirs"].map(|dir| std::fs::read_dir(self.home.at(dir)).unwrap());
        let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
        let marks = ["pmxcfs-db-", ".new-", ".before-repair-"];
        let is_temporary = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap();
            marks.iter().any(|mark| name.contains(mark))
        };
        paths.filter(is_temporary).collect()
    }

    /// Stops a tool while a temporary file of this kind exists, then sends the signal. Returns how the tool ended.
    fn interrupt(&self, tool: impl Fn() -> Command, kind: &str, signal: Signal) -> WaitStatus {
        let deadline = Instant::now() + Duration::from_secs(120);
        let is_at_work = || self.temporary().iter().any(|path| path.to_string_lossy().contains(kind));
        while Instant::now() < deadline {
            let pid = Pid::from_raw(tool().spawn().unwrap().id() as i32);
            let ended = || waitpid(pid, Some(WaitPidFlag::WNOHANG)).unwrap() != WaitStatus::StillAlive;
            let mut is_ended = ended();
            while !is_ended && !is_at_work() {
                std::hint::spin_loop();
                is_ended = ended();
            }
            if !is_ended {
                kill(pid, Signal::SIGSTOP).unwrap();
                let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
                if matches!(stopped, WaitStatus::Stopped(..)) {
                    let in_time = is_at_work();
                    kill(pid, signal).unwrap();
                    kill(pid, Signal::SIGCONT).unwrap();
                    let status = waitpid(pid, None).unwrap();
                    if in_time {
                        return status;
                    }
                }
            }
            // The tool was faster than this test.
            self.remove_results();
        }
        panic!("no temporary file of the kind '{kind}' was seen in time");
    }
}

impl Work {
    /// As [`Work::interrupt`], again while the tool finished its work before the thread for signals ran: a loaded
    /// machine can do that to a tool that was stopped close to its end.
    fn end_by_signal(&self, tool: impl Fn() -> Command, kind: &str, signal: Signal) -> WaitStatus {
        for _ in 0..20 {
            let status = self.interrupt(&tool, kind, signal);
            if !matches!(status, WaitStatus::Exited(_, 0)) {
                return status;
            }
            assert_eq!(self.temporary(), [] as [PathBuf; 0], "a tool that finished leaves nothing");
            self.remove_results();
        }
        panic!("the tool finished each time in spite of {signal}");
    }

    fn remove_results(&self) {
        let _ = std::fs::remove_dir_all(self.theirs.join("tree"));
        let _ = std::fs::remove_file(self.theirs.join("other.db"));
    }
}

#[test]
fn signal_in_the_middle_leaves_no_temporary_file() {
    let work = Work::new();
    let (file, tree, other) =
        (work.theirs.join("config.db"), work.theirs.join("tree"), work.theirs.join("other.db"));
    let source = work.home.at("source");
    let exported = work.tool(&["export"], &[&file, &source]).status().unwrap();
    assert!(exported.success());
    type Verb<'a> = (&'a str, &'a [&'a Path], &'a str);
    let verbs: [Verb<'_>; 7] = [
        ("check", &[&file], "pmxcfs-db-"),
        ("repair", &[&file], "pmxcfs-db-"),
        ("compact", &[&file], "pmxcfs-db-"),
        ("compact", &[&file], ".new-"),
        ("export", &[&file, &tree], ".new-"),
        ("import", &[&source, &other], "pmxcfs-db-"),
        ("diff", &[&file, &file], "pmxcfs-db-"),
    ];
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    for ((verb, paths, kind), signal) in verbs.into_iter().zip(signals.into_iter().cycle()) {
        let status = work.end_by_signal(|| work.tool(&[verb], paths), kind, signal);
        assert!(matches!(status, WaitStatus::Signaled(_, by, _) if by == signal), "{verb}: {status:?}");
        assert_eq!(work.temporary(), [] as [PathBuf; 0], "{verb} {signal}");
    }
    let checked = work.tool(&["check"], &[&file]).status().unwrap();
    assert!(checked.success(), "the database is as it was");
}

#[test]
fn signal_during_a_repair_leaves_no_partial_copy() {
    let work = Work::new();
    let file = work.theirs.join("config.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch("UPDATE tree SET name = '' WHERE inode = 2").unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let before = std::fs::read(&file).unwrap();
    let tool = || work.tool(&["repair", "--apply"], &[&file]);
    let status = work.interrupt(tool, ".before-repair-", Signal::SIGTERM);
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{status:?}");
    let left = work.temporary();
    let is_whole = |path: &PathBuf| std::fs::read(path).unwrap() == before;
    assert!(left.iter().all(is_whole), "a copy that is left is complete: {left:?}");
}

#[test]
fn signal_ends_create_pmxcfs_db_without_a_trace() {
    let work = Work::new();
    let (source, file) = (work.home.at("files"), work.theirs.join("other.db"));
    std::fs::create_dir(&source).unwrap();
    for number in 0..64 {
        std::fs::write(source.join(format!("file{number}")), vec![b'y'; MAX_FILE_SIZE as usize]).unwrap();
    }
    let tool = || {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_create_pmxcfs_db"));
        tool.args([&source, &file]);
        work.set_up(tool)
    };
    let status = work.end_by_signal(tool, "pmxcfs-db-", Signal::SIGINT);
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGINT, _)), "{status:?}");
    assert_eq!(work.temporary(), [] as [PathBuf; 0]);
}

#[test]
fn ignored_hangup_does_not_end_a_tool() {
    let work = Work::new();
    let file = work.theirs.join("config.db");
    let tool = || {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pmxcfs-db"), "check"])
            .arg(&file);
        work.set_up(shell)
    };
    let status = work.interrupt(tool, "pmxcfs-db-", Signal::SIGHUP);
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}
