//! Random damage to the rows of a good database, and what a repair makes of it. The seed is printed;
//! DBTOOL_SEED runs one again, DBTOOL_ROUNDS more of them.

use crate::support::{Home, rows};
use pmxcfs::dbtool::{self, Exit, Output};
use pmxcfs::memdb::{
    Change, Entry, KIND_DIRECTORY, Limits, MAX_FILE_SIZE, MemDb, ROOT, Row, Stamp, TreePath, WriteAt,
};
use pmxcfs::store::{Reader, Store};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs the tool without a process of its own, which takes longer than all it does.
pub fn tool(arguments: &[&OsStr]) -> (Exit, String) {
    let (mut results, mut complaints) = (Vec::new(), Vec::new());
    let all = [&[OsStr::new("pmxcfs-db")], arguments].concat();
    let mut output = Output::new(&mut results, &mut complaints, false);
    let exit = dbtool::run(all.into_iter().map(OsString::from), &mut output);
    results.extend(complaints);
    (exit, String::from_utf8(results).unwrap())
}

/// A database like that of a cluster, with contents of which no two are the same.
fn good_tree(random: &mut Random) -> MemDb {
    let mut tree = MemDb::new();
    let mut apply = |change| {
        let stamp = Stamp { writer: 1, time: 1_700_000_000 };
        // Some are refused, as the same guest twice; that is as good.
        let _ = tree.apply(change, stamp, Limits::Enforced, Duration::ZERO);
    };
    let mut dirs = vec![String::new()];
    for dir in ["nodes", "priv", "priv/lock", "priv/acme", "ha", "firewall", "nodes/n1", "nodes/n2"] {
        dirs.push(dir.to_owned());
    }
    for node in ["nodes/n1", "nodes/n2"] {
        dirs.extend(["qemu-server", "lxc", "priv"].map(|dir| format!("{node}/{dir}")));
    }
    for dir in &dirs {
        apply(Change::Mkdir { path: dir.as_str().into() });
    }
    for number in 0..10 + random.below(40) {
        let dir = random.one_of(&dirs).clone();
        let name =
            if random.below(2) == 0 { format!("{}.conf", 100 + number) } else { format!("file{number}") };
        let path = TreePath::from(format!("{dir}/{name}").as_str());
        apply(Change::Create { path: path.clone() });
        if random.below(5) > 0 {
            let data = format!("contents {number}\n").repeat(1 + random.below(200)).into_bytes();
            apply(Change::Write { path, at: WriteAt::Offset(0), data });
        }
    }
    tree
}

/// A closed database with such a tree.
pub fn good_database(random: &mut Random) -> Home {
    let home = Home::empty();
    let mut store = Store::open(&home.db(), 1).unwrap();
    store.commit(&good_tree(random).take_batch().unwrap()).unwrap();
    store.close().unwrap();
    home
}

/// Numbers at the ends of ranges.
const ODD: [i64; 11] = [
    -1,
    0,
    1,
    77,
    4_294_967_296,
    i64::MAX,
    i64::MIN,
    4_611_686_018_427_387_903,
    4_611_686_018_427_387_904,
    4_611_686_018_427_387_905,
    3_000_000_000_000_000_000,
];

/// Names of each kind, as SQL.
const NAMES: [&str; 16] = [
    "''",
    "'.'",
    "'..'",
    "'a/b'",
    "'nodes'",
    "'priv'",
    "'lost+found'",
    "x'ff00'",
    "5",
    "NULL",
    "'new'",
    "'__version__'",
    "CAST(x'610062' AS TEXT)",
    "CAST(x'ff' AS TEXT)",
    "printf('%.4095c', 'x')",
    "printf('%.4096c', 'x')",
];

/// Longest name that the file system of an export takes.
const HOST_NAME_MAX: usize = 255;

/// Values of each type of SQLite.
const VALUES: [&str; 10] =
    ["NULL", "''", "'text'", "x''", "x'00ff'", "1.5", "-1.0e300", "' 7'", "'7'", "CAST('a/b' AS BLOB)"];

const COLUMNS: [&str; 8] = ["inode", "parent", "version", "writer", "mtime", "type", "name", "data"];

