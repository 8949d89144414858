//! From the rows of the table to a tree. Every rule that rows must obey together is checked here;
//! a table that breaks one is refused with the inode at fault and what an admin can do about it.

use super::batch::{Dirty, VERSION_ROW_NAME};
use super::entry::{KIND_DIRECTORY, KIND_FILE};
use super::guests::Guests;
use super::locks::LockAges;
use super::{Entry, Inode, MemDb, Name, Node, PathVersions, ROOT, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Why a table cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("inode {inode} has no name{}", fix(*inode))]
    NoName { inode: Inode },
    #[error("inode {inode} has a name that no entry can have: '{}'{}", name.escape_ascii(), fix(*inode))]
    BadName { inode: Inode, name: Vec<u8> },
    #[error("directory inode {inode} contains data{}", fix_data(*inode))]
    DirectoryWithData { inode: Inode },
    #[error("inode {inode} has unknown type {kind}{}", fix(*inode))]
    UnknownType { inode: Inode, kind: u8 },
    #[error(
        "inode 0, the version row, has the unexpected name '{}'; \
         give it the name '__version__' (UPDATE tree SET name = '__version__' WHERE inode = 0)",
        name.escape_ascii()
    )]
    RootName { name: Vec<u8> },
    #[error("inode {inode} is there twice{}", fix(*inode))]
    DuplicateInode { inode: Inode },
    #[error("the parent {parent} of inode {inode} ('{name}') is a file{}", fix(*inode))]
    ParentIsFile { inode: Inode, parent: Inode, name: Name },
    #[error("the parent {parent} of inode {inode} ('{name}') does not exist{}", fix(*inode))]
    ParentMissing { inode: Inode, parent: Inode, name: Name },
    #[error("directory inode {inode} ('{name}') is inside itself{}", fix(*inode))]
    Loop { inode: Inode, name: Name },
    #[error(
        "inodes {first} and {second} have the same name '{name}' in directory inode {parent}; \
         decide which one is right and remove the other one{}",
        fix(*second)
    )]
    DuplicateName { parent: Inode, name: Name, first: Inode, second: Inode },
    #[error(
        "guest {vmid} has two configurations, inodes {first} and {second}; \
         decide which one is right and remove the other one{}",
        fix(*second)
    )]
    DuplicateGuest { vmid: u32, first: Inode, second: Inode },
}

fn fix(inode: Inode) -> String {
    format!("; to drop it, run on a copy of the database: DELETE FROM tree WHERE inode = {inode}")
}

fn fix_data(inode: Inode) -> String {
    format!(
        "; to drop the data, run on a copy of the database: UPDATE tree SET data = NULL WHERE inode = {inode}"
    )
}

impl MemDb {
    /// The tree that these rows store, in whatever order they come. The ages of its locks start
    /// `now`. Without a version row the database is at version 1.
    pub fn load(rows: impl IntoIterator<Item = Row>, now: Duration) -> Result<Self, LoadError> {
        Self::load_after(rows, now, &Guests::default(), PathVersions::default())
    }

    /// Replaces the whole tree by that of these rows, which are on disk already. Counters go on:
    /// all watched paths count as changed. On error nothing changes.
    pub fn reload(&mut self, rows: impl IntoIterator<Item = Row>, now: Duration) -> Result<(), LoadError> {
        let mut versions = self.versions.clone();
        versions.count_all();
        *self = Self::load_after(rows, now, &self.guests, versions)?;
        Ok(())
    }

