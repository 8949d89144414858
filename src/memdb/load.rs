//! From the rows of the table to a tree. Every rule that rows must obey together is checked here, and
//! only here: a table that breaks one is refused with the inode at fault, or, for [`super::audit`],
//! looked through to its end, past all that breaks one.

use super::batch::{Dirty, VERSION_ROW_NAME};
use super::entry::KIND_DIRECTORY;
use super::guests::Guests;
use super::locks::LockAges;
use super::rules::entry_errors;
use super::{Entry, EntryError, Inode, MemDb, NUMBER_MAX, Name, Node, PathVersions, ROOT, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Why a table cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error("inode 0, the version row, has no name")]
    NoRootName,
    #[error("inode 0, the version row, has the unexpected name '{}' instead of '__version__'", name.escape_ascii())]
    RootName { name: Vec<u8> },
    #[error("inode {inode} is there twice")]
    DuplicateInode { inode: Inode },
    #[error("the parent {parent} of inode {inode} ('{name}') is a file")]
    ParentIsFile { inode: Inode, parent: Inode, name: Name },
    #[error("the parent {parent} of inode {inode} ('{name}') does not exist")]
    ParentMissing { inode: Inode, parent: Inode, name: Name },
    #[error("directory inode {inode} ('{name}') is inside itself")]
    Loop { inode: Inode, name: Name },
    #[error("inodes {first} and {second} have the same name '{name}' in directory inode {parent}")]
    DuplicateName { parent: Inode, name: Name, first: Inode, second: Inode },
    #[error("guest {vmid} has two configurations, inodes {first} and {second}")]
    DuplicateGuest { vmid: u32, first: Inode, second: Inode },
    #[error("there are {entries} entries, but the database has no version")]
    NoVersion { entries: usize },
    #[error("inode {inode} is above the database's version {version}: a new entry would take its number")]
    InodeAhead { inode: Inode, version: u64 },
    #[error("inode {inode} has version {changed}, which is above the database's version {version}")]
    VersionAhead { inode: Inode, changed: u64, version: u64 },
}

/// What becomes of a fault that is found: the error itself, to end there; or nothing, to go on without
/// what is at fault, as far as that is possible.
pub(super) type Report<'a> = &'a mut dyn FnMut(LoadError) -> Result<(), LoadError>;

impl MemDb {
    /// The tree that these rows store, in whatever order they come. The ages of its locks start
    /// `now`. Without a version row the database is at version 1.
    pub fn load(rows: impl IntoIterator<Item = Row>, now: Duration) -> Result<Self, LoadError> {
        Self::load_after(rows, now, &Guests::default(), PathVersions::default(), &mut Err)
    }

    /// Replaces the whole tree by that of these rows, which are on disk already. Counters go on:
    /// all watched paths count as changed. On error nothing changes.
    pub fn reload(&mut self, rows: impl IntoIterator<Item = Row>, now: Duration) -> Result<(), LoadError> {
        let mut versions = self.versions.clone();
        versions.count_all();
        *self = Self::load_after(rows, now, &self.guests, versions, &mut Err)?;
        Ok(())
    }

