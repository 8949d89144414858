//! Recorder of a disk. This test program defines the system's functions that write, resize, sync and remove files
//! itself, so that it sees every call of the production code and of SQLite, in order. A file system between a program
//! and a disk may store the calls that were not synced in any order, in part, or not at all: [`Trace`] has them.
//!
//! Files are stored as usual, but nothing is synced. Calls on files outside of recorded directories pass through.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Longest time that a sync is held; without a limit a failing test would hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Duration of a sync, as on a disk. An acknowledgement that wrongly does not wait for the sync comes before its end.
const SYNC_TIME: Duration = Duration::from_micros(300);

/// Number of a file in a trace. A name that is removed and created again is another file.
pub type FileId = usize;

/// One call, or a part of it.
#[derive(Clone)]
pub enum Event {
    /// First call on a new file.
    Created {
        name: String,
        file: FileId,
    },
    Removed {
        name: String,
        file: FileId,
    },
    Written {
        file: FileId,
        offset: u64,
        data: Vec<u8>,
    },
    Resized {
        file: FileId,
        size: u64,
    },
    /// A sync was called: of a file, or of the directory (`None`).
    SyncStarted {
        target: Option<FileId>,
    },
    /// The sync that started with this event returned without an error.
    SyncEnded {
        started: usize,
        target: Option<FileId>,
    },
    /// Made by the test: the state with this number was acknowledged as synced.
    Acknowledged {
        state: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { name, file } => write!(formatter, "create {file} as {name}"),
            Self::Removed { name, file } => write!(formatter, "remove {file}, {name}"),
            Self::Written { file, offset, data } => {
                write!(formatter, "write {} bytes to {file} at {offset}", data.len())
            }
            Self::Resized { file, size } => write!(formatter, "resize {file} to {size}"),
            Self::SyncStarted { target } => write!(formatter, "start sync of {target:?}"),
            Self::SyncEnded { started, target } => write!(formatter, "end sync {started} of {target:?}"),
            Self::Acknowledged { state } => write!(formatter, "acknowledge state {state}"),
        }
    }
}

/// Everything that happened to the files of a directory.
pub type Trace = Vec<Event>;

/// Recording of one directory, until it is dropped.
pub struct Recording {
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    trace: Trace,
    /// By inode number.
    files: BTreeMap<u64, FileId>,
    count: FileId,
    fails_syncs: bool,
    holds_syncs: bool,
    waiting_syncs: usize,
}

static ACTIVE: Mutex<Vec<Arc<Recording>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shared memory is no file to SQLite: it is made anew after a crash.
fn is_recorded(name: &str) -> bool {
    !name.ends_with("-shm")
}

impl Recording {
    /// Records all calls on the files of a directory, which must be empty.
    pub fn start(dir: &Path) -> Arc<Self> {
        let dir = dir.canonicalize().expect("a directory");
        let recording = Self { dir, state: Mutex::default(), changed: Condvar::new() };
        let recording = Arc::new(recording);
        lock(&ACTIVE).push(Arc::clone(&recording));
        recording
    }

    /// Ends it. A replay of the trace must have made the files that are there: else a call was missed.
    pub fn finish(&self) -> Trace {
        lock(&ACTIVE).retain(|other| !std::ptr::eq(&raw const **other, self));
        let trace = std::mem::take(&mut lock(&self.state).trace);
        let names = fs::read_dir(&self.dir).expect("a directory");
        let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        let names = names.filter(|name| is_recorded(name));
        let found: BTreeMap<_, _> =
            names.map(|name| (name.clone(), fs::read(self.dir.join(name)).expect("a file"))).collect();
        let made = super::image::complete(&trace);
        assert!(
            found.keys().eq(made.keys()) && found == made,
            "the recorder missed a call: {:?} {:?}",
            sizes(&found),
            sizes(&made)
        );
        trace
    }

    pub fn acknowledge(&self, state: usize) {
        lock(&self.state).trace.push(Event::Acknowledged { state });
    }

    /// Number of syncs of this file that have returned.
    pub fn syncs_of(&self, name: &str) -> usize {
        let state = lock(&self.state);
        let created = |event: &&Event| matches!(event, Event::Created { name: other, .. } if other == name);
        let Some(Event::Created { file, .. }) = state.trace.iter().rev().find(created) else { return 0 };
        let ended =
            |event: &&Event| matches!(event, Event::SyncEnded { target, .. } if *target == Some(*file));
        state.trace.iter().filter(ended).count()
    }

    /// From now on all syncs fail with an I/O error, or none.
    pub fn fail_syncs(&self, fail: bool) {
        lock(&self.state).fails_syncs = fail;
    }

    /// From now on syncs do not return until this is called with `false`, or for [`PATIENCE`].
    pub fn hold_syncs(&self, hold: bool) {
        lock(&self.state).holds_syncs = hold;
        self.changed.notify_all();
    }