    fn load_after(
        rows: impl IntoIterator<Item = Row>,
        now: Duration,
        guests_before: &Guests,
        versions: PathVersions,
    ) -> Result<Self, LoadError> {
        let mut db = Self { versions, dirty: Dirty::default(), ..Self::new() };
        let mut entries = Vec::new();
        let mut version_row = None;
        for row in rows {
            if row.inode == ROOT {
                version_row = Some(check_version_row(row)?);
            } else {
                entries.push((row.inode, entry_of(row)?));
            }
        }
        match version_row {
            Some(row) if row.version != 0 => db.root = Entry::root(row.version, row.writer, row.mtime),
            // As stock: the table was just created, its version row is still to be written.
            _ => db.dirty = Dirty::fresh(),
        }
        db.bytes = entries.iter().map(|(_, entry)| entry.size()).sum();
        entries.sort_by_key(|(inode, _)| *inode);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(LoadError::DuplicateInode { inode: pair[0].0 });
        }
        db.entries = entries.into_iter().collect();
        db.link()?;
        db.check_loops()?;
        db.guests = Guests::rebuild(&db, guests_before)?;
        db.locks = LockAges::rebuild(&db, now);
        Ok(db)
    }

    /// Lists every entry in its directory.
    fn link(&mut self) -> Result<(), LoadError> {
        let place = |entry: &Entry| (entry.parent, entry.name.clone(), entry.inode);
        let mut places: Vec<_> = self.entries.values().map(place).collect();
        places.sort();
        let mut places = places.into_iter().peekable();
        while let Some((parent, name, inode)) = places.next() {
            let mut children = vec![(name, inode)];
            while let Some((_, name, inode)) = places.next_if(|(next, _, _)| *next == parent) {
                children.push((name, inode));
            }
            self.link_directory(parent, children)?;
        }
        Ok(())
    }

    /// Lists `children`, sorted by name and at least one, in the directory `parent`.
    fn link_directory(&mut self, parent: Inode, children: Vec<(Name, Inode)>) -> Result<(), LoadError> {
        if let Some(pair) = children.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let (name, first, second) = (pair[0].0.clone(), pair[0].1, pair[1].1);
            return Err(LoadError::DuplicateName { parent, name, first, second });
        }
        let (name, inode) = children[0].clone();
        let dir = match parent {
            ROOT => Some(&mut self.root),
            _ => self.entries.get_mut(&parent),
        };
        let dir = dir.ok_or_else(|| LoadError::ParentMissing { inode, parent, name: name.clone() })?;
        let list = dir.children_mut().ok_or(LoadError::ParentIsFile { inode, parent, name })?;
        *list = BTreeMap::from_iter(children);
        Ok(())
    }

    /// Checks that every directory is below the root. All parents exist by now.
    fn check_loops(&self) -> Result<(), LoadError> {
        let mut rooted = BTreeSet::from([ROOT]);
        for dir in self.entries.values().filter(|entry| entry.is_dir()) {
            let mut climbed = BTreeSet::new();
            let mut at = dir;
            while !rooted.contains(&at.inode) {
                if !climbed.insert(at.inode) {
                    return Err(LoadError::Loop { inode: at.inode, name: at.name.clone() });
                }
                match self.get(at.parent) {
                    Some(parent) => at = parent,
                    None => break,
                }
            }
            rooted.append(&mut climbed);
        }
        Ok(())
    }
}

fn check_version_row(row: Row) -> Result<Row, LoadError> {
    check_kind(&row)?;
    if row.name.is_empty() {
        return Err(LoadError::NoName { inode: ROOT });
    }
    if *row.name != *VERSION_ROW_NAME {
        return Err(LoadError::RootName { name: row.name.to_vec() });
    }
    Ok(row)
}

fn entry_of(row: Row) -> Result<Entry, LoadError> {
    check_kind(&row)?;
    let Row { inode, parent, version, writer, mtime, kind, name, data } = row;
    if name.is_empty() {
        return Err(LoadError::NoName { inode });
    }
    let bad_name = || LoadError::BadName { inode, name: name.to_vec() };
    let name = Name::from_arc(name.clone()).ok_or_else(bad_name)?;
    let node = match kind {
        KIND_DIRECTORY => Node::directory(),
        _ => data.map_or_else(Node::file, Node::File),
    };
    Ok(Entry { inode, parent, version, writer, mtime, name, node, digest: None })
}

fn check_kind(row: &Row) -> Result<(), LoadError> {
    let Row { inode, kind, .. } = *row;
    match kind {
        KIND_FILE => Ok(()),
        KIND_DIRECTORY if row.data.as_ref().is_none_or(|data| data.is_empty()) => Ok(()),
        KIND_DIRECTORY => Err(LoadError::DirectoryWithData { inode }),
        _ => Err(LoadError::UnknownType { inode, kind }),
    }
}