    pub(super) fn load_after(
        rows: impl IntoIterator<Item = Row>,
        now: Duration,
        guests_before: &Guests,
        versions: PathVersions,
        report: Report<'_>,
    ) -> Result<Self, LoadError> {
        let mut entries = Vec::new();
        let mut version_row = None;
        for row in rows {
            if row.inode == ROOT {
                version_row = Some(check_version_row(row, report)?);
            } else {
                entries.push((row.inode, entry_of(row, report)?));
            }
        }
        // As stock: without a version the table was just created, its version row is to be written.
        let version_row = version_row.filter(|row| row.version != 0);
        let (root, dirty) = match &version_row {
            Some(row) => (Entry::root(row.version, row.writer, row.mtime), Dirty::default()),
            None => (Self::new().root, Dirty::fresh()),
        };
        entries.sort_by_key(|(inode, _)| *inode);
        for pair in entries.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            report(LoadError::DuplicateInode { inode: pair[0].0 })?;
        }
        let (entries, has_version) = (entries.into_iter().collect(), version_row.is_some());
        let db = Self { dirty, ..Self::assemble(root, entries, now, guests_before, versions, report)? };
        match db.entries.len() {
            0 => {}
            _ if has_version => db.check_versions(report)?,
            entries => report(LoadError::NoVersion { entries })?,
        }
        Ok(db)
    }

    /// The tree of these entries, none of which is listed in a directory yet.
    pub(super) fn assemble(
        root: Entry,
        entries: BTreeMap<Inode, Entry>,
        now: Duration,
        guests_before: &Guests,
        versions: PathVersions,
        report: Report<'_>,
    ) -> Result<Self, LoadError> {
        let bytes = entries.values().map(Entry::size).sum();
        let mut db = Self { root, entries, bytes, versions, dirty: Dirty::default(), ..Self::new() };
        db.link(report)?;
        db.check_loops(report)?;
        db.mark_private();
        db.guests = Guests::rebuild(&db, guests_before, report)?;
        db.locks = LockAges::rebuild(&db, now);
        Ok(db)
    }

    /// Checks that the database's version is at least that of every entry. Otherwise a new entry would get
    /// the inode of another one, or a change would reuse a version.
    pub(super) fn check_versions(&self, report: Report<'_>) -> Result<(), LoadError> {
        let version = self.version();
        // Numbers out of range were already reported.
        let is_ahead = |number: u64| number > version && number <= NUMBER_MAX;
        for entry in self.entries.values() {
            let (inode, changed) = (entry.inode, entry.version);
            if is_ahead(inode) {
                report(LoadError::InodeAhead { inode, version })?;
            } else if is_ahead(changed) {
                report(LoadError::VersionAhead { inode, changed, version })?;
            }
        }
        Ok(())
    }

    /// Lists every entry in its directory.
    fn link(&mut self, report: Report<'_>) -> Result<(), LoadError> {
        let place = |entry: &Entry| (entry.parent, entry.name.clone(), entry.inode);
        let mut places: Vec<_> = self.entries.values().map(place).collect();
        places.sort();
        let mut places = places.into_iter().peekable();
        while let Some((parent, name, inode)) = places.next() {
            let mut children = vec![(name, inode)];
            while let Some((_, name, inode)) = places.next_if(|(next, _, _)| *next == parent) {
                children.push((name, inode));
            }
            self.link_directory(parent, children, report)?;
        }
        Ok(())
    }

    /// Lists `children`, sorted by name, in the directory `parent`.
    fn link_directory(
        &mut self,
        parent: Inode,
        children: Vec<(Name, Inode)>,
        report: Report<'_>,
    ) -> Result<(), LoadError> {
        for pair in children.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let (name, first, second) = (pair[0].0.clone(), pair[0].1, pair[1].1);
            report(LoadError::DuplicateName { parent, name, first, second })?;
        }
        let dir = match parent {
            ROOT => Some(&mut self.root),
            _ => self.entries.get_mut(&parent),
        };
        let exists = dir.is_some();
        if let Some(list) = dir.and_then(Entry::children_mut) {
            *list = BTreeMap::from_iter(children);
            return Ok(());
        }
        children.into_iter().try_for_each(|(name, inode)| {
            report(match exists {
                true => LoadError::ParentIsFile { inode, parent, name },
                false => LoadError::ParentMissing { inode, parent, name },
            })
        })
    }

    /// Sets for each entry below the root whether its path is private.
    fn mark_private(&mut self) {
        let mut todo = vec![ROOT];
        while let Some(inode) = todo.pop() {
            let Some(dir) = self.get(inode) else { continue };
            let children: Vec<_> = dir.children().into_iter().flatten().collect();
            let marks: Vec<_> =
                children.into_iter().map(|(name, child)| (child, self.is_private_in(dir, name))).collect();
            for (child, private) in marks {
                let Some(entry) = self.entries.get_mut(&child) else { continue };
                entry.private = private;
                if entry.is_filled_dir() {
                    todo.push(child);
                }
            }
        }
    }

    /// Whether an entry of this name in `dir` is private: `priv`, `nodes/X/priv`, or below one of them.
    pub(super) fn is_private_in(&self, dir: &Entry, name: &[u8]) -> bool {
        let is_nodes = |top: &Entry| top.parent == ROOT && *top.name == *b"nodes";
        dir.private || name == b"priv" && (dir.inode == ROOT || self.get(dir.parent).is_some_and(is_nodes))
    }

    /// Checks that every directory is below the root. Parents that are missing were reported by now.
    fn check_loops(&self, report: Report<'_>) -> Result<(), LoadError> {
        let mut rooted = BTreeSet::from([ROOT]);
        for dir in self.entries.values().filter(|entry| entry.is_dir()) {
            let mut climbed = BTreeSet::new();
            let mut at = dir;
            while !rooted.contains(&at.inode) {
                if !climbed.insert(at.inode) {
                    report(LoadError::Loop { inode: at.inode, name: at.name.clone() })?;
                    break;
                }
                match self.get(at.parent) {
                    Some(parent) => at = parent,
                    None => break,
                }
            }
            // `append` would rebuild the whole set.
            rooted.extend(climbed);
        }
        Ok(())
    }
}

