//! Loads on trees as large as a tree can be, in shapes that algorithms over the whole tree must bear: in memory,
//! through the mount, and by `pmxcfs-db`, both in this process and on disk.

use super::tree::each_us;
use crate::daemon::Side;
use crate::shapes::Shape;
use crate::table::{Goal, Unit};
use crate::{Bench, Failure, Outcome, database};
use pmxcfs::dbtool::{self, Exit, Output};
use pmxcfs::memdb::{Batch, MemDb};
use pmxcfs::store::Store;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Entries of a full tree, the root counted.
const ENTRIES: usize = 262_144;
const SHAPES: [Shape; 4] = [Shape::Flat, Shape::Deep, Shape::Wide, Shape::Bushy];
/// Shapes with files; paths of a chain are too long for the programs that read an export.
const SHAPES_EXPORTED: [Shape; 2] = [Shape::Wide, Shape::Bushy];

const LIST: &str = "scale: listing of a wide directory";
const RENAME: &str = "scale: rename in a wide directory";

/// Damage by SQL: a shape, its name in the table, and the statements.
const DAMAGES: [(Shape, &str, &str); 2] = [
    (Shape::Bushy, "names missing", "UPDATE tree SET name = '' WHERE inode % 7 = 5"),
    (Shape::Bushy, "duplicates", DUPLICATE_ALL),
];

/// Each entry gets a second one of its name. Both have the same parent.
const DUPLICATE_ALL: &str =
    "INSERT INTO tree SELECT inode + 1000000, parent, version, writer, mtime, type, name, data
    FROM tree WHERE inode != 0; UPDATE tree SET version = 2000000 WHERE inode = 0";

pub fn run(bench: &mut Bench) -> Outcome<()> {
    bench.at_most(5, in_memory);
    bench.at_most(5, mounted)?;
    bench.at_most(3, |bench| SHAPES.into_iter().try_for_each(|shape| check(bench, shape)))?;
    bench.at_most(3, |bench| DAMAGES.into_iter().try_for_each(|damage| repair(bench, damage)))?;
    bench.at_most(1, |bench| SHAPES_EXPORTED.into_iter().try_for_each(|shape| export(bench, shape)))
}

/// Milliseconds of `work`, and its result.
fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let started = Instant::now();
    let result = work()?;
    Ok((started.elapsed().as_secs_f64() * 1e3, result))
}

/// Adds a row of this build alone: `load` returns milliseconds.
fn row(bench: &mut Bench, what: &str, mut load: impl FnMut() -> Outcome<f64>) {
    if bench.wants(&[what]) {
        let samples = (0..bench.options.rounds).map(|_| load()).collect();
        bench.table.add(what, Unit::Milliseconds, Goal::Reference, vec![samples]);
    }
}

fn label(what: &str, shape: Shape) -> String {
    format!("scale: {what}, {}", format!("{shape:?}").to_lowercase())
}

fn in_memory(bench: &mut Bench) {
    let entries = bench.amount(ENTRIES) as u64;
    for shape in SHAPES {
        row(bench, &label("load", shape), || {
            let rows = shape.rows(entries);
            let (took, tree) = timed(|| Ok(MemDb::load(rows, Duration::ZERO)?))?;
            expect(tree.usage().entries, entries).map(|()| took)
        });
        row(bench, &label("install of the leader's tree", shape), || {
            let rows = shape.rows(entries);
            let index = MemDb::load(rows.iter().cloned(), Duration::ZERO)?.index();
            let mut tree = MemDb::new();
            let (took, _) = timed(|| Ok(tree.install_leader_tree(&index, rows, Duration::ZERO)?))?;
            expect(tree.usage().entries, entries).map(|()| took)
        });
    }
}

/// A fast wrong result must not win.
fn expect(found: u64, expected: u64) -> Outcome<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Failure::from(format!("{found} entries in place of {expected}"))),
    }
}

