//! One fix for each finding. Which of two entries stays is decided by the last change, as the daemon served
//! what was changed last; what type an entry has, by what is in it.

use super::plan::Plan;
use crate::memdb::{
    EntryError, Finding, Inode, KIND_DIRECTORY, KIND_FILE, LoadError, MAX_FILE_SIZE, NAME_BYTES_MAX, ROOT,
};
use std::sync::Arc;

impl Plan {
    /// Findings of a lower order are fixed first, as others may come of them.
    pub(super) fn order(&self, finding: &Finding) -> u32 {
        let Finding::Refused(error) = finding else { return 4 };
        match error {
            LoadError::Entry(
                EntryError::UnknownType { .. }
                | EntryError::InodeRange { .. }
                | EntryError::VersionRange { .. },
            )
            | LoadError::NoRootName
            | LoadError::RootName { .. }
            | LoadError::NoVersion { .. }
            | LoadError::InodeAhead { .. }
            | LoadError::VersionAhead { .. }
            | LoadError::DuplicateInode { .. } => 0,
            LoadError::ParentIsFile { parent, .. } if self.is_empty_file(*parent) => 0,
            LoadError::Entry(
                EntryError::NoName { .. }
                | EntryError::NameTooLong { .. }
                | EntryError::BadName { .. }
                | EntryError::DirectoryWithData { .. }
                | EntryError::TooLarge { .. },
            )
            | LoadError::ParentIsFile { .. } => 1,
            LoadError::ParentMissing { .. } | LoadError::Loop { .. } => 2,
            LoadError::DuplicateName { .. } => 3,
            LoadError::DuplicateGuest { .. } => 4,
        }
    }

    pub(super) fn fix(&mut self, finding: &Finding) {
        match finding {
            Finding::Refused(error) => self.fix_refused(error),
            // An earlier step lowered the numbers.
            Finding::FewVersionsLeft { .. } => {}
            Finding::GuestsInFile { inode } => {
                self.lose(*inode, "a stock daemon starts only with a directory of guests in its place");
            }
        }
    }

    fn fix_refused(&mut self, error: &LoadError) {
        match *error {
            LoadError::Entry(ref error) => self.fix_entry(error),
            LoadError::ParentIsFile { inode, parent, .. } => self.leave_file(inode, parent),
            LoadError::ParentMissing { inode, parent, .. } => self.adopt(inode, parent),
            LoadError::Loop { inode, .. } => self.break_loop(inode),
            LoadError::DuplicateName { first, second, .. } => self.part_namesakes(first, second),
            LoadError::DuplicateGuest { vmid, first, second } => self.part_guests(vmid, first, second),
            // The version row was made right before, and rows are kept by their number.
            LoadError::NoRootName
            | LoadError::RootName { .. }
            | LoadError::DuplicateInode { .. }
            | LoadError::NoVersion { .. }
            | LoadError::InodeAhead { .. }
            | LoadError::VersionAhead { .. } => {}
        }
    }

    fn fix_entry(&mut self, error: &EntryError) {
        match *error {
            EntryError::NoName { inode } => self.lose(inode, "it has no name"),
            EntryError::NameTooLong { inode, len } => {
                self.lose(
                    inode,
                    &format!("a name of {len} bytes is longer than any can be ({NAME_BYTES_MAX})"),
                );
            }
            EntryError::BadName { inode, .. } => self.lose(inode, "no entry can have this name"),
            EntryError::UnknownType { inode, kind } => self.retype(inode, kind),
            EntryError::DirectoryWithData { inode } => self.divide(inode),
            EntryError::TooLarge { inode, .. } => self.cut(inode),
            // An earlier step put all numbers in range.
            EntryError::InodeRange { .. } | EntryError::VersionRange { .. } => {}
        }
    }

    fn is_empty_file(&self, inode: Inode) -> bool {
        self.rows.get(&inode).is_some_and(|row| row.kind != KIND_DIRECTORY && row.data.is_none())
    }

    fn retype(&mut self, inode: Inode, kind: u8) {
        let (is_dir, shown) = (self.has_children(inode), self.shown(inode));
        let (now, name, why) = match is_dir {
            true => (KIND_DIRECTORY, "directory", "there are entries in it"),
            false => (KIND_FILE, "file", "there are no entries in it"),
        };
        self.change(inode, |row| row.kind = now);
        self.step(inode, format!("'{shown}' (inode {inode}), of unknown type {kind}, becomes a {name}"), why);
    }

