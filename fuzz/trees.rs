//! Trees from hostile rows, of a database's table and of a leader's updates: two ways to the same tree must agree, and
//! a tree that was accepted can be stored, sent and applied elsewhere.

use super::sample_tree;
use pmxcfs::dcdb::wire::{decode_updates, encode_update};
use pmxcfs::dfsm::Pieces;
use pmxcfs::memdb::{
    Change, Entry, Finding, Index, IndexEntry, Inode, InstallError, Limits, MAX_FILE_SIZE, MemDb,
    NAME_BYTES_MAX, NUMBER_MAX, ROOT, Row, VERSION_ROW_NAME,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

/// Numbers at the limits, which stand for the highest values of a byte.
const LARGE: [u64; 8] = [
    u32::MAX as u64,
    NUMBER_MAX - 1,
    NUMBER_MAX,
    NUMBER_MAX + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];
const LARGE_FIRST: u8 = u8::MAX - 7;

/// Lengths of names and contents that stand for one byte above the limit.
const TOO_LONG: u8 = u8::MAX;

/// Rows of a database: each is inode, parent, version (a byte each, see [`LARGE`]), kind, name length, name, data
/// length, data. A load either fails with the first finding of the audit, or returns the tree of the audit.
pub fn rows(data: &[u8]) {
    let mut input = data.iter().copied();
    let rows: Vec<Row> = std::iter::from_fn(|| read_row(&mut input)).collect();
    let mut audit = MemDb::audit(rows.iter().cloned());
    let refused = audit.findings.iter().find_map(|finding| match finding {
        Finding::Refused(error) => Some(error),
        Finding::FewVersionsLeft { .. } | Finding::GuestsInFile { .. } => None,
    });
    match MemDb::load(rows, NOW) {
        Err(error) => assert_eq!(refused, Some(&error), "the audit finds what loading ends with first"),
        Ok(mut tree) => {
            assert_eq!(refused, None, "the audit refuses a table that can be loaded");
            assert_eq!(audit.tree.index(), tree.index());
            assert_travels(&mut tree);
        }
    }
}

fn read_row(input: &mut impl Iterator<Item = u8>) -> Option<Row> {
    let mut number = || {
        let byte = input.next()?;
        Some(byte.checked_sub(LARGE_FIRST).map_or(byte.into(), |at| LARGE[usize::from(at)]))
    };
    let (inode, parent, version) = (number()?, number()?, number()?);
    let kind = input.next()?;
    let name = match input.next()? {
        TOO_LONG => vec![b'n'; NAME_BYTES_MAX + 1],
        length => input.by_ref().take(usize::from(length) % 16).collect(),
    };
    let data: Vec<u8> = match input.next()? {
        TOO_LONG => vec![0; MAX_FILE_SIZE as usize + 1],
        length => input.by_ref().take(length.into()).collect(),
    };
    let data = (!data.is_empty()).then(|| Arc::new(data));
    Some(Row { inode, parent, version, writer: 0, mtime: 0, kind, name: name.into(), data })
}

fn write_row([inode, parent, version, kind]: [u8; 4], name: &[u8], data: &[u8]) -> Vec<u8> {
    let lengths = [name.len() as u8, data.len() as u8];
    [&[inode, parent, version, kind, lengths[0]], name, &[lengths[1]], data].concat()
}

pub fn rows_seeds() -> Vec<Vec<u8>> {
    let small = |row: Row| {
        let data = row.data.map(|data| data.to_vec()).unwrap_or_default();
        let numbers = [row.inode as u8, row.parent as u8, row.version as u8, row.kind];
        write_row(numbers, &row.name, &data)
    };
    let sample: Vec<u8> = sample_tree().snapshot_rows().flat_map(small).collect();
    let highest = LARGE_FIRST + 2;
    let root = |version| write_row([0, 0, version, 8], VERSION_ROW_NAME, b"");
    let large = [
        root(highest),
        write_row([highest - 1, 0, 7, 4], b"d", b""),
        write_row([7, highest - 1, highest, 8], b"f", b"x"),
    ];
    let broken = [
        write_row([1, 1, 1, 4], b"loop", b""),
        [write_row([1, 0, 1, 8], b"same", b""), write_row([2, 0, 1, 8], b"same", b"")].concat(),
        [write_row([1, 0, 1, 8], b"file", b""), write_row([2, 1, 1, 8], b"below", b"")].concat(),
        write_row([1, highest + 1, 1, 8], b"lost", b""),
        write_row([highest + 1, 0, 1, 8], b"inode", b""),
        write_row([1, 0, highest + 1, 8], b"version", b""),
        vec![1, 0, 1, 8, TOO_LONG, 0],
        vec![1, 0, 1, 8, 1, b'a', TOO_LONG],
    ];
    let alone = broken.iter().map(|row| [root(highest), row.clone()].concat());
    [sample, large.concat(), [root(highest), broken.concat()].concat()].into_iter().chain(alone).collect()
}

/// Panics unless the tree holds, and can be stored and loaded, and sent and applied.
fn assert_travels(tree: &mut MemDb) {
    tree.verify().expect("the invariants hold");
    // Without the code that checks entries: a limit that it lacks is lacking everywhere.
    let is_within = |entry: &Entry| {
        let (number, size) = (entry.inode.max(entry.version), entry.size());
        number <= NUMBER_MAX && size <= MAX_FILE_SIZE && entry.name.len() <= NAME_BYTES_MAX
    };
    assert!(tree.all_entries().all(is_within), "an entry above the limits was accepted");
    let index = tree.index();
    assert_eq!(Index::decode(&index.encode()).as_ref(), Ok(&index));
    let mut loaded = MemDb::load(tree.snapshot_rows(), NOW).expect("what was accepted can be loaded again");
    assert_eq!(loaded.index(), index);
    let mut sent = Vec::new();
    decode_updates(&payload_of(tree.all_entries()), |row| sent.push(row)).expect("what is sent is accepted");
    let mut applied = MemDb::new();
    applied.install_leader_tree(&index, sent, NOW).expect("what was accepted can be applied elsewhere");
    assert_eq!(applied.index(), index);
}

fn payload_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let mut pieces = Pieces::default();
    entries.for_each(|entry| encode_update(entry, &mut pieces));
    pieces.to_vec()
}