fn mounted(bench: &mut Bench) -> Outcome<()> {
    if !bench.wants(&[LIST, RENAME]) {
        return Ok(());
    }
    // The root and the directory are entries, too.
    let files = bench.amount(ENTRIES) - 2;
    // The stock daemon does not finish in minutes with so many files in one directory.
    let sides = std::mem::replace(&mut bench.sides, vec![Side::Ours]);
    let started = bench.start("scale", |path| database::with_wide_directory(path, files));
    bench.sides = sides;
    let daemons = started?;
    bench.row(LIST, Unit::Milliseconds, Goal::Reference, &daemons, |daemon, _| {
        let list = || timed(|| Ok(fs::read_dir("wide")?.count()));
        let (took, found) = daemon.inside(list)?;
        expect(found as u64, files as u64).map(|()| took)
    });
    let count = bench.amount(50);
    bench.row(RENAME, Unit::Microseconds, Goal::Reference, &daemons, |daemon, _| {
        daemon.inside(|| {
            each_us(count, |index| {
                let names = ["wide/000000", "wide/renamed"];
                Ok(fs::rename(names[index % 2], names[(index + 1) % 2])?)
            })
        })
    });
    Ok(())
}

/// A new database of `shape` at `path`.
fn store(path: &Path, shape: Shape, entries: u64) -> Outcome<()> {
    let mut store = Store::open(path, 1)?;
    store.commit(&Batch { version: entries, deleted: Vec::new(), rows: shape.rows(entries) })?;
    Ok(store.close()?)
}

/// Runs a verb of `pmxcfs-db` in this process. Returns milliseconds.
fn tool(words: &[&str], files: &[&Path]) -> Outcome<f64> {
    let (mut results, mut complaints) = (Vec::new(), Vec::new());
    let all = ["pmxcfs-db"].iter().chain(words).map(OsStr::new);
    let all = all.chain(files.iter().map(|file| file.as_os_str())).map(OsString::from);
    let (took, exit) =
        timed(|| Ok(dbtool::run(all, &mut Output::new(&mut results, &mut complaints, false))))?;
    match exit {
        Exit::Good => Ok(took),
        _ => Err(format!("{words:?}: {}", String::from_utf8_lossy(&complaints)).into()),
    }
}

fn check(bench: &mut Bench, shape: Shape) -> Outcome<()> {
    let what = label("pmxcfs-db check", shape);
    if !bench.wants(&[&what]) {
        return Ok(());
    }
    let dir = tempfile::tempdir_in(&bench.dir)?;
    let database = dir.path().join("config.db");
    store(&database, shape, bench.amount(ENTRIES) as u64)?;
    row(bench, &what, || tool(&["check"], &[&database]));
    Ok(())
}

fn repair(bench: &mut Bench, (shape, damage, sql): (Shape, &str, &str)) -> Outcome<()> {
    let what = label(&format!("pmxcfs-db repair, {damage}"), shape);
    if !bench.wants(&[&what]) {
        return Ok(());
    }
    let entries = bench.amount(ENTRIES) as u64;
    let parent = bench.dir.clone();
    row(bench, &what, || {
        // A repair leaves a copy: each round has a directory of its own.
        let dir = tempfile::tempdir_in(&parent)?;
        let database = dir.path().join("config.db");
        store(&database, shape, entries)?;
        let connection = rusqlite::Connection::open(&database)?;
        connection.execute_batch(sql)?;
        connection.close().map_err(|(_, error)| error)?;
        let took = tool(&["repair", "--apply"], &[&database])?;
        tool(&["check"], &[&database]).map(|_| took)
    });
    Ok(())
}

fn export(bench: &mut Bench, shape: Shape) -> Outcome<()> {
    let (exported, imported) = (label("pmxcfs-db export", shape), label("pmxcfs-db import", shape));
    if !bench.wants(&[&exported, &imported]) {
        return Ok(());
    }
    let dir = tempfile::tempdir_in(&bench.dir)?;
    let [database, tree, again] = ["config.db", "tree", "again.db"].map(|name| dir.path().join(name));
    store(&database, shape, bench.amount(ENTRIES) as u64)?;
    let (mut exports, mut imports) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        exports.push(tool(&["export"], &[&database, &tree])?);
        imports.push(tool(&["import"], &[&tree, &again])?);
        tool(&["check"], &[&again])?;
        fs::remove_dir_all(&tree)?;
        fs::remove_file(&again)?;
    }
    bench.table.add(&exported, Unit::Milliseconds, Goal::Reference, vec![Ok(exports)]);
    bench.table.add(&imported, Unit::Milliseconds, Goal::Reference, vec![Ok(imports)]);
    Ok(())
}