    fn divide(&mut self, inode: Inode) {
        if !self.has_children(inode) {
            let shown = self.shown(inode);
            self.change(inode, |row| row.kind = KIND_FILE);
            let why = "it has contents and there are no entries in it";
            return self.step(inode, format!("directory '{shown}' (inode {inode}) becomes a file"), why);
        }
        let data = self.rows.get(&inode).and_then(|row| row.data.clone()).unwrap_or_default();
        self.lose_bytes(inode, &data, "there are entries in it, so it is a directory, which has no contents");
        self.change(inode, |row| row.data = None);
    }

    fn cut(&mut self, inode: Inode) {
        let data = self.rows.get(&inode).and_then(|row| row.data.clone()).unwrap_or_default();
        let Some((kept, rest)) = data.split_at_checked(MAX_FILE_SIZE as usize) else { return };
        self.lose_bytes(inode, rest, &format!("a file can hold {MAX_FILE_SIZE} bytes, which stay"));
        self.change(inode, |row| row.data = Some(Arc::new(kept.to_vec())));
    }

    fn leave_file(&mut self, inode: Inode, parent: Inode) {
        if !self.is_empty_file(parent) {
            if self.rows.get(&parent).is_some_and(|row| row.kind != KIND_DIRECTORY) {
                self.lose(
                    inode,
                    &format!("what it should be in (inode {parent}) is a file, and has contents"),
                );
            }
            return;
        }
        let shown = self.shown(parent);
        self.change(parent, |row| row.kind = KIND_DIRECTORY);
        let why = "there are entries in it, and it has no contents";
        self.step(parent, format!("file '{shown}' (inode {parent}) becomes a directory"), why);
    }

    fn adopt(&mut self, inode: Inode, parent: Inode) {
        if self.rows.contains_key(&parent) {
            return;
        }
        // A number that was never given is no directory that was lost.
        if parent <= self.version {
            self.find_directory(parent);
        } else {
            self.lose(
                inode,
                &format!("there never was a directory with the number of its parent ({})", parent as i64),
            );
        }
    }

    fn break_loop(&mut self, inode: Inode) {
        let parent = |at: Inode| self.rows.get(&at).map_or(ROOT, |row| row.parent);
        let mut members = vec![inode];
        let mut at = parent(inode);
        while at != inode {
            if at == ROOT || members.len() > self.rows.len() {
                return;
            }
            members.push(at);
            at = parent(at);
        }
        // What is in a directory was made after it, as only empty ones are moved.
        let odd = members.iter().copied().filter(|&member| parent(member) >= member);
        let chosen = odd.max_by_key(|member| self.rows.get(member).map(|row| row.version));
        let why = "it is inside itself, and older than what it is in";
        self.lose(chosen.unwrap_or(inode), why);
    }

    /// Of two entries of one name in one directory the one stays that was changed last, unless nothing is in
    /// that one and something in the other.
    fn part_namesakes(&mut self, first: Inode, second: Inode) {
        let place = |inode: Inode| self.rows.get(&inode).map(|row| (row.parent, Arc::clone(&row.name)));
        if place(first) != place(second) {
            return;
        }
        let (stays, goes) = self.by_last_change(first, second);
        if self.is_filled_directory(goes) && self.is_void(stays) && !self.made.contains(&stays) {
            let why =
                format!("inode {goes} has the same name, and entries in it; in this one there is nothing");
            return self.lose(stays, &why);
        }
        let changes = match self.last_change(stays) {
            u64::MAX => String::new(),
            latest => format!(": at version {latest}, this one at {}", self.last_change(goes)),
        };
        self.lose(goes, &format!("inode {stays} has the same name and was changed later{changes}"));
    }

    fn is_filled_directory(&self, inode: Inode) -> bool {
        self.has_children(inode) && self.rows.get(&inode).is_some_and(|row| row.kind == KIND_DIRECTORY)
    }

    fn is_void(&self, inode: Inode) -> bool {
        !self.has_children(inode) && self.rows.get(&inode).is_some_and(|row| row.data.is_none())
    }

    fn part_guests(&mut self, vmid: u32, first: Inode, second: Inode) {
        let (stays, goes) = self.by_last_change(first, second);
        let (shown, latest, before) = (self.shown(stays), self.last_change(stays), self.last_change(goes));
        let why = format!(
            "guest {vmid} has another configuration, '{shown}' (inode {stays}), that was changed later: at version \
             {latest}, this one at {before}"
        );
        self.lose(goes, &why);
    }

    fn by_last_change(&self, first: Inode, second: Inode) -> (Inode, Inode) {
        let key = |inode| (self.last_change(inode), inode);
        if key(first) > key(second) { (first, second) } else { (second, first) }
    }
}
