//! Directory listings with stable positions.
//!
//! The position after an entry is a function of its name. So it is valid in every handle, also after a
//! restart. A listing continues with the first entry after the position that the kernel sends. Entries are
//! sorted by position: changes of other entries neither skip nor repeat an entry, and a file that is replaced
//! by a rename keeps its place.
//!
//! A handle keeps the sorted names from the start of its listing, so a large directory is sorted once and not
//! for each reply. Names removed since then are left out of the reply; names added since then appear in the
//! next listing.

use super::{Attr, Fs, FsError, entry_target, ino, mode};
use crate::memdb::{Inode, MemDb, Name, ROOT};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One line of a listing.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Attributes of the named node at the moment of the reply.
    pub attr: Attr,
    /// Position at which the listing continues after this line. Positive as a signed number, since `telldir`
    /// returns it to programs.
    pub next: u64,
}

/// Position after `.`.
const BEHIND_DOT: u64 = 1;
/// Position after `..`; all names have higher ones.
const BEHIND_DOTS: u64 = 2;
/// Number of bits of a position that come from the name. The rest is for [`BEHIND_DOTS`] and collisions.
const POSITION_BITS: u32 = 62;

/// Position after an entry of this name. [`Listing::new`] resolves collisions within a directory.
///
/// FNV-1a, with its halves mixed once more: fast for short names, and stable, unlike the hash functions of
/// the standard library. Programs may store positions.
fn position(name: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    let hash = name.iter().fold(0xCBF2_9CE4_8422_2325, fnv);
    let mixed = hash ^ (hash >> 32);
    BEHIND_DOTS + 1 + (mixed & ((1 << POSITION_BITS) - 1))
}

/// A name as a handle lists it.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Position after the name; strictly increasing from line to line.
    next: u64,
    name: Name,
    /// Generated node of this name; `None` for an entry of the database, whose inode may change.
    generated: Option<usize>,
}

/// Names of a directory at the start of a listing, by rising position.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    lines: Vec<Line>,
}

impl Listing {
    fn new(names: impl Iterator<Item = (Name, Option<usize>)>) -> Self {
        let line = |(name, generated): (Name, _)| Line { next: position(&name), name, generated };
        Self::sorted(names.map(line).collect())
    }

    /// Sorts the lines. If two names have the same position (probability 2^-62 for a pair), the second one
    /// takes the next position. Only such a position depends on the other names.
    fn sorted(mut lines: Vec<Line>) -> Self {
        lines.sort_unstable_by(|one, other| (one.next, &one.name).cmp(&(other.next, &other.name)));
        let mut last = BEHIND_DOTS;
        for line in &mut lines {
            line.next = line.next.max(last + 1);
            last = line.next;
        }
        Self { lines }
    }

    /// The lines after a position.
    fn behind(&self, position: u64) -> &[Line] {
        let start = self.lines.partition_point(|line| line.next <= position);
        self.lines.get(start..).unwrap_or_default()
    }
}

impl Fs {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// It is no directory, or was removed (`Stale`).
    pub fn opendir(&self, ino: u64) -> Result<u64, FsError> {
        let inode = entry_target(ino).ok_or(FsError::NotDirectory)?;
        let is_dir = self.cfs.engine.read().get(inode).ok_or(FsError::Stale)?.is_dir();
        if is_dir { Ok(self.handles.number()) } else { Err(FsError::NotDirectory) }
    }

    /// Closes what [`Fs::opendir`] opened.
    pub fn releasedir(&self, handle: u64) {
        self.handles.remove_listing(handle);
    }

