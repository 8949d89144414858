//! One random edit of one row, as an admin makes it with sqlite3. Either the daemon refuses the database with a line
//! that names the remedy, or every kind of change works and survives a restart. `pmxcfs-db check` decides likewise.
//! DBTOOL_SEED repeats one round, DBTOOL_ROUNDS sets their number.

use crate::random::{Random, damage, good_database, many_rounds, tool};
use pmxcfs::clock::Clock;
use pmxcfs::dbtool::Exit;
use pmxcfs::engine::{Engine, EngineError};
use pmxcfs::memdb::{Change, ChangeError, Entry, Inode, NUMBER_MAX, ROOT, TreePath, WriteAt};
use pmxcfs::store::Store;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

/// Directory for new entries.
const NEW: &str = "new-after-the-edit";

/// Versions that a round uses at most.
const CHANGES_MAX: u64 = 1000;

/// Rules with which the daemon loads a database.
const HARMLESS: [&str; 2] = ["few-versions-left", "guests-in-file"];

fn open(path: &Path) -> Result<Engine, String> {
    let store = Store::open(path, 1).map_err(|error| error.to_string())?;
    Engine::open(store, Clock::start()).map_err(|error| error.to_string())
}

/// Rules that the database breaks, as `check` lists them.
fn broken_rules(path: &Path) -> BTreeSet<String> {
    let (exit, printed) = tool(&[OsStr::new("check"), OsStr::new("--json"), path.as_os_str()]);
    assert_ne!(exit, Exit::Failed, "{printed}");
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let faults = report["faults"].as_array().unwrap();
    faults.iter().map(|fault| fault["rule"].as_str().unwrap().to_owned()).collect()
}

/// Entries of a tree, and its version.
fn entries(db: &Engine) -> (u64, Vec<Entry>) {
    let tree = db.read();
    tree.verify().unwrap();
    (tree.version(), tree.all_entries().cloned().collect())
}

/// An engine on an edited database. Every change must work, except that the versions may be used up.
struct Scene<'a> {
    db: Engine,
    /// The edit, for messages.
    story: &'a str,
}

impl Scene<'_> {
    fn change(&self, change: Change) {
        let shown = format!("{change:?}");
        let may_end = self.db.read().version() > NUMBER_MAX - CHANGES_MAX;
        match self.db.submit_wait(change) {
            Ok(_) => {}
            Err(EngineError::Change(ChangeError::LastVersion { .. })) if may_end => {}
            Err(error) => panic!("{}: {shown}: {error}", self.story),
        }
    }

    fn path_of(&self, inode: Inode) -> TreePath {
        self.db.read().path_of(inode).expect("it is in the tree")
    }

    fn all_changes_of_a_file(&self, path: &TreePath) {
        let path = path.clone();
        self.change(Change::Write { path: path.clone(), at: WriteAt::Offset(3), data: b"new".to_vec() });
        self.change(Change::Truncate { path: path.clone(), size: 4 });
        self.change(Change::SetMtime { path, mtime: 1_800_000_000 });
    }

    /// Makes entries, uses and removes some of them.
    fn new_entries_in(&self, dir: &TreePath) {
        let at = |name: &str| dir.join(name.as_bytes());
        let (file, moved, lower, kept) = (at("edit-new"), at("edit-moved"), at("edit-dir"), at("edit-kept"));
        self.change(Change::Create { path: kept });
        self.change(Change::Create { path: file.clone() });
        self.all_changes_of_a_file(&file);
        self.change(Change::Rename { from: file, to: moved.clone() });
        self.change(Change::Delete { path: moved });
        self.change(Change::Mkdir { path: lower.clone() });
        self.change(Change::Delete { path: lower });
    }

    /// Changes each entry that the edited database has.
    fn old_entries(&self) {
        let old: Vec<Entry> = self.db.read().all_entries().cloned().collect();
        for entry in &old {
            let path = self.path_of(entry.inode);
            if entry.is_dir() {
                self.new_entries_in(&path);
                continue;
            }
            self.all_changes_of_a_file(&path);
            let to = TreePath::from(format!("{NEW}/{}", entry.inode).as_str());
            self.change(Change::Rename { from: path.clone(), to: to.clone() });
            match entry.inode % 2 {
                0 => self.change(Change::Rename { from: to, to: path }),
                _ => self.change(Change::Delete { path: to }),
            }
        }
    }

    fn works(self, file: &Path) {
        self.change(Change::Mkdir { path: NEW.into() });
        self.old_entries();
        self.db.sync_wait().unwrap_or_else(|error| panic!("{}: {error}", self.story));
        let before = entries(&self.db);
        assert!(before.1.iter().any(|entry| entry.inode != ROOT), "{}", self.story);
        self.db.close().unwrap();
        let again = open(file).unwrap_or_else(|error| panic!("{}: loaded only once: {error}", self.story));
        assert!(entries(&again) == before, "{}: another tree after a restart", self.story);
        again.close().unwrap();
    }
}

fn round(seed: u64) {
    let mut random = Random(seed);
    let home = good_database(&mut random);
    let connection = Connection::open(home.db()).unwrap();
    connection.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    let edit = damage(&connection, &mut random);
    drop(connection);
    let (file, story) = (home.db(), format!("DBTOOL_SEED={seed}: {edit}"));
    let rules = broken_rules(&file);
    let is_refused = rules.iter().any(|rule| !HARMLESS.contains(&rule.as_str()));
    match open(&file) {
        Err(line) => {
            assert!(is_refused, "{story}: 'check' finds only {rules:?}, but: {line}");
            assert!(line.contains("pmxcfs-db"), "{story}: {line}");
        }
        Ok(_) if is_refused => panic!("{story}: it was loaded, but breaks {rules:?}"),
        Ok(db) => Scene { db, story: &story }.works(&file),
    }
}

#[test]
fn edited_row_is_refused_or_all_changes_work() {
    many_rounds(30, round);
}