    /// Blocks until a sync is held.
    pub fn wait_for_held_sync(&self) {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.waiting_syncs == 0);
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "no sync started");
    }

    /// Makes a call while no other one on these files is made, and records it if it succeeded.
    fn call(
        &self,
        inode: u64,
        name: &str,
        act: impl FnOnce() -> i64,
        event: impl FnOnce(FileId) -> Event,
    ) -> i64 {
        let mut state = lock(&self.state);
        let result = act();
        if result >= 0 {
            let file = state.file(inode, name);
            state.trace.push(event(file));
        }
        result
    }

    fn remove(&self, name: &str, act: impl FnOnce() -> i64) -> i64 {
        let mut state = lock(&self.state);
        let inode = fs::symlink_metadata(self.dir.join(name)).map(|facts| facts.ino());
        let result = act();
        if let (0, Ok(inode)) = (result, inode) {
            let file = state.file(inode, name);
            // The next file may have its inode number.
            state.files.remove(&inode);
            state.trace.push(Event::Removed { name: name.to_owned(), file });
        }
        result
    }

    fn sync(&self, target: Option<(u64, &str)>) -> i64 {
        let mut state = lock(&self.state);
        if target.is_none() {
            state.find_new(&self.dir);
        }
        let target = target.map(|(inode, name)| state.file(inode, name));
        let started = state.trace.len();
        state.trace.push(Event::SyncStarted { target });
        state.waiting_syncs += 1;
        self.changed.notify_all();
        drop(state);
        thread::sleep(SYNC_TIME);
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.holds_syncs);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting_syncs -= 1;
        if state.fails_syncs {
            return fail(libc::EIO);
        }
        state.trace.push(Event::SyncEnded { started, target });
        0
    }
}

impl State {
    fn file(&mut self, inode: u64, name: &str) -> FileId {
        if let Some(&file) = self.files.get(&inode) {
            return file;
        }
        let file = self.count;
        self.count += 1;
        self.files.insert(inode, file);
        self.trace.push(Event::Created { name: name.to_owned(), file });
        file
    }

    /// Files on which no call was made are part of a directory too.
    fn find_new(&mut self, dir: &Path) {
        let mut found: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
        found.sort_by_key(fs::DirEntry::file_name);
        for entry in found {
            let name = entry.file_name().to_string_lossy().into_owned();
            let facts = entry.metadata().ok().filter(fs::Metadata::is_file);
            if let Some(facts) = facts.filter(|_| is_recorded(&name)) {
                self.file(facts.ino(), &name);
            }
        }
    }
}

fn sizes(files: &BTreeMap<String, Vec<u8>>) -> Vec<(&str, usize)> {
    files.iter().map(|(name, bytes)| (name.as_str(), bytes.len())).collect()
}

fn fail(errno: i32) -> i64 {
    // SAFETY: the C library returns a valid pointer to the calling thread's errno.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// Recorded file or directory of a descriptor.
enum Place {
    Directory(Arc<Recording>),
    File { recording: Arc<Recording>, inode: u64, name: String },
}

/// Place of a descriptor; `None` if it is not recorded.
fn place_of(fd: i32) -> Option<Place> {
    if lock(&ACTIVE).is_empty() {
        return None;
    }
    let link = PathBuf::from(format!("/proc/self/fd/{fd}"));
    let path = fs::read_link(&link).ok()?;
    let recordings = lock(&ACTIVE);
    let of = |dir: &Path| recordings.iter().find(|recording| recording.dir == dir).cloned();
    if let Some(recording) = of(&path) {
        return Some(Place::Directory(recording));
    }
    let (recording, name) = (of(path.parent()?)?, path.file_name()?.to_str()?.to_owned());
    drop(recordings);
    let inode = fs::metadata(&link).ok()?.ino();
    is_recorded(&name).then_some(Place::File { recording, inode, name })
}

/// The recording of a path's directory, and the name in it.
fn place_of_path(path: &Path) -> Option<(Arc<Recording>, String)> {
    if lock(&ACTIVE).is_empty() {
        return None;
    }
    let (dir, name) = (path.parent()?.canonicalize().ok()?, path.file_name()?.to_str()?.to_owned());
    let recording = lock(&ACTIVE).iter().find(|recording| recording.dir == dir).cloned()?;
    is_recorded(&name).then_some((recording, name))
}

/// Returns the result of a system call as the C library does.
fn returned(result: libc::c_long) -> i64 {
    result
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: i32, bytes: *const u8, count: usize, offset: i64) -> isize {
    // SAFETY: the caller's arguments are passed on unchanged.
    let write = || returned(unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset) });
    let Some(Place::File { recording, inode, name }) = place_of(fd) else { return write() as isize };
    // SAFETY: the caller passes `count` readable bytes, or the kernel has refused them.
    let data = || unsafe { std::slice::from_raw_parts(bytes, count) }.to_vec();
    let mut written = 0;
    let act = || {
        written = write();
        written
    };
    let event = |file| {
        let data = data();
        Event::Written { file, offset: offset as u64, data }
    };
    let result = recording.call(inode, &name, act, event);
    assert!(result < 0 || result as usize == count, "a short write");
    result as isize
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: i32, size: i64) -> i32 {
    // SAFETY: the caller's arguments are passed on unchanged.
    let resize = || returned(unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) });
    let Some(Place::File { recording, inode, name }) = place_of(fd) else { return resize() as i32 };
    recording.call(inode, &name, resize, |file| Event::Resized { file, size: size as u64 }) as i32
}

fn sync(fd: i32, number: libc::c_long) -> i32 {
    match place_of(fd) {
        // SAFETY: the caller's argument is passed on unchanged.
        None => returned(unsafe { libc::syscall(number, fd) }) as i32,
        Some(Place::Directory(recording)) => recording.sync(None) as i32,
        Some(Place::File { recording, inode, name }) => recording.sync(Some((inode, &name))) as i32,
    }
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: i32) -> i32 {
    sync(fd, libc::SYS_fdatasync)
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: i32) -> i32 {
    sync(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const libc::c_char) -> i32 {
    // SAFETY: the caller's arguments are passed on unchanged.
    let remove = || returned(unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) });
    // SAFETY: the caller passes a string that ends with NUL.
    let name = unsafe { CStr::from_ptr(path) };
    match place_of_path(Path::new(OsStr::from_bytes(name.to_bytes()))) {
        None => remove() as i32,
        Some((recording, name)) => recording.remove(&name, remove) as i32,
    }
}
