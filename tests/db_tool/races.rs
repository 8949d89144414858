//! Races: root runs the tools in directories of another user, who meanwhile swaps entries for links, FIFOs
//! and directories. Nothing outside may be changed or read, and no verb may hang.
//!
//! Each normal run takes some rounds of each verb; `make soak` takes many (`SOAK_ROUNDS`).

use crate::support::{Home, command};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chown, mkfifo, setfsgid, setfsuid};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The other user.
const OTHER: u32 = 65534;

/// Rounds of each verb in a normal run.
const ROUNDS: usize = 10;

/// Time after which a verb counts as hanging.
const PATIENCE: Duration = Duration::from_secs(10);

/// Contents of root only, which must not appear in any file of the other user.
const SECRET: &str = "for root alone";

fn rounds() -> usize {
    std::env::var("SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

/// Replacement for an entry.
#[derive(Debug, Clone, Copy)]
enum Bait {
    /// A link to a file of root.
    File,
    /// A link to a directory of root.
    Directory,
    /// A link to a database of root.
    Database,
    Fifo,
    /// A directory of the other user.
    Own,
}

/// Attack that the other user repeats.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// Each new entry is exchanged once, after this delay.
    Appearing(Bait, Duration),
    /// A file is exchanged once, when SQLite has removed the log beside it.
    Finished(Bait),
    /// Each new entry is exchanged repeatedly.
    Flickering(Bait),
    /// An entry that existed before the tool started is exchanged repeatedly.
    Known(&'static str, Bait),
    /// The directory itself is exchanged repeatedly.
    Whole,
    /// An entry exists before the tool starts.
    Planted(&'static str, Bait),
}

/// A directory of root with canaries, beside one of the other user.
struct Field {
    home: Home,
    canaries: BTreeMap<PathBuf, String>,
    known: Vec<OsString>,
}

impl Field {
    fn new(fill: &dyn Fn(&Field)) -> Self {
        let home = Home::empty();
        let mut field = Self { home, canaries: BTreeMap::new(), known: Vec::new() };
        open_to(field.home.dir.path(), 0o711);
        for name in ["outside/dir", "theirs/field/bait-Own"] {
            std::fs::create_dir_all(field.home.at(name)).unwrap();
        }
        std::fs::write(field.home.at("outside/file"), SECRET).unwrap();
        std::fs::write(field.home.at("outside/dir/file"), SECRET).unwrap();
        std::fs::copy("tests/golden/cluster.db", field.home.at("outside/db")).unwrap();
        for name in ["file", "dir/file", "db"] {
            open_to(&field.home.at("outside").join(name), 0o600);
        }
        symlink(field.home.at("outside/file"), field.bait(Bait::File)).unwrap();
        symlink(field.home.at("outside/dir"), field.bait(Bait::Directory)).unwrap();
        symlink(field.home.at("outside/db"), field.bait(Bait::Database)).unwrap();
        mkfifo(&field.bait(Bait::Fifo), Mode::from_bits_truncate(0o666)).unwrap();
        symlink(field.home.at("outside/dir"), field.home.at("theirs/bait-whole")).unwrap();
        fill(&field);
        give_away(&field.home.at("theirs"));
        field.canaries = field.outside();
        field.known =
            std::fs::read_dir(field.work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        field
    }

    fn work(&self) -> PathBuf {
        self.home.at("theirs/field")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// The bait lies in the work directory, because the other user cannot move entries of root between
    /// directories.
    fn bait(&self, bait: Bait) -> PathBuf {
        self.at(&format!("bait-{bait:?}"))
    }

    /// State of all entries of root: owner, mode, links, time, contents.
    fn outside(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        describe(&self.home.at("outside"), &mut found);
        found
    }

    /// Actions of the other user until `stop` is set.
    fn attack(&self, attack: Attack, stop: &AtomicBool) {
        // Changes this thread only: for file access it becomes the other user.
        setfsgid(Gid::from_raw(OTHER));
        setfsuid(Uid::from_raw(OTHER));
        let mut done: Vec<OsString> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match attack {
                Attack::Known(name, bait) => exchange(&self.at(name), &self.bait(bait)),
                Attack::Whole => exchange(&self.work(), &self.home.at("theirs/bait-whole")),
                Attack::Planted(..) => std::thread::yield_now(),
                Attack::Appearing(bait, after) => self.exchange_once(bait, after, &mut done),
                Attack::Finished(bait) => self.exchange_finished(bait, &mut done),
                Attack::Flickering(bait) => {
                    self.appeared()
                        .iter()
                        .for_each(|name| exchange(&self.work().join(name), &self.bait(bait)));
                }
            }
        }
    }

    fn exchange_once(&self, bait: Bait, after: Duration, done: &mut Vec<OsString>) {
        let mut new = self.appeared();
        new.retain(|name| !done.contains(name));
        let seen = Instant::now();
        while !new.is_empty() && seen.elapsed() < after {
            std::hint::spin_loop();
        }
        for name in new {
            exchange(&self.work().join(&name), &self.bait(bait));
            done.push(name);
        }
    }

    fn exchange_finished(&self, bait: Bait, logs: &mut Vec<OsString>) {
        let now = self.appeared();
        let is_log = |name: &OsString| name.as_encoded_bytes().ends_with(b"-wal");
        for log in logs.iter().filter(|log| !now.contains(log)) {
            let file = log.to_string_lossy().trim_end_matches("-wal").to_owned();
            exchange(&self.at(&file), &self.bait(bait));
        }
        *logs = now.into_iter().filter(is_log).collect();
    }

    fn appeared(&self) -> Vec<OsString> {
        let Ok(entries) = std::fs::read_dir(self.work()) else { return Vec::new() };
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        names.filter(|name| !self.known.contains(name)).collect()
    }
}

fn open_to(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn exchange(one: &Path, other: &Path) {
    // Usually there is nothing to exchange.
    let _ = renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE);
}

/// Changes the owner of everything below to the other user, and makes it readable for all.
fn give_away(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    if metadata.is_symlink() {
        std::os::unix::fs::lchown(path, Some(OTHER), Some(OTHER)).unwrap();
        return;
    }
    if metadata.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
    chown(path, Some(Uid::from_raw(OTHER)), Some(Gid::from_raw(OTHER))).unwrap();
    open_to(path, if metadata.is_dir() { 0o755 } else { 0o644 });
}

fn describe(path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    let metadata = path.symlink_metadata().unwrap();
    let contents = match metadata.is_file() {
        true => std::fs::read(path).unwrap().escape_ascii().to_string(),
        false => String::new(),
    };
    let (mode, links) = (metadata.mode(), metadata.nlink());
    let (owner, time) = ((metadata.uid(), metadata.gid()), (metadata.mtime(), metadata.mtime_nsec()));
    found.insert(path.to_owned(), format!("mode {mode:o} of {owner:?}, {links} links, {time:?}: {contents}"));
    if metadata.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| describe(&entry.unwrap().path(), found));
    }
}

/// Returns false if it hangs.
fn ends(child: &mut Child) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// Paths whose owner, mode, contents or existence changed.
fn harmed(field: &Field) -> Vec<String> {
    let now = field.outside();
    let paths: BTreeSet<&PathBuf> = now.keys().chain(field.canaries.keys()).collect();
    let other = paths.into_iter().filter(|path| now.get(*path) != field.canaries.get(*path));
    other.map(|path| format!("{}: {:?}", path.display(), now.get(path))).collect()
}

/// Files of the other user with contents that only root can read.
fn leaked(field: &Field) -> Vec<String> {
    let mut found = BTreeMap::new();
    describe(&field.home.at("theirs"), &mut found);
    let leaks = found.iter().filter(|(_, described)| described.contains(SECRET));
    leaks.map(|(path, _)| format!("{} has a secret in it", path.display())).collect()
}

/// Runs a verb against each attack in turn.
fn race(fill: &dyn Fn(&Field), tool: &dyn Fn(&Field) -> Command, attacks: &[Attack]) {
    let mut faults = Vec::new();
    let rounds = rounds().max(attacks.len());
    for round in 0..rounds {
        let attack = attacks[round % attacks.len()];
        let field = Field::new(fill);
        if let Attack::Planted(name, bait) = attack {
            let _ = std::fs::remove_file(field.at(name));
            std::fs::rename(field.bait(bait), field.at(name)).unwrap();
        }
        let stop = AtomicBool::new(false);
        let has_ended = std::thread::scope(|scope| {
            scope.spawn(|| field.attack(attack, &stop));
            let mut tool = tool(&field);
            let mut child = tool.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let has_ended = ends(&mut child);
            stop.store(true, Ordering::Relaxed);
            has_ended
        });
        let mut found = harmed(&field);
        found.extend(leaked(&field));
        if !has_ended {
            found.push("it hangs".to_owned());
        }
        if !found.is_empty() {
            faults.push(format!("round {round}, {attack:?}: {}", found.join("; ")));
        }
    }
    let text = faults.iter().map(|fault| fault.chars().take(300).collect::<String>()).collect::<Vec<_>>();
    assert!(faults.is_empty(), "{} of {rounds} rounds:\n{}", faults.len(), text.join("\n"));
}

/// A database large enough that writing it takes some milliseconds.
fn large_database(field: &Field) {
    let home = Home::golden();
    home.sql(
        "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 399)
         INSERT INTO tree SELECT i, CASE WHEN i % 50 = 0 OR i < 150 THEN 0 ELSE i / 50 * 50 END, 28, 1, 5,
         CASE i % 50 WHEN 0 THEN 4 ELSE 8 END, 'entry' || i, CASE i % 50 WHEN 0 THEN NULL ELSE zeroblob(4000) END FROM n",
    );
    std::fs::copy(home.db(), field.at("config.db")).unwrap();
}

fn damaged_database(field: &Field) {
    large_database(field);
    let connection = rusqlite::Connection::open(field.at("config.db")).unwrap();
    connection.execute_batch("UPDATE tree SET name = '' WHERE inode = 9").unwrap();
}

/// SQLite itself reports a fault in it.
fn broken_database(field: &Field) {
    large_database(field);
    let connection = rusqlite::Connection::open(field.at("config.db")).unwrap();
    connection
        .execute_batch("PRAGMA ignore_check_constraints = ON; UPDATE tree SET mtime = 'x' WHERE inode = 9")
        .unwrap();
}

fn tree_of_files(field: &Field) {
    for number in 0..200 {
        let dir = field.at("tree").join(format!("dir{}", number % 10));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("file{number}")), "of the other user").unwrap();
    }
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// Attacks on a verb that writes into the directory.
const WRITING: &[Attack] = &[
    Attack::Appearing(Bait::File, micros(0)),
    Attack::Appearing(Bait::File, micros(2000)),
    Attack::Appearing(Bait::File, micros(5000)),
    Attack::Appearing(Bait::File, micros(9000)),
    Attack::Appearing(Bait::File, micros(14000)),
    Attack::Finished(Bait::File),
    Attack::Flickering(Bait::File),
    Attack::Flickering(Bait::Own),
    Attack::Known("config.db", Bait::File),
    Attack::Known("config.db", Bait::Database),
    Attack::Known("config.db", Bait::Fifo),
    Attack::Whole,
    Attack::Planted("config.db-wal", Bait::File),
    Attack::Planted("config.db-wal", Bait::Fifo),
    Attack::Planted("config.db-shm", Bait::Fifo),
    Attack::Planted(".pmxcfs.lockfile", Bait::Fifo),
];

fn verb(field: &Field, words: &[&str], files: &[&str]) -> Command {
    let mut command = command();
    command.args(words).args(files.iter().map(|name| field.at(name)));
    command
}

#[test]
fn compact_against_swapped_entries_harms_nothing() {
    race(&large_database, &|field| verb(field, &["compact"], &["config.db"]), WRITING);
}

#[test]
fn repair_against_swapped_entries_harms_nothing() {
    race(&damaged_database, &|field| verb(field, &["repair", "--apply"], &["config.db"]), WRITING);
}

#[test]
fn repair_of_broken_file_in_race_harms_nothing() {
    race(&broken_database, &|field| verb(field, &["repair", "--apply"], &["config.db"]), WRITING);
}

#[test]
fn export_against_swapped_entries_harms_nothing() {
    let attacks = [
        Attack::Appearing(Bait::Directory, micros(0)),
        Attack::Appearing(Bait::Directory, micros(300)),
        Attack::Appearing(Bait::Directory, micros(1000)),
        Attack::Appearing(Bait::Directory, micros(2000)),
        Attack::Flickering(Bait::Directory),
        Attack::Flickering(Bait::Own),
        Attack::Known("config.db", Bait::Fifo),
        Attack::Known("config.db", Bait::Database),
        Attack::Whole,
        Attack::Planted("tree", Bait::Directory),
    ];
    race(&large_database, &|field| verb(field, &["export"], &["config.db", "tree"]), &attacks);
}

#[test]
fn import_against_swapped_entries_harms_nothing() {
    let attacks = [
        Attack::Known("tree/dir5/file5", Bait::File),
        Attack::Known("tree/dir5/file5", Bait::Fifo),
        Attack::Known("tree/dir5", Bait::Directory),
        Attack::Known("tree", Bait::Directory),
        Attack::Planted("new.db", Bait::Fifo),
        Attack::Planted("new.db", Bait::Database),
        Attack::Planted("new.db-wal", Bait::File),
        Attack::Appearing(Bait::File, micros(0)),
        Attack::Appearing(Bait::File, micros(3000)),
        Attack::Flickering(Bait::Database),
        Attack::Whole,
    ];
    race(&tree_of_files, &|field| verb(field, &["import"], &["tree", "new.db"]), &attacks);
}

#[test]
fn create_against_swapped_entries_harms_nothing() {
    let attacks = [
        Attack::Known("files/file5", Bait::File),
        Attack::Known("files/file5", Bait::Fifo),
        Attack::Known("files", Bait::Directory),
        Attack::Planted("new.db", Bait::File),
        Attack::Planted("new.db", Bait::Database),
        Attack::Planted("new.db", Bait::Fifo),
        Attack::Planted("new.db-wal", Bait::File),
        Attack::Appearing(Bait::File, micros(0)),
        Attack::Appearing(Bait::Database, micros(1000)),
        Attack::Flickering(Bait::Database),
        Attack::Whole,
    ];
    let fill = |field: &Field| {
        std::fs::create_dir(field.at("files")).unwrap();
        (0..100).for_each(|number| std::fs::write(field.at(&format!("files/file{number}")), "x").unwrap());
    };
    let tool = |field: &Field| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_create_pmxcfs_db"));
        command.args([field.at("files"), field.at("new.db")]);
        command
    };
    race(&fill, &tool, &attacks);
}