pub(super) fn check_version_row(row: Row, report: Report<'_>) -> Result<Row, LoadError> {
    check_row(&row, report)?;
    if row.name.is_empty() {
        report(LoadError::NoRootName)?;
    } else if *row.name != *VERSION_ROW_NAME {
        report(LoadError::RootName { name: row.name.to_vec() })?;
    }
    Ok(row)
}

/// The entry that a row stores. With a fault that is only noted it is what comes nearest.
pub(super) fn entry_of(row: Row, report: Report<'_>) -> Result<Entry, LoadError> {
    check_row(&row, report)?;
    let Row { inode, parent, version, writer, mtime, kind, name, data } = row;
    let name = Name::from_arc(name).unwrap_or_else(|| Name::stand_in(inode));
    let node = match kind {
        KIND_DIRECTORY => Node::directory(),
        _ => data.map_or_else(Node::file, Node::File),
    };
    Ok(Entry { inode, parent, version, writer, mtime, name, node, private: true, digest: None })
}

fn check_row(row: &Row, report: Report<'_>) -> Result<(), LoadError> {
    entry_errors(row).try_for_each(|error| report(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{KIND_FILE, MAX_FILE_SIZE, NAME_BYTES_MAX};
    use std::sync::Arc;

    fn row(inode: Inode, parent: Inode, kind: u8, name: &[u8]) -> Row {
        let name = if inode == ROOT { VERSION_ROW_NAME } else { name };
        Row { inode, parent, version: 9, writer: 0, mtime: 1, kind, name: name.into(), data: None }
    }

    /// Loads these rows, after adding a version row if there is none.
    fn load(rows: impl IntoIterator<Item = Row>) -> Result<MemDb, LoadError> {
        let mut rows: Vec<Row> = rows.into_iter().collect();
        if rows.iter().all(|row| row.inode != ROOT) {
            rows.push(row(ROOT, ROOT, KIND_FILE, b""));
        }
        let db = MemDb::load(rows, Duration::ZERO)?;
        db.verify().expect("what loads is sound");
        Ok(db)
    }

    /// Refused in any order of rows.
    fn refused(rows: &[Row]) -> LoadError {
        let forwards = load(rows.iter().cloned()).expect_err("must not load");
        assert_eq!(load(rows.iter().rev().cloned()).as_ref().err(), Some(&forwards));
        forwards
    }

    fn name(bytes: &[u8]) -> Name {
        Name::new(bytes).expect("valid")
    }

    #[test]
    fn nothing_is_a_fresh_database() {
        let mut db = MemDb::load([], Duration::ZERO).expect("loads");
        assert_eq!(db.version(), 1);
        let batch = db.take_batch().expect("the version row is still to be written");
        assert_eq!((batch.version, batch.deleted.len(), batch.rows.len()), (1, 0, 1));
        assert_eq!(*batch.rows[0].name, *VERSION_ROW_NAME);
    }

    #[test]
    fn parents_may_come_later() {
        let rows = [row(0, 0, 8, b""), row(5, 7, 8, b"file"), row(7, 9, 4, b"b"), row(9, 0, 4, b"a")];
        let db = load(rows).expect("loads");
        assert_eq!(db.resolve(b"a/b/file").map(|entry| entry.inode), Some(5));
        assert!(db.is_clean());
    }

    #[test]
    fn either_type_of_version_row() {
        for kind in [KIND_DIRECTORY, KIND_FILE] {
            let db = load([row(0, 0, kind, b"")]).expect("loads");
            assert_eq!(db.version(), 9);
            assert_eq!(db.snapshot_rows().map(|row| row.kind).collect::<Vec<_>>(), [KIND_FILE]);
        }
    }

    fn refused_entry(row: Row) -> EntryError {
        match refused(&[row]) {
            LoadError::Entry(error) => error,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn rows_that_are_wrong_alone() {
        let entry = |name: &[u8]| row(1, 0, 8, name);
        assert_eq!(refused_entry(entry(b"")), EntryError::NoName { inode: 1 });
        let bad = EntryError::BadName { inode: 1, name: b"a/b".to_vec() };
        assert_eq!(refused_entry(entry(b"a/b")), bad);
        load([entry(&[b'n'; NAME_BYTES_MAX])]).expect("the longest name");
        let long = EntryError::NameTooLong { inode: 1, len: NAME_BYTES_MAX + 1 };
        assert_eq!(refused_entry(entry(&[b'n'; NAME_BYTES_MAX + 1])), long);
        assert_eq!(refused_entry(row(1, 0, 1, b"a")), EntryError::UnknownType { inode: 1, kind: 1 });
        assert_eq!(refused_entry(row(0, 0, 1, b"")), EntryError::UnknownType { inode: 0, kind: 1 });
        let with =
            |kind, len: u64| Row { data: Some(Arc::new(vec![1; len as usize])), ..row(1, 0, kind, b"a") };
        assert_eq!(refused_entry(with(4, 1)), EntryError::DirectoryWithData { inode: 1 });
        load([with(4, 0)]).expect("no bytes are no data");
        load([with(8, MAX_FILE_SIZE)]).expect("the largest file");
        let large = EntryError::TooLarge { inode: 1, size: MAX_FILE_SIZE + 1 };
        assert_eq!(refused_entry(with(8, MAX_FILE_SIZE + 1)), large);
        let inode = NUMBER_MAX + 1;
        assert_eq!(refused_entry(row(inode, 0, 8, b"a")), EntryError::InodeRange { inode });
        for version in [NUMBER_MAX + 1, u64::MAX] {
            let late = Row { version, ..entry(b"a") };
            assert_eq!(refused_entry(late), EntryError::VersionRange { inode: 1, version });
            let root = Row { version, ..row(0, 0, 8, b"") };
            assert_eq!(refused_entry(root), EntryError::VersionRange { inode: 0, version });
        }
        let root = Row { name: b"root"[..].into(), ..row(0, 0, 8, b"") };
        assert_eq!(refused(&[root]), LoadError::RootName { name: b"root".to_vec() });
        let root = Row { name: b""[..].into(), ..row(0, 0, 8, b"") };
        assert_eq!(refused(&[root]), LoadError::NoRootName);
    }

    #[test]
    fn version_behind_its_entries_is_refused() {
        let version = |version| Row { version, ..row(0, 0, 8, b"") };
        let ahead = LoadError::VersionAhead { inode: 5, changed: 9, version: 8 };
        assert_eq!(refused(&[version(8), row(5, 0, 8, b"a")]), ahead);
        let ahead = LoadError::InodeAhead { inode: 9, version: 8 };
        assert_eq!(refused(&[version(8), row(9, 0, 8, b"a")]), ahead);
        for rows in [&[row(5, 0, 8, b"a")][..], &[version(0), row(5, 0, 8, b"a")]] {
            let error = MemDb::load(rows.iter().cloned(), Duration::ZERO).err();
            assert_eq!(error, Some(LoadError::NoVersion { entries: 1 }));
        }
    }

    #[test]
    fn rows_that_are_wrong_together() {
        let (inode, parent) = (2, 1);
        let error = LoadError::ParentIsFile { inode, parent, name: name(b"b") };
        assert_eq!(refused(&[row(1, 0, 8, b"a"), row(2, 1, 8, b"b")]), error);
        let error = LoadError::ParentMissing { inode, parent, name: name(b"b") };
        assert_eq!(refused(&[row(2, 1, 8, b"b")]), error);
        let error = LoadError::DuplicateName { parent: 0, name: name(b"a"), first: 1, second: 2 };
        assert_eq!(refused(&[row(1, 0, 8, b"a"), row(2, 0, 4, b"a")]), error);
        assert_eq!(
            refused(&[row(1, 0, 8, b"a"), row(1, 0, 8, b"b")]),
            LoadError::DuplicateInode { inode: 1 }
        );
        let error = LoadError::Loop { inode: 1, name: name(b"a") };
        assert_eq!(refused(&[row(1, 2, 4, b"a"), row(2, 1, 4, b"b")]), error);
        assert_eq!(refused(&[row(1, 1, 4, b"a")]), error);
    }

    #[test]
    fn guests_are_listed_once() {
        let dirs =
            [row(1, 0, 4, b"nodes"), row(2, 1, 4, b"n"), row(3, 2, 4, b"lxc"), row(4, 2, 4, b"qemu-server")];
        let with = |more: &[Row]| [&dirs[..], more].concat();
        let db =
            load(with(&[row(5, 3, 8, b"100.conf"), row(6, 4, 4, b"100.conf")])).expect("one is a directory");
        assert_eq!(
            db.guests().iter().map(|(vmid, guest)| (vmid, guest.config)).collect::<Vec<_>>(),
            [(100, 5)]
        );
        let twice = with(&[row(5, 3, 8, b"100.conf"), row(6, 4, 8, b"100.conf")]);
        assert_eq!(refused(&twice), LoadError::DuplicateGuest { vmid: 100, first: 6, second: 5 });
        load([row(1, 0, 8, b"nodes")]).expect("a file instead of the directory has no guests");
    }

    #[test]
    fn messages_name_the_inodes() {
        let message = refused(&[row(1, 0, 8, b"a"), row(2, 0, 4, b"a")]).to_string();
        assert_eq!(message, "inodes 1 and 2 have the same name 'a' in directory inode 0");
    }
}