/// A leader's update: a number of inodes that the leader lacks, these inodes, and the payload of the message. A node
/// applies it exactly if the leader's table can be loaded, and has the leader's tree then; else its own stays.
pub fn updates(data: &[u8]) {
    let Some((&dropped, rest)) = data.split_first() else { return };
    let Some((dropped, payload)) = rest.split_at_checked(dropped.into()) else { return };
    let mut rows = Vec::new();
    if decode_updates(payload, |row| rows.push(row)).is_err() {
        return;
    }
    let mut node = sample_tree();
    let own = node.index();
    let table = table_of_leader(&node, dropped, &rows);
    let version = table.get(&ROOT).map_or(0, |row| row.version);
    match MemDb::load(table.values().cloned(), NOW) {
        Ok(mut leader) if version > 0 => {
            let index = leader.index();
            node.install_leader_tree(&index, rows, NOW).expect("a table that can be loaded is applied");
            assert_eq!(node.index(), index);
            assert_travels(&mut node);
        }
        _ => {
            let entries = table.keys().map(|&inode| IndexEntry { inode, digest: [0; 32] });
            let entries: Vec<IndexEntry> = entries.filter(|entry| entry.inode != ROOT).collect();
            let last_inode = entries.last().map_or(0, |entry| entry.inode);
            let index = Index { version, last_inode, entries, ..own.clone() };
            let refused = node.install_leader_tree(&index, rows, NOW);
            let is_right = matches!(refused, Err(InstallError::Load(_) | InstallError::NoVersion));
            assert!(is_right, "a table that cannot be loaded: {refused:?}");
            assert_eq!(node.index(), own, "a refused update changes nothing");
            node.verify().expect("the invariants hold");
        }
    }
}

/// The rows that a leader has if `node` lacks only these rows, and the leader lacks what was dropped.
fn table_of_leader(node: &MemDb, dropped: &[u8], rows: &[Row]) -> BTreeMap<Inode, Row> {
    let kept = node.snapshot_rows().filter(|row| row.inode == ROOT || !is_dropped(dropped, row.inode));
    let mut table: BTreeMap<Inode, Row> = kept.map(|row| (row.inode, row)).collect();
    for row in rows {
        let name = if row.inode == ROOT { VERSION_ROW_NAME.into() } else { Arc::clone(&row.name) };
        table.insert(row.inode, Row { name, ..row.clone() });
    }
    table
}

fn is_dropped(dropped: &[u8], inode: Inode) -> bool {
    dropped.iter().any(|&byte| Inode::from(byte) == inode)
}

pub fn updates_seeds() -> Vec<Vec<u8>> {
    let behind = sample_tree();
    let mut leader = behind.clone();
    let config = "nodes/n1/lxc/100.conf";
    for change in [
        Change::Mkdir { path: "nodes/n2".into() },
        Change::Mkdir { path: "nodes/n2/lxc".into() },
        Change::Rename { from: config.into(), to: "nodes/n2/lxc/100.conf".into() },
    ] {
        leader.apply(change, super::STAMP, Limits::Enforced, NOW).expect("a good change");
    }
    let is_new = |entry: &&Entry| entry.inode == ROOT || entry.version > behind.version();
    let lacked = payload_of(leader.all_entries().filter(is_new));
    let root = payload_of(leader.all_entries().filter(|entry| entry.inode == ROOT));
    let gone = behind.resolve(config.as_bytes()).map_or(0, |entry| entry.inode as u8);
    vec![
        [vec![0], payload_of(behind.all_entries())].concat(),
        [vec![0], lacked].concat(),
        [vec![1, gone], root].concat(),
    ]
}
