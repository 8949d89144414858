//! All faults in the rows of a table, for a repair: those for which [`MemDb::load`] refuses it, found by the
//! same code, and those with which only the stock daemon does not start.

use super::load::LoadError;
use super::{Entry, GuestKind, Guests, Inode, MemDb, NUMBER_MAX, PathVersions, ROOT, Row, SOUND_VERSION_MAX};
use std::fmt;
use std::time::Duration;

/// What was found in the rows of a table.
#[derive(Debug)]
pub struct Audit {
    /// All that is wrong. The first that is [`Finding::Refused`] is what loading ends with.
    pub findings: Vec<Finding>,
    /// The tree, as far as it can be made out; sound only when no finding is [`Finding::Refused`].
    pub tree: MemDb,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The table cannot be loaded with this.
    Refused(LoadError),
    /// The version is so high that few changes, or none, are possible. The database can be loaded and read.
    FewVersionsLeft { version: u64 },
    /// A file where the stock daemon wants a directory of guests, and does not start otherwise.
    GuestsInFile { inode: Inode },
}

impl Finding {
    /// A word for it, for programs.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Refused(error) => match error {
                LoadError::Entry(error) => error.rule(),
                LoadError::NoRootName => "no-name",
                LoadError::RootName { .. } => "version-row-name",
                LoadError::DuplicateInode { .. } => "duplicate-inode",
                LoadError::ParentIsFile { .. } => "parent-is-file",
                LoadError::ParentMissing { .. } => "parent-missing",
                LoadError::Loop { .. } => "loop",
                LoadError::DuplicateName { .. } => "duplicate-name",
                LoadError::DuplicateGuest { .. } => "duplicate-guest",
                LoadError::NoVersion { .. } => "no-version",
                LoadError::InodeAhead { .. } => "inode-ahead",
                LoadError::VersionAhead { .. } => "version-ahead",
            },
            Self::FewVersionsLeft { .. } => "few-versions-left",
            Self::GuestsInFile { .. } => "guests-in-file",
        }
    }

    /// The inodes it is about.
    pub fn inodes(&self) -> Vec<Inode> {
        match *self {
            Self::Refused(ref error) => match *error {
                LoadError::Entry(ref error) => vec![error.inode()],
                LoadError::DuplicateInode { inode }
                | LoadError::ParentIsFile { inode, .. }
                | LoadError::ParentMissing { inode, .. }
                | LoadError::Loop { inode, .. }
                | LoadError::InodeAhead { inode, .. }
                | LoadError::VersionAhead { inode, .. } => vec![inode],
                LoadError::NoRootName | LoadError::RootName { .. } | LoadError::NoVersion { .. } => {
                    vec![ROOT]
                }
                LoadError::DuplicateName { first, second, .. }
                | LoadError::DuplicateGuest { first, second, .. } => vec![first, second],
            },
            Self::FewVersionsLeft { .. } => vec![ROOT],
            Self::GuestsInFile { inode } => vec![inode],
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{error}"),
            Self::FewVersionsLeft { version } => {
                let left = NUMBER_MAX.saturating_sub(*version);
                write!(f, "the database's version is {version}, so only {left} more changes are possible")
            }
            Self::GuestsInFile { inode } => {
                write!(
                    f,
                    "inode {inode} is a file, where the stock daemon starts only with a directory of guests"
                )
            }
        }
    }
}

impl MemDb {
    /// All that is wrong with these rows.
    pub fn audit(rows: impl IntoIterator<Item = Row>) -> Audit {
        let mut refused = Vec::new();
        let mut note = |error| {
            refused.push(Finding::Refused(error));
            Ok(())
        };
        let (before, versions) = (Guests::default(), PathVersions::default());
        let loaded = Self::load_after(rows, Duration::ZERO, &before, versions, &mut note);
        // What notes every fault does not end with one.
        let tree = loaded.unwrap_or_default();
        let harmful = tree.files_for_guests().map(|entry| Finding::GuestsInFile { inode: entry.inode });
        let version = tree.version();
        let is_high = (SOUND_VERSION_MAX + 1..=NUMBER_MAX).contains(&version);
        let high = is_high.then_some(Finding::FewVersionsLeft { version });
        let findings = refused.into_iter().chain(high).chain(harmful).collect();
        Audit { findings, tree }
    }

