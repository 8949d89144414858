//! A directory that one daemon at a time, ours or stock, has for its database and its mount: both use
//! the same places below it, so that each can be started on what the other left.

use crate::daemon::{self, Daemon, Side};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One row of the database, as SQLite has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub inode: i64,
    pub parent: i64,
    pub version: i64,
    pub writer: i64,
    pub mtime: i64,
    pub kind: i64,
    pub name: Vec<u8>,
    /// Without bytes it may be NULL or empty; neither daemon tells these apart.
    pub data: Vec<u8>,
    /// Of the name: a blob in place of a text is another value to SQLite.
    pub name_type: String,
}

/// The directory.
pub struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// With nothing in it.
    pub fn new() -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let dir = tempfile::Builder::new().prefix("stock-").tempdir_in(parent).expect("a directory");
        daemon::prepare(dir.path()).expect("directories of a host");
        Self { dir }
    }

    /// With a copy of the database of another, in the state in which a daemon left it or lost it.
    pub fn copy_of(other: &Self) -> Self {
        let host = Self::new();
        for entry in fs::read_dir(other.database().parent().expect("in a directory")).expect("readable") {
            let entry = entry.expect("readable");
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("config.db") {
                fs::copy(entry.path(), host.database().with_file_name(name)).expect("copied");
            }
        }
        host
    }

    pub fn database(&self) -> PathBuf {
        daemon::database_path(self.dir.path())
    }

    /// Serves the database from this side's daemon.
    pub fn start(&self, side: &Side) -> Served {
        let daemon = Daemon::start(side, self.dir.path()).unwrap_or_else(|failure| panic!("{failure}"));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(&daemon.tree(), flags, Mode::empty()).expect("the tree is served");
        Served { root, daemon }
    }

    /// The table, while no daemon has it.
    pub fn rows(&self) -> Vec<Row> {
        rows(&self.database())
    }
}

/// The table of a database.
pub fn rows(path: &Path) -> Vec<Row> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("a database");
    let check: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(check, "ok");
    let query = "SELECT inode, parent, version, writer, mtime, type, CAST(name AS BLOB), data, typeof(name) \
                 FROM tree ORDER BY inode";
    let mut statement = connection.prepare(query).expect("the stock schema");
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            inode: row.get(0)?,
            parent: row.get(1)?,
            version: row.get(2)?,
            writer: row.get(3)?,
            mtime: row.get(4)?,
            kind: row.get(5)?,
            name: row.get(6)?,
            data: row.get::<_, Option<Vec<u8>>>(7)?.unwrap_or_default(),
            name_type: row.get(8)?,
        })
    };
    let rows = statement.query_map([], row).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows of the stock schema")
}

/// A served tree. The daemon ends with it.
pub struct Served {
    /// Let go of before the daemon is asked to unmount.
    root: OwnedFd,
    pub daemon: Daemon,
}

impl Served {
    /// The tree's root for this process, whoever the calling thread is.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    /// Everything is on disk when this returns.
    pub fn sync(&self) {
        let dir = fs::File::open(self.root()).expect("the tree is served");
        dir.sync_all().expect("synced");
    }

    /// Ends it in order.
    pub fn stop(self) {
        let Self { root, mut daemon } = self;
        drop(root);
        daemon.stop();
    }

    /// Ends it as a power switch would.
    pub fn crash(self) {
        self.kill();
        self.stop();
    }

    /// As [`Served::crash`], while others still use it.
    pub fn kill(&self) {
        kill(Pid::from_raw(self.daemon.pid), Signal::SIGKILL).expect("our child");
    }
}
