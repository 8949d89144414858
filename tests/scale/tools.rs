//! `pmxcfs-db` on databases of extreme shapes, sound and damaged, in this process.

use crate::growth::{assert_near_linear_from, cost};
use crate::shapes::Shape;
use pmxcfs::dbtool::{self, Exit, Output};
use pmxcfs::memdb::Batch;
use pmxcfs::store::Store;
use rusqlite::Connection;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Entries of the small tree: an export creates a file for each.
const SMALL: u64 = 512;

/// A directory whose contents may be too deep for the standard library to remove.
struct Home(tempfile::TempDir);

impl Home {
    /// Creates it with a database.
    fn new(shape: Shape, entries: u64) -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        let mut store = Store::open(&home.db(), 1).expect("a new database");
        let rows = shape.rows(entries);
        store.commit(&Batch { version: entries, deleted: Vec::new(), rows }).expect("stored");
        store.close().expect("closed");
        home
    }

    fn db(&self) -> PathBuf {
        self.at("config.db")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sql(&self, sql: &str) {
        let connection = Connection::open(self.db()).expect("opens");
        connection.execute_batch(sql).expect(sql);
        let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        moved.expect("no other user");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let tree = self.at("tree");
        let removed = Command::new("rm").arg("-rf").arg(tree).status().expect("rm runs");
        assert!(removed.success());
    }
}

/// Runs a verb. Returns its exit code and its error output.
fn run(verb: &[&str], files: &[&Path]) -> (Exit, String) {
    let (mut results, mut complaints) = (Vec::new(), Vec::new());
    let words = ["pmxcfs-db"].iter().chain(verb).map(OsStr::new);
    let all = words.chain(files.iter().map(|file| file.as_os_str())).map(OsString::from);
    let exit = dbtool::run(all, &mut Output::new(&mut results, &mut complaints, false));
    (exit, String::from_utf8_lossy(&complaints).into_owned())
}

fn tool(verb: &[&str], files: &[&Path], expected: Exit) {
    let (exit, complaints) = run(verb, files);
    assert_eq!(exit, expected, "{verb:?}: {complaints}");
}

#[test]
fn reading_verbs_are_near_linear() {
    for shape in Shape::ALL {
        assert_near_linear_from(SMALL, &format!("check, dump and diff {shape:?}"), |entries| {
            let home = Home::new(shape, entries);
            let db = home.db();
            let (took, ()) = cost(|| {
                tool(&["check"], &[&db], Exit::Good);
                tool(&["dump"], &[&db], Exit::Good);
                tool(&["diff"], &[&db, &db], Exit::Good);
            });
            took
        });
    }
}

#[test]
fn export_and_import_are_near_linear() {
    for shape in Shape::ALL {
        assert_near_linear_from(SMALL, &format!("export and import {shape:?}"), |entries| {
            let home = Home::new(shape, entries);
            let (db, tree, again) = (home.db(), home.at("tree"), home.at("again.db"));
            let (took, ()) = cost(|| {
                tool(&["export"], &[&db, &tree], Exit::Good);
                tool(&["import"], &[&tree, &again], Exit::Good);
            });
            took
        });
    }
}

#[test]
fn repair_is_near_linear() {
    let damages = [
        ("names", "UPDATE tree SET name = '' WHERE inode % 7 = 5"),
        ("parents", "DELETE FROM tree WHERE inode % 7 = 5"),
        (
            "twins",
            "INSERT INTO tree SELECT inode + 1000000, parent, version, writer, mtime, type, name, data FROM tree
             WHERE inode != 0; UPDATE tree SET version = 2000000 WHERE inode = 0",
        ),
    ];
    for shape in Shape::ALL {
        for (what, sql) in damages {
            assert_near_linear_from(SMALL, &format!("repair {shape:?} {what}"), |entries| {
                let home = Home::new(shape, entries);
                home.sql(sql);
                let db = home.db();
                let (took, ()) = cost(|| {
                    // Without parents in the shape there is no damage.
                    run(&["check"], &[&db]);
                    tool(&["repair", "--apply"], &[&db], Exit::Good);
                });
                tool(&["check"], &[&db], Exit::Good);
                took
            });
        }
    }
}