/// A daemon that does not respond is a metric, too.
#[test]
fn metrics_against_swapped_entries_harm_nothing() {
    let attacks = [
        Attack::Planted("pmxcfs.prom", Bait::File),
        Attack::Planted("pmxcfs.prom", Bait::Fifo),
        Attack::Appearing(Bait::File, micros(0)),
        Attack::Appearing(Bait::File, micros(100)),
        Attack::Flickering(Bait::File),
        Attack::Whole,
    ];
    let tool = |field: &Field| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmxcfs-ctl"));
        command.args(["--service", "pve2-of-no-daemon", "metrics", "--output"]).arg(field.at("pmxcfs.prom"));
        command
    };
    race(&|_| {}, &tool, &attacks);
}

#[test]
fn reading_against_swapped_entries_harms_nothing() {
    let attacks = [
        Attack::Known("config.db", Bait::Fifo),
        Attack::Known("config.db", Bait::File),
        Attack::Planted("config.db-wal", Bait::Fifo),
        Attack::Planted("config.db-wal", Bait::File),
        Attack::Planted("config.db-shm", Bait::File),
        Attack::Planted("config.db-journal", Bait::Fifo),
        Attack::Whole,
        Attack::Planted("config.db", Bait::Fifo),
    ];
    for words in [&["check"][..], &["dump"], &["info"], &["diff", "tests/golden/cluster.db"]] {
        race(&large_database, &|field| verb(field, words, &["config.db"]), &attacks);
    }
}