/// Something that no daemon does to a row.
pub fn damage(connection: &Connection, random: &mut Random) -> String {
    let mut inodes = connection.prepare("SELECT inode FROM tree").unwrap();
    let inodes: Vec<i64> = inodes.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let Some(inode) = inodes.get(random.below(inodes.len().max(1))).copied() else { return String::new() };
    let other = *random.one_of(&inodes);
    let odd = *random.one_of(&ODD);
    let name = *random.one_of(&NAMES);
    let set = |what: String| format!("UPDATE OR IGNORE tree SET {what} WHERE inode = {inode}");
    let column = *random.one_of(&["parent", "version", "writer", "mtime", "type", "name", "data"]);
    let value = *random.one_of(&VALUES);
    let sql = match random.below(16) {
        0 => format!("DELETE FROM tree WHERE inode = {inode}"),
        1 => set(format!("parent = {other}")),
        2 => set(format!("parent = {odd}")),
        3 => set(format!("name = {name}")),
        4 => set(format!("name = (SELECT name FROM tree WHERE inode = {other})")),
        5 => set(format!("type = {}", random.one_of(&[4, 8, 0, 5, 264, -4]))),
        6 => set(format!("version = {odd}")),
        7 => set(format!("inode = {odd}")),
        8 => set(format!("mtime = {odd}, writer = {odd}")),
        9 => set(format!("mtime = {}", random.one_of(&["'text'", "1.5", "x'00'"]))),
        10 => set("data = CAST('odd ' || inode AS BLOB)".to_owned()),
        11 => set(format!("{column} = {value}")),
        12 => set(format!("{column} = (SELECT {} FROM tree WHERE inode = {other})", random.one_of(&COLUMNS))),
        13 => {
            let version = if random.below(2) == 0 { odd } else { random.below(60) as i64 };
            format!("UPDATE OR IGNORE tree SET version = {version} WHERE inode = 0")
        }
        14 => set(format!("data = zeroblob({})", random.one_of(&[1, 1_048_576, 1_048_577, 3_000_000]))),
        _ => format!(
            "INSERT OR IGNORE INTO tree SELECT 500 + {inode}, parent, version + {}, writer, mtime, type, name, \
             CAST('copy of ' || inode AS BLOB) FROM tree WHERE inode = {inode}",
            random.below(9)
        ),
    };
    connection.execute_batch(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    sql
}

/// All contents in a database, however it is damaged, in pieces of the largest size of a file; not those of the
/// version row, which has none.
fn contents(path: &Path) -> BTreeMap<Vec<u8>, usize> {
    let mut found = BTreeMap::new();
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT data FROM tree WHERE inode != 0").unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        if let ValueRef::Blob(data) | ValueRef::Text(data) = row.get_ref(0).unwrap() {
            for piece in data.chunks(MAX_FILE_SIZE as usize) {
                *found.entry(piece.to_vec()).or_default() += 1;
            }
        }
    }
    found
}

/// All rows. Empty contents are the same as none.
fn raw_rows(path: &Path) -> Vec<Vec<Value>> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT inode, parent, writer, mtime, type, CAST(name AS BLOB), NULLIF(CAST(data AS BLOB), x'')
             FROM tree",
        )
        .unwrap();
    let rows = statement.query_map([], |row| (0..7).map(|column| row.get(column)).collect()).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The inodes that a repair says something about.
fn told(printed: &str) -> BTreeSet<i64> {
    let json: serde_json::Value =
        serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let steps = json["steps"].as_array().unwrap();
    steps.iter().map(|step| step["inode"].as_i64().unwrap()).collect()
}

