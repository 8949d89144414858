//! Warning about a new, empty database on a node that was in use before: its old database was lost, or a path is
//! wrong. To an admin the empty tree looks like the loss of all guests.

use crate::dir::Dir;
use crate::options::Paths;
use crate::store::Site;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names in a line at most.
const NAMES_MAX: usize = 5;

/// State before the daemon created any file.
#[derive(Debug)]
pub struct Traces {
    /// Size of the database file; `None` if it is missing.
    bytes: Option<u64>,
    /// Files that only a node in use has.
    found: Vec<PathBuf>,
}

impl Traces {
    /// Looks for files of an earlier use. Call this before the lock file is made, which is one of them.
    pub fn collect(paths: &Paths) -> Self {
        let site = Site::of(&paths.database).ok();
        let entry = site.as_ref().and_then(|site| site.entry().ok().flatten());
        let mut found = BTreeSet::new();
        if let Some(site) = &site {
            let own = site.name().as_encoded_bytes();
            let is_sibling = |name: &[u8]| {
                let rest = name.strip_prefix(own);
                rest.is_some_and(|rest| rest.starts_with(b".") || rest.starts_with(b"-"))
            };
            // Without the names the other traces still count.
            let names = site.dir().names().unwrap_or_default();
            let siblings = names.iter().filter(|name| is_sibling(name.as_encoded_bytes()));
            found.extend(siblings.map(|name| site.dir().path().join(name)));
        }
        let backups = paths.state_dir.join("backup");
        let others = [&backups, &paths.lock_file, &paths.corosync_conf];
        found.extend(others.into_iter().filter(|path| exists(path)).cloned());
        Self { bytes: entry.map(|entry| entry.bytes), found: found.into_iter().collect() }
    }

    /// Text of the warning about the database that was created at `path`; `None` on a first start.
    pub fn warning(&self, path: &Path) -> Option<String> {
        let state = match self.bytes {
            None if self.found.is_empty() => return None,
            None => "was missing",
            Some(0) => "had 0 bytes",
            Some(_) => "had no entries",
        };
        let traces = match self.found.as_slice() {
            [] => String::new(),
            found => format!(", although this node was in use ({})", names(found)),
        };
        Some(format!(
            "database '{}' {state}, a new and empty one was created{traces}; this is normal when a node joins a \
             cluster. Otherwise stop pmxcfs, find the old database or a copy, and put it back with 'pmxcfs-db \
             restore COPY' (see 'An empty database' in OPERATIONS.md)",
            path.display()
        ))
    }
}

fn exists(path: &Path) -> bool {
    Dir::holding(path).and_then(|(dir, name)| dir.entry(&name)).is_ok_and(|entry| entry.is_some())
}

/// Text with the first [`NAMES_MAX`] of the paths and the number of the others.
fn names(found: &[PathBuf]) -> String {
    let shown: Vec<_> = found.iter().take(NAMES_MAX).map(|path| format!("'{}'", path.display())).collect();
    match found.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
