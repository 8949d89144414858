//! What must be the same on all nodes.

use crate::node::Node;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A row of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub parent: i64,
    pub version: i64,
    pub writer: i64,
    pub mtime: i64,
    pub kind: i64,
    pub name: Vec<u8>,
    pub data: Option<Vec<u8>>,
}

/// All rows, by inode. The daemon may be running.
pub fn rows(database: &Path) -> rusqlite::Result<BTreeMap<i64, Row>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let columns = "inode, parent, version, writer, mtime, type, CAST(name AS BLOB), data";
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM tree"))?;
    let rows = statement.query_map([], |row| {
        let data: Option<Vec<u8>> = row.get(7)?;
        let entry = Row {
            parent: row.get(1)?,
            version: row.get(2)?,
            writer: row.get(3)?,
            mtime: row.get(4)?,
            kind: row.get(5)?,
            name: row.get(6)?,
            // An empty file has either.
            data: data.filter(|data| !data.is_empty()),
        };
        Ok((row.get(0)?, entry))
    })?;
    rows.collect()
}

/// What two databases have differently, in words; empty when they are equal.
pub fn difference(left: &BTreeMap<i64, Row>, right: &BTreeMap<i64, Row>) -> String {
    let mut found = Vec::new();
    for (inode, row) in left {
        match right.get(inode) {
            Some(other) if other == row => {}
            Some(other) => found.push(format!("{inode}: {} / {}", row.brief(), other.brief())),
            None => found.push(format!("{inode}: {} / missing", row.brief())),
        }
    }
    for (inode, row) in right.iter().filter(|(inode, _)| !left.contains_key(*inode)) {
        found.push(format!("{inode}: missing / {}", row.brief()));
    }
    found.truncate(8);
    found.join("; ")
}

impl Row {
    fn brief(&self) -> String {
        let name = self.name.escape_ascii();
        let bytes = self.data.as_ref().map_or(0, Vec::len);
        format!("{name} in {} v{} w{} t{} {bytes} bytes", self.parent, self.version, self.writer, self.mtime)
    }
}

/// Every path of the tree that clients see, with its contents: `None` for a directory.
pub fn tree(node: &Node) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    walk(node, "", &mut found);
    found
}

fn walk(node: &Node, dir: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for name in node.list(dir) {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        let Ok(meta) = fs::symlink_metadata(node.tree(&path)) else { continue };
        if meta.is_dir() {
            walk(node, &path, found);
            found.insert(path, None);
        } else if meta.is_file() {
            let data = node.read(&path).unwrap_or_else(|error| error.to_string().into_bytes());
            found.insert(path, Some(data));
        }
    }
}