    /// Lists a directory from the position `offset` (0, or a [`DirEntry::next`] of any handle) until `add`
    /// returns true: there was no room, and the line was not used.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn readdir(
        &self,
        ino: u64,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let inode = entry_target(ino).ok_or(FsError::NotDirectory)?;
        let listing = self.listing(inode, handle, offset)?;
        if offset < BEHIND_DOT {
            // The kernel does not repeat a listing that fails with ESTALE.
            let attr = self.entry_attr(inode).ok_or(FsError::NotFound)?;
            if add(DirEntry { name: b".", attr, next: BEHIND_DOT }) {
                return Ok(());
            }
        }
        if offset < BEHIND_DOTS {
            let attr = self.parent_attr(inode)?;
            if add(DirEntry { name: b"..", attr, next: BEHIND_DOTS }) {
                return Ok(());
            }
        }
        let (mut tree, mut is_empty) = (None, offset >= BEHIND_DOTS);
        for Line { next, name, generated } in listing.behind(offset) {
            let attr = match generated {
                None => {
                    let tree = tree.get_or_insert_with(|| self.cfs.engine.read());
                    self.listed_attr(tree, inode, name)
                }
                Some(index) => {
                    // Its size comes from its text, which is made from the tree under a separate lock.
                    tree = None;
                    self.plugs.get(*index).map(|plug| plug.attr(ino::of_generated(*index), &self.cfs))
                }
            };
            let Some(attr) = attr else { continue };
            let is_full = add(DirEntry { name, attr, next: *next });
            if is_full && !is_empty {
                break;
            }
            // A line that does not fit into an empty reply is left out: an empty reply would mean the end.
            is_empty &= is_full;
        }
        Ok(())
    }

    /// Names as of the last read of this handle from the start, or as of now if there was none.
    fn listing(&self, inode: Inode, handle: u64, offset: u64) -> Result<Arc<Listing>, FsError> {
        if offset > 0 {
            if let Some(listing) = self.handles.listing(handle) {
                return Ok(listing);
            }
        }
        let names: Vec<Name> = {
            let tree = self.cfs.engine.read();
            let children = tree.get(inode).ok_or(FsError::NotFound)?;
            let children = children.children().ok_or(FsError::NotDirectory)?;
            let name_bytes_max = self.name_bytes_max.load(Ordering::Relaxed);
            let children = children.filter(|(name, _)| name.len() <= name_bytes_max);
            children.map(|(name, _)| name.clone()).collect()
        };
        let is_shown = |name: &Name| inode != ROOT || self.plugs.find(name).is_none();
        let generated = (inode == ROOT).then(|| self.generated_names()).into_iter().flatten();
        let names = names.into_iter().filter(is_shown).map(|name| (name, None));
        let listing = Arc::new(Listing::new(generated.chain(names)));
        self.handles.set_listing(handle, Arc::clone(&listing));
        Ok(listing)
    }

    fn generated_names(&self) -> impl Iterator<Item = (Name, Option<usize>)> + '_ {
        let numbered = self.plugs.names().enumerate();
        numbered.filter_map(|(index, name)| Some((Name::new(name.as_bytes())?, Some(index))))
    }

    /// Attributes of the entry that has this name now, if any.
    fn listed_attr(&self, tree: &MemDb, dir: Inode, name: &Name) -> Option<Attr> {
        let entry = tree.lookup(dir, name)?;
        self.known.note_name(ino::of_entry(dir), name);
        Some(self.attr_of(entry, mode::class_of(entry)))
    }

    fn parent_attr(&self, inode: Inode) -> Result<Attr, FsError> {
        let parent = self.cfs.engine.read().get(inode).ok_or(FsError::NotFound)?.parent;
        self.entry_attr(parent).ok_or(FsError::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::{BEHIND_DOTS, Line, Listing, position};
    use crate::fs::fixture::Fixture;
    use crate::fs::{Fs, ROOT_INO};
    use crate::memdb::{Change, Name};

    /// One reply of at most `room` lines: names and the positions after them.
    fn reply(fs: &Fs, ino: u64, handle: u64, offset: u64, room: usize) -> Vec<(String, u64)> {
        let mut lines = Vec::new();
        let read = fs.readdir(ino, handle, offset, |entry| {
            let is_full = lines.len() == room;
            if !is_full {
                lines.push((String::from_utf8_lossy(entry.name).into_owned(), entry.next));
            }
            is_full
        });
        read.expect("listed");
        lines
    }

    /// Reads a listing in replies of `room` lines each.
    fn list(fs: &Fs, ino: u64, room: usize) -> Vec<(String, u64)> {
        let handle = fs.opendir(ino).expect("a directory");
        let (mut lines, mut offset) = (Vec::new(), 0);
        loop {
            let more = reply(fs, ino, handle, offset, room);
            let Some((_, next)) = more.last() else { break };
            offset = *next;
            lines.extend(more);
        }
        fs.releasedir(handle);
        lines
    }

    fn sorted_names(lines: &[(String, u64)]) -> Vec<&str> {
        let mut names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn replies_of_any_size_have_each_name_once() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        let mut expected = vec![".".to_owned(), "..".to_owned()];
        for number in 0..25 {
            let name = format!("f{number:02}");
            tree.make(&format!("d/{name}"));
            expected.push(name);
        }
        for room in [1, 2, 3, 10, 100] {
            let lines = list(&tree.fs, dir, room);
            assert_eq!(sorted_names(&lines), expected, "{room} a time");
            assert!(lines.is_sorted_by_key(|(_, next)| *next));
            assert!(lines.iter().all(|(_, next)| i64::try_from(*next).is_ok_and(|next| next > 0)));
        }
    }

    #[test]
    fn root_has_generated_names_and_hides_entries_behind_them() {
        let tree = Fixture::new();
        tree.make("a");
        tree.make(".version");
        for room in [1, 4, 100] {
            let lines = list(&tree.fs, ROOT_INO, room);
            let names = sorted_names(&lines);
            assert_eq!(names.len(), 2 + 10 + 1, "{names:?}");
            assert!(names.contains(&"a") && names.contains(&".version"));
        }
    }

    #[test]
    fn name_that_was_removed_or_moved_is_left_out() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        for name in ["a", "b", "c", "e"] {
            tree.make(&format!("d/{name}"));
        }
        let handle = tree.fs.opendir(dir).expect("a directory");
        reply(&tree.fs, dir, handle, 0, 1);
        tree.change(Change::Delete { path: "d/b".into() });
        tree.change(Change::Rename { from: "d/c".into(), to: "d/x".into() });
        assert_eq!(sorted_names(&reply(&tree.fs, dir, handle, BEHIND_DOTS, 100)), ["a", "e"]);
        assert_eq!(sorted_names(&reply(&tree.fs, dir, handle, 0, 100)), [".", "..", "a", "e", "x"]);
    }

    #[test]
    fn replaced_file_keeps_its_position() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        for number in 0..9 {
            tree.make(&format!("d/{number}"));
        }
        let before = list(&tree.fs, dir, 100);
        let handle = tree.fs.opendir(dir).expect("a directory");
        reply(&tree.fs, dir, handle, 0, 1);
        let new = tree.make("d/5.tmp");
        tree.change(Change::Rename { from: "d/5.tmp".into(), to: "d/5".into() });
        assert_eq!(reply(&tree.fs, dir, handle, 0, 100), before);
        let mut number = None;
        let read = tree.fs.readdir(dir, handle, 0, |entry| {
            number = number.or_else(|| (entry.name == b"5").then_some(entry.attr.ino));
            false
        });
        read.expect("listed");
        assert_eq!(number, Some(new));
    }

    #[test]
    fn handle_that_never_was_at_the_start_knows_positions() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        for number in 0..9 {
            tree.make(&format!("d/{number}"));
        }
        let lines = list(&tree.fs, dir, 100);
        for (index, (_, next)) in lines.iter().enumerate() {
            let handle = tree.fs.opendir(dir).expect("a directory");
            assert_eq!(reply(&tree.fs, dir, handle, *next, 100), lines[index + 1..]);
        }
    }

    #[test]
    fn names_too_long_for_the_kernel_do_not_end_a_listing() {
        let tree = Fixture::new();
        let dir = tree.make("d/");
        for name in ["a".to_owned(), "b".repeat(1025), "c".repeat(1024)] {
            tree.make(&format!("d/{name}"));
        }
        let lines = list(&tree.fs, dir, 100);
        assert_eq!(sorted_names(&lines), [".", "..", "a", &"c".repeat(1024)]);
    }

    /// Programs may store positions while the daemon is upgraded.
    #[test]
    fn position_of_a_name_is_the_same_for_ever() {
        // FNV-1a of `a` is 0xAF63_DC4C_8601_EC8C, as published by its authors.
        assert_eq!(position(b"a"), 3 + ((0xAF63_DC4C_8601_EC8C ^ 0xAF63_DC4C) & (u64::MAX >> 2)));
        assert_eq!(position(b"foobar"), 3 + ((0x8594_4171_F739_67E8 ^ 0x8594_4171) & (u64::MAX >> 2)));
    }

    #[test]
    fn names_of_one_position_are_told_apart() {
        let line = |next, name: &[u8]| Line { next, name: Name::new(name).expect("a name"), generated: None };
        let lines = vec![line(9, b"b"), line(7, b"z"), line(9, b"a"), line(10, b"c"), line(50, b"d")];
        let listing = Listing::sorted(lines);
        let found: Vec<(u64, &[u8])> =
            listing.lines.iter().map(|line| (line.next, line.name.as_bytes())).collect();
        assert_eq!(found, [(7, &b"z"[..]), (9, b"a"), (10, b"b"), (11, b"c"), (50, b"d")]);
        let behind = |position| listing.behind(position).len();
        assert_eq!([0, 6, 7, 8, 9, 10, 11, 49, 50, u64::MAX].map(behind), [5, 5, 4, 4, 3, 2, 1, 1, 0, 0]);
    }
}
