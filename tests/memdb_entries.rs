//! One rule for an entry from any source. An accepted entry can be stored, loaded, listed, sent and applied
//! elsewhere. A refused entry is refused everywhere with the same message.

use pmxcfs::cfs::{Cfs, NodeIdentity};
use pmxcfs::clock::Clock;
use pmxcfs::dcdb::wire::{PayloadError, decode_update, encode_update};
use pmxcfs::dfsm::Pieces;
use pmxcfs::engine::Engine;
use pmxcfs::fs::{CacheRules, Fs, ROOT_INO};
use pmxcfs::memdb::{
    Change, ChangeError, EntryError, Finding, Index, InstallError, KIND_DIRECTORY, KIND_FILE, Limits,
    LoadError, MAX_FILE_SIZE, MemDb, NAME_BYTES_MAX, NUMBER_MAX, ROOT, Row, Stamp, TreePath,
    VERSION_ROW_NAME, WriteAt, check_entry,
};
use pmxcfs::rrd::Sink;
use pmxcfs::store::{Reader, Store};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

fn number() -> impl Strategy<Value = u64> {
    let edges = [1, NUMBER_MAX, NUMBER_MAX + 1, i64::MAX as u64, 1 << 63, u64::MAX];
    prop_oneof![2 => 1..1000u64, 1 => prop::sample::select(edges.to_vec()), 1 => 1..u64::MAX]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd: [&[u8]; 9] = [b"", b".", b"..", b"...", b"a/b", b"/", b"a\0b", b"\xff\xfe", b"__version__"];
    let lengths = [1, 255, 256, 1024, 1025, NAME_BYTES_MAX - 1, NAME_BYTES_MAX, NAME_BYTES_MAX + 1, 70_000];
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..20),
        2 => prop::sample::select(odd.map(<[u8]>::to_vec).to_vec()),
        1 => (prop::sample::select(lengths.to_vec()), any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn data() -> impl Strategy<Value = Option<Arc<Vec<u8>>>> {
    let max = MAX_FILE_SIZE as usize;
    let lengths = prop::sample::select(vec![0, 0, 1, 5, max, max + 1]);
    lengths.prop_map(|len| (len > 0).then(|| Arc::new(vec![b'x'; len])))
}

prop_compose! {
    fn rows()(
        inode in number(), version in number(), writer in any::<u32>(), mtime in any::<u32>(), name in name(),
        kind in prop::sample::select(vec![KIND_FILE, KIND_FILE, KIND_DIRECTORY, 0, 10, 255]), data in data(),
    ) -> Row {
        Row { inode, parent: ROOT, version, writer, mtime, kind, name: name.into(), data }
    }
}

/// A table with this entry and a version at least as high.
fn table(row: &Row) -> Vec<Row> {
    let version = row.inode.max(row.version).min(NUMBER_MAX);
    let name = VERSION_ROW_NAME.into();
    let root =
        Row { inode: ROOT, parent: ROOT, version, writer: 1, mtime: 1, kind: KIND_FILE, name, data: None };
    vec![root, row.clone()]
}

/// The bytes of an update with this entry, valid or not.
fn update_bytes(row: &Row) -> Vec<u8> {
    let data: &[u8] = row.data.as_ref().map_or(&[], |data| data.as_slice());
    let mut bytes = Vec::new();
    for number in [row.parent, row.inode, row.version] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [row.writer, row.mtime, data.len() as u32, row.name.len() as u32 + 1] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.push(row.kind);
    [&bytes, &*row.name, b"\0", data].concat()
}

/// Result of each way into the tree for an entry.
fn verdicts(row: &Row) -> Vec<(&'static str, Result<(), EntryError>)> {
    let unexpected = |what: &str| panic!("{what}: {row:?}");
    let loaded = match MemDb::load(table(row), NOW) {
        Ok(_) => Ok(()),
        Err(LoadError::Entry(error)) => Err(error),
        Err(other) => unexpected(&other.to_string()),
    };
    // Other findings do not keep a tree from being loaded.
    let refused = |finding| match finding {
        Finding::Refused(error) => Some(error),
        _ => None,
    };
    let audited = match MemDb::audit(table(row)).findings.into_iter().find_map(refused) {
        None => Ok(()),
        Some(LoadError::Entry(error)) => Err(error),
        Some(other) => unexpected(&other.to_string()),
    };
    let received = match decode_update(&update_bytes(row)) {
        Ok(decoded) => {
            assert_eq!(decoded, *row);
            Ok(())
        }
        Err(PayloadError::Entry(error)) => Err(error),
        Err(other) => unexpected(&other.to_string()),
    };
    let index = Index { version: 1, last_inode: 0, writer: 0, mtime: 0, entries: Vec::new() };
    let applied = match MemDb::new().install_leader_tree(&index, table(row), NOW) {
        Err(InstallError::Load(LoadError::Entry(error))) => Err(error),
        // The index differs, which is checked after the rules.
        Err(_) => Ok(()),
        Ok(_) => unexpected("applied"),
    };
    vec![("load", loaded), ("audit", audited), ("receive", received), ("apply", applied)]
}

/// Changes by which a local caller creates this name and these contents.
fn check_local(row: &Row) {
    if row.name.contains(&b'/') || row.name.is_empty() {
        return;
    }
    let path = TreePath::new(&row.name);
    let mut tree = MemDb::new();
    let mut apply =
        |change| tree.apply(change, Stamp { writer: row.writer, time: row.mtime }, Limits::Enforced, NOW);
    let is_name =
        |error: &EntryError| matches!(error, EntryError::NameTooLong { .. } | EntryError::BadName { .. });
    let named = Row { data: None, kind: KIND_DIRECTORY, inode: 1, version: 1, ..row.clone() };
    let made = apply(Change::Create { path: path.clone() });
    match check_entry(&named) {
        Ok(()) => assert!(made.is_ok(), "{made:?}"),
        Err(EntryError::NameTooLong { len, .. }) => assert_eq!(made, Err(ChangeError::NameTooLong { len })),
        Err(error) => {
            assert!(is_name(&error), "{error}");
            assert_eq!(made, Err(ChangeError::BadName { path: path.clone() }));
        }
    }
    let data = row.data.as_ref().map_or_else(Vec::new, |data| data.to_vec());
    let is_too_large = data.len() as u64 > MAX_FILE_SIZE;
    let written = apply(Change::Write { path, at: WriteAt::Offset(0), data });
    assert_eq!(written.is_err(), made.is_err() || is_too_large, "{written:?}");
}

/// An accepted entry: stored, loaded, listed, sent, and applied elsewhere.
fn goes_everywhere(row: &Row) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.db");
    let mut first = MemDb::load(table(row), NOW).expect("passes");
    let mut store = Store::open(&path, 1).expect("a new database");
    let batch = pmxcfs::memdb::Batch { version: first.version(), deleted: Vec::new(), rows: table(row) };
    store.commit(&batch).expect("stored");
    store.close().expect("closed");
    let mut faults = Vec::new();
    Reader::open(&path).expect("opens").rows(|loose| faults.extend(loose.faults)).expect("read");
    assert_eq!(faults, []);

    let clock = Clock::start();
    let store = Store::open(&path, 1).expect("opens");
    let engine = Arc::new(Engine::open(store, clock).expect("loads"));
    assert!(engine.read().all_entries().eq(first.all_entries()));
    let node = NodeIdentity { name: "n".to_owned(), address: None, www_data_gid: 33 };
    let cfs = Arc::new(Cfs::new(engine, clock, node, Sink::discarding()));
    let fs = Fs::new(cfs, CacheRules::THIS_MOUNT);
    fs.set_name_bytes_max(NAME_BYTES_MAX);
    let handle = fs.opendir(ROOT_INO).expect("a directory");
    let mut is_listed = false;
    let list = |entry: pmxcfs::fs::DirEntry<'_>| {
        is_listed |= entry.name == &*row.name;
        false
    };
    fs.readdir(ROOT_INO, handle, 0, list).expect("listed");
    assert!(is_listed);
    fs.lookup(ROOT_INO, &row.name).expect("found");

    let mut received = Vec::new();
    for entry in first.all_entries() {
        let mut pieces = Pieces::default();
        encode_update(entry, &mut pieces);
        received.push(decode_update(&pieces.to_vec()).expect("received"));
    }
    let index = Index::decode(&first.index().encode()).expect("an index");
    let mut second = MemDb::new();
    second.install_leader_tree(&index, received, NOW).expect("applied elsewhere");
    assert!(second.all_entries().eq(first.all_entries()));
    assert_eq!((second.checksum(), second.verify()), (first.checksum(), Ok(())));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entry_passes_everywhere_or_nowhere(row in rows()) {
        let verdict = check_entry(&row);
        for (place, other) in verdicts(&row) {
            prop_assert_eq!(&other, &verdict, "{}", place);
        }
        check_local(&row);
        if verdict.is_ok() {
            goes_everywhere(&row);
        }
    }
}