    /// Files in the place of directories of guests.
    fn files_for_guests(&self) -> impl Iterator<Item = &Entry> {
        let nodes = self.resolve(b"nodes").into_iter().flat_map(|nodes| self.children_of(nodes));
        let nodes = nodes.filter(|node| super::path::node_name(&node.name).is_some());
        let dirs = nodes.flat_map(|node| {
            GuestKind::ALL.into_iter().filter_map(|kind| self.lookup(node.inode, kind.dir().as_bytes()))
        });
        dirs.filter(|entry| !entry.is_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{MAX_FILE_SIZE, VERSION_ROW_NAME};
    use std::sync::Arc;

    fn row(inode: Inode, parent: Inode, kind: u8, name: &[u8]) -> Row {
        let name = if inode == ROOT { VERSION_ROW_NAME } else { name };
        Row { inode, parent, version: 90, writer: 0, mtime: 1, kind, name: name.into(), data: None }
    }

    fn rules(rows: &[Row]) -> Vec<(&'static str, Vec<Inode>)> {
        let audit = MemDb::audit(rows.iter().cloned());
        let refused = MemDb::load(rows.iter().cloned(), Duration::ZERO).err().map(Finding::Refused);
        let first = audit.findings.iter().find(|finding| matches!(finding, Finding::Refused(_)));
        assert_eq!(first, refused.as_ref(), "loading ends with the first");
        audit.findings.iter().map(|finding| (finding.rule(), finding.inodes())).collect()
    }

    #[test]
    fn all_faults_are_found_not_only_the_first() {
        let mut rows =
            vec![row(0, 0, 8, b""), row(1, 0, 4, b"nodes"), row(2, 1, 4, b"n"), row(3, 2, 4, b"lxc")];
        assert_eq!(rules(&rows), []);
        rows.extend([row(4, 3, 8, b"7.conf"), row(5, 2, 4, b"openvz"), row(6, 5, 8, b"7.conf")]);
        rows.extend([
            row(7, 0, 8, b""),
            row(8, 0, 8, b"a/b"),
            row(9, 0, 5, b"kind"),
            row(10, 99, 8, b"lost"),
        ]);
        rows.extend([
            row(11, 99, 8, b"lost"),
            row(12, 4, 8, b"below"),
            row(13, 14, 4, b"x"),
            row(14, 13, 4, b"y"),
        ]);
        rows.extend([row(15, 0, 8, b"twice"), row(16, 0, 4, b"twice"), row(17, 0, 8, b"twice")]);
        let data = Some(Arc::new(b"x".to_vec()));
        rows.push(Row { data, ..row(18, 0, 4, b"filled") });
        assert_eq!(
            rules(&rows),
            [
                ("no-name", vec![7]),
                ("bad-name", vec![8]),
                ("unknown-type", vec![9]),
                ("directory-with-data", vec![18]),
                ("duplicate-name", vec![15, 16]),
                ("duplicate-name", vec![16, 17]),
                ("parent-is-file", vec![12]),
                ("duplicate-name", vec![10, 11]),
                ("parent-missing", vec![10]),
                ("parent-missing", vec![11]),
                ("loop", vec![13]),
                ("duplicate-guest", vec![6, 4]),
            ]
        );
    }

    #[test]
    fn versions_sizes_and_guest_directories_are_checked() {
        let version = |version| Row { version, ..row(0, 0, 8, b"") };
        assert_eq!(rules(&[row(1, 0, 8, b"a")]), [("no-version", vec![0])]);
        assert_eq!(rules(&[version(0), row(1, 0, 8, b"a")]), [("no-version", vec![0])]);
        assert_eq!(rules(&[]), []);
        assert_eq!(rules(&[version(90), row(91, 0, 8, b"a")]), [("inode-ahead", vec![91])]);
        assert_eq!(rules(&[version(89), row(80, 0, 8, b"a")]), [("version-ahead", vec![80])]);
        assert_eq!(rules(&[version(SOUND_VERSION_MAX)]), []);
        for high in [SOUND_VERSION_MAX + 1, NUMBER_MAX] {
            assert_eq!(rules(&[version(high)]), [("few-versions-left", vec![ROOT])]);
        }
        assert_eq!(rules(&[version(NUMBER_MAX + 1)]), [("version-range", vec![ROOT])]);
        let data = |len| Some(Arc::new(vec![0; len]));
        let limit = MAX_FILE_SIZE as usize;
        assert_eq!(rules(&[version(90), Row { data: data(limit), ..row(1, 0, 8, b"a") }]), []);
        let large = Row { data: data(limit + 1), ..row(1, 0, 8, b"a") };
        assert_eq!(rules(&[version(90), large]), [("too-large", vec![1])]);
        let odd = [row(0, 0, 8, b""), row(1, 0, 4, b"nodes"), row(2, 1, 4, b"n"), row(3, 2, 8, b"lxc")];
        assert_eq!(rules(&odd), [("guests-in-file", vec![3])]);
    }
}
