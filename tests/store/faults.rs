//! When the file cannot be written: what callers hear, what readers see, what the log says, and that
//! all goes on by itself when the cause is gone.

use crate::namespace;
use crate::support::{
    Home, NOW, assert_sound, create, log_lines, mkdir, rename, rows, tree, wait_until, write,
};
use nix::mount::{MsFlags, mount, umount};
use pmxcfs::clock::Clock;
use pmxcfs::engine::{Engine, EngineError};
use pmxcfs::store::{Fault, Store};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A small file system that only the thread of this test sees, and the threads it starts.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn new(bytes: u64) -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        namespace::enter_once();
        let size = format!("size={bytes}");
        mount(Some("tmpfs"), disk.dir.path(), Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        disk
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("config.db")
    }

    fn make_read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, self.dir.path(), None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount(self.dir.path()).unwrap();
    }
}

fn open(path: &Path) -> Engine {
    Engine::open(Store::open(path, NOW).unwrap(), Clock::start()).unwrap()
}

/// Of the lines about `path`, those that say that it failed and that it works again. A checkpoint can fail before.
fn reported(path: &Path) -> (Vec<String>, Vec<String>) {
    let lines = log_lines(path).into_iter().filter(|line| !line.contains("unable to move the log into"));
    lines.partition(|line| !line.contains("can be written again"))
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_space() {
    let disk = SmallDisk::new(512 << 10);
    log_lines(&disk.path());
    let ballast = disk.path().with_file_name("ballast");
    std::fs::write(&ballast, vec![0; 256 << 10]).unwrap();
    let db = open(&disk.path());

    // Until it is full. Nothing that was acknowledged is lost.
    let mut stored = 0;
    let refused = loop {
        match db.submit_wait(mkdir(&format!("{stored}"))) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10_000);
    };
    assert_eq!(refused, EngineError::NoSpace);
    assert!(db.is_failed() && db.is_out_of_space() && stored > 0);
    assert_eq!(db.submit_wait(create("file")), Err(EngineError::NoSpace));
    assert_eq!(db.sync_wait(), Err(EngineError::NoSpace));
    let version = db.read().version();
    assert_eq!(db.submit_wait(mkdir("other")), Err(EngineError::NoSpace));
    assert_eq!(db.read().version(), version, "a refused change is not made");
    let (failures, _) = reported(&disk.path());
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].starts_with("[database] ERROR: unable to write to database"), "{failures:?}");
    assert!(failures[0].contains("no space left on its file system; free some space"), "{failures:?}");

    std::fs::remove_file(ballast).unwrap();
    wait_until("goes on", || !db.is_failed());
    db.submit_wait(mkdir("after")).unwrap();
    let (failures, recoveries) = reported(&disk.path());
    assert_eq!((failures.len(), recoveries.len()), (1, 1), "{failures:?} {recoveries:?}");
    let expected: Vec<_> = db.read().snapshot_rows().collect();
    db.close().unwrap();
    assert_eq!(rows(&Store::open(&disk.path(), NOW).unwrap()), expected);
    assert_sound(&disk.path());
}

/// 301 guests on a small file system, all of them rewritten again and again, as `sed -i` does it.
#[test]
fn small_disk_is_never_filled_by_the_log() {
    const GUESTS: usize = 301;
    let disk = SmallDisk::new(2 << 20);
    log_lines(&disk.path());
    let db = open(&disk.path());
    let path = |vmid: usize| format!("nodes/n/qemu-server/{vmid}.conf");
    for dir in ["nodes", "nodes/n", "nodes/n/qemu-server"] {
        db.submit_wait(mkdir(dir)).unwrap();
    }
    for round in 0..30u8 {
        for vmid in 100..100 + GUESTS {
            db.submit_wait(create("draft")).unwrap();
            db.submit_wait(write("draft", &[round; 900])).unwrap();
            db.submit_wait(rename("draft", &path(vmid))).unwrap();
        }
    }
    assert_eq!(reported(&disk.path()).0, Vec::<String>::new());
    assert_eq!(db.commit_stats().failures, 0);
    db.close().unwrap();
    assert_eq!(rows(&Store::open(&disk.path(), NOW).unwrap()).len(), GUESTS + 4);
    assert_sound(&disk.path());
}

/// A transaction that does not fit leaves frames in the log that take all space. The daemon frees it by itself.
#[test]
fn space_of_a_failed_commit_is_freed() {
    let disk = SmallDisk::new(1 << 20);
    log_lines(&disk.path());
    let ballast = disk.path().with_file_name("ballast");
    std::fs::write(&ballast, vec![0; 600 << 10]).unwrap();
    let db = open(&disk.path());
    db.submit_wait(mkdir("first")).unwrap();
    // The file has to grow by these pages, for which frames of the failed commit leave no space.
    db.submit_wait(create("medium")).unwrap();
    db.submit_wait(write("medium", &[7; 100 << 10])).unwrap();
    db.sync_wait().unwrap();
    db.submit_wait(create("large")).unwrap();
    db.submit_wait(write("large", &[7; 400 << 10])).unwrap();
    assert_eq!(db.sync_wait(), Err(EngineError::NoSpace));
    assert!(db.read().resolve(b"first").is_some(), "reading goes on");
    let free = || nix::sys::statvfs::statvfs(disk.dir.path()).unwrap();
    wait_until("freed", || free().blocks_free() * free().fragment_size() > 192 << 10);
    std::fs::remove_file(ballast).unwrap();
    let freed = std::time::Instant::now();
    wait_until("goes on", || !db.is_failed());
    assert!(freed.elapsed() < Duration::from_secs(1), "{:?}", freed.elapsed());
    db.submit_wait(mkdir("after")).unwrap();
    let expected: Vec<_> = db.read().snapshot_rows().collect();
    db.close().unwrap();
    assert_eq!(rows(&Store::open(&disk.path(), NOW).unwrap()), expected);
    assert_sound(&disk.path());
}