fn round(seed: u64) {
    let mut random = Random(seed);
    let home = good_database(&mut random);
    let connection = Connection::open(home.db()).unwrap();
    connection.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    let damages: Vec<String> = (0..=random.below(6)).map(|_| damage(&connection, &mut random)).collect();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let story = format!("DBTOOL_SEED={seed}: {damages:#?}");

    let (file, json) = (home.db(), OsStr::new("--json"));
    let (before, raw_before) = (contents(&file), raw_rows(&file));
    let bytes = std::fs::read(&file).unwrap();
    let is_clean = tool(&[OsStr::new("check"), file.as_os_str()]).0 == Exit::Good;
    let (shown, _) = tool(&[OsStr::new("repair"), file.as_os_str()]);
    assert_eq!(shown == Exit::Good, is_clean, "{story}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "{story}");

    let (done, said) = tool(&[OsStr::new("repair"), OsStr::new("--apply"), json, file.as_os_str()]);
    assert_eq!(done, Exit::Good, "{story}: {said}");
    let (checked, report) = tool(&[OsStr::new("check"), file.as_os_str()]);
    assert_eq!(checked, Exit::Good, "{story}: {said} {report}");
    let rows: Vec<Row> = rows(&file);
    let tree = MemDb::load(rows, Duration::ZERO).unwrap_or_else(|error| panic!("{story}: {error}"));
    tree.verify().unwrap();
    let fits = |entry: &Entry| entry.name.len() <= HOST_NAME_MAX;
    if seed % 4 == 0 && tree.all_entries().all(fits) {
        there_and_back(&home, &story);
    }
    let after = contents(&file);
    for (data, number) in &before {
        let kept = after.get(data).copied().unwrap_or_default();
        assert!(kept >= *number, "{story}: lost '{}': {said}", String::from_utf8_lossy(data));
    }
    // What nothing is said about is as it was, but for what it is in if that has another number now.
    let (told, raw_after) = (told(&said), raw_rows(&file));
    let is_told =
        |row: &[Value]| matches!(row[0], Value::Integer(inode) if told.contains(&inode) || inode <= 0);
    let stays = |row: &[Value]| matches!(row[1], Value::Integer(parent) if (0..1 << 61).contains(&parent));
    for row in raw_before.iter().filter(|row| !is_told(row) && stays(row)) {
        let Value::Integer(inode) = row[0] else { continue };
        if inode < 1 << 61 {
            assert!(raw_after.contains(row), "{story}: {row:?} changed: {said}");
        }
    }
}

/// An export of a database, imported again, is the same tree.
fn there_and_back(home: &Home, story: &str) {
    let (file, tree, again) = (home.db(), home.at("tree"), home.at("again.db"));
    let (exported, said) = tool(&[OsStr::new("export"), file.as_os_str(), tree.as_os_str()]);
    assert_eq!(exported, Exit::Good, "{story}: {said}");
    let (imported, said) = tool(&[OsStr::new("import"), tree.as_os_str(), again.as_os_str()]);
    assert_eq!(imported, Exit::Good, "{story}: {said}");
    let compare = ["diff", "--tree"].map(OsStr::new);
    let (compared, said) = tool(&[&compare[..], &[file.as_os_str(), again.as_os_str()]].concat());
    assert_eq!(compared, Exit::Good, "{story}: {said}");
    let times = |path: &Path| {
        let tree = MemDb::load(rows(path), Duration::ZERO).unwrap();
        let time = |entry: &Entry| (tree.path_of(entry.inode), entry.mtime);
        tree.all_entries().filter(|entry| entry.inode != ROOT).map(time).collect::<BTreeSet<_>>()
    };
    assert_eq!(times(&file), times(&again), "{story}");
}

pub fn many_rounds(rounds: u64, round: impl Fn(u64)) {
    if let Some(seed) = number_from("DBTOOL_SEED") {
        return round(seed);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = now.as_nanos() as u64;
    println!("from DBTOOL_SEED={seed} on");
    for number in 0..number_from("DBTOOL_ROUNDS").unwrap_or(rounds) {
        round(seed.wrapping_add(number));
    }
}

#[test]
fn whatever_happens_to_the_rows() {
    many_rounds(60, round);
}

/// Damage to the bytes of the file: all verbs come to an end, and a repair makes it sound or does nothing.
fn damaged_bytes(seed: u64) {
    let mut random = Random(seed);
    let home = good_database(&mut random);
    let mut bytes = std::fs::read(home.db()).unwrap();
    for _ in 0..=random.below(3) {
        // Not often where the file says what it is.
        let at = random.below(bytes.len()).max(random.below(200));
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.iter_mut().skip(at).take(random.below(3000)).for_each(|byte| *byte = 0),
            2 => bytes.iter_mut().skip(at / 1024 * 1024).take(1024).for_each(|byte| *byte = 0xff),
            _ => bytes.truncate(at.max(bytes.len() / 2)),
        }
    }
    let (file, story) = (home.db(), format!("DBTOOL_SEED={seed}"));
    std::fs::write(&file, &bytes).unwrap();
    for verb in ["check", "dump", "info", "repair"] {
        let (_, said) = tool(&[OsStr::new(verb), file.as_os_str()]);
        assert!(!said.is_empty(), "{story}");
    }
    assert!(std::fs::read(&file).unwrap() == bytes, "{story}: changed by reading");
    assert_eq!(home.bytes().len(), 1, "{story}: {:?}", home.bytes().keys());
    let (done, said) = tool(&[OsStr::new("repair"), OsStr::new("--apply"), file.as_os_str()]);
    match done {
        Exit::Failed => {
            assert!(std::fs::read(&file).unwrap() == bytes, "{story}: {said}");
            assert!(!file.with_file_name("config.db-wal").exists(), "{story}");
        }
        _ => {
            let (checked, report) = tool(&[OsStr::new("check"), file.as_os_str()]);
            assert_eq!((done, checked), (Exit::Good, Exit::Good), "{story}: {said} {report}");
            MemDb::load(rows(&file), Duration::ZERO).unwrap_or_else(|error| panic!("{story}: {error}"));
        }
    }
}

#[test]
fn whatever_happens_to_the_bytes() {
    many_rounds(25, damaged_bytes);
}

/// The reader and the daemon's own way of loading agree on what is sound.
#[test]
fn the_reader_sees_what_the_daemon_sees() {
    let home = Home::golden();
    let expected = rows(&home.db());
    let mut found = Vec::new();
    Reader::open(&home.db()).unwrap().rows(|loose| found.push(loose.row)).unwrap();
    assert_eq!(found, expected);
    assert!(found.iter().any(|row| row.kind == KIND_DIRECTORY));
}