/// The log takes all that is free, and the file has to grow: no space is left for the checkpoint of a failed commit
/// unless its frames are cut off.
#[test]
fn disk_filled_by_its_own_log_recovers_by_itself() {
    let disk = SmallDisk::new(1 << 20);
    log_lines(&disk.path());
    let db = open(&disk.path());
    let mut number = 0;
    // New files only, so that the file grows by as much as the log has.
    loop {
        let path = format!("{number}");
        db.submit_wait(create(&path)).unwrap();
        db.submit_wait(write(&path, &[7; 3000])).unwrap();
        match db.sync_wait() {
            Ok(()) => number += 1,
            Err(error) => break assert_eq!(error, EngineError::NoSpace),
        }
        assert!(number < 10_000);
    }
    // More than half of the file system holds files: the log did not stand in the way of that.
    assert!(number * 3000 > 512 << 10, "{number}");
    assert_sound(&disk.path());
}

#[test]
fn a_database_cannot_be_made_on_a_full_disk() {
    let disk = SmallDisk::new(64 << 10);
    std::fs::write(disk.path().with_file_name("ballast"), vec![0; 128 << 10]).unwrap_err();
    let error = Store::open(&disk.path(), NOW).unwrap_err();
    assert_eq!(error.fault, Fault::Full, "{error}");
    // What the attempt left is no obstacle.
    std::fs::remove_file(disk.path().with_file_name("ballast")).unwrap();
    let store = Store::open(&disk.path(), NOW).unwrap();
    assert!(store.is_created());
    assert_eq!(tree(&store).version(), 1);
}

#[test]
fn a_read_only_file_system_is_reported() {
    let disk = SmallDisk::new(1 << 20);
    open(&disk.path()).close().unwrap();
    disk.make_read_only();
    let error = Store::open(&disk.path(), NOW).unwrap_err();
    assert_eq!(error.fault, Fault::ReadOnly);
    let missing = disk.path().with_file_name("missing.db");
    assert_eq!(Store::open(&missing, NOW).unwrap_err().fault, Fault::ReadOnly);
}

#[test]
fn a_lock_of_another_program_is_outlived() {
    let home = Home::golden();
    log_lines(&home.path());
    let timeout = Duration::from_millis(50);
    let store = Store::open_with_timeout(&home.path(), NOW, timeout).unwrap();
    let db = Engine::open(store, Clock::start()).unwrap();
    let other = home.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    db.submit_wait(create("file")).unwrap();
    assert_eq!(db.submit_wait(mkdir("directory")), Err(EngineError::Storage));
    assert!(db.read().resolve(b"directory").is_some());
    let (failures, _) = reported(&home.path());
    assert!(failures.len() == 1 && failures[0].contains("another program holds a lock"), "{failures:?}");

    other.execute_batch("ROLLBACK").unwrap();
    wait_until("goes on", || !db.is_failed());
    // What was refused only because it could not be stored is stored now, as it can be seen.
    assert_eq!(tree(&Store::open(&home.path(), NOW).unwrap()).checksum(), db.read().checksum());
    db.submit_wait(write("file", b"text")).unwrap();
    db.sync_wait().unwrap();
}

#[test]
fn what_cannot_be_stored_at_the_end_is_reported() {
    let home = Home::golden();
    let timeout = Duration::from_millis(20);
    let store = Store::open_with_timeout(&home.path(), NOW, timeout).unwrap();
    let db = Engine::open(store, Clock::start()).unwrap();
    let other = home.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    db.submit_wait(create("file")).unwrap();
    assert_eq!(db.close(), Err(EngineError::Storage));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(tree(&home.store()).version(), 29);
}

#[test]
fn a_reader_that_stays_does_not_stop_commits_or_the_end() {
    let home = Home::golden();
    log_lines(&home.path());
    let db = home.db();
    db.submit_wait(mkdir("first")).unwrap();
    let other = home.sqlite();
    other.execute_batch("BEGIN").unwrap();
    let count = || other.query_row("SELECT count(*) FROM tree", [], |row| row.get::<_, u32>(0)).unwrap();
    let before = count();
    db.submit_wait(mkdir("second")).unwrap();
    assert_eq!(count(), before);
    assert_eq!(db.close(), Ok(()));
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), before + 1);
    let lines = log_lines(&home.path());
    assert!(lines.len() == 1 && lines[0].contains("unable to close database"), "{lines:?}");
    assert!(lines[0].contains("another program"), "{lines:?}");
}
