//! Every append is in its file exactly once and whole, wherever others appended.

use super::Complaint;
use crate::node::{ChangeId, Contents};
use pmxcfs::memdb::MemDb;
use std::collections::BTreeMap;

/// Files of which nothing is known but that they are appended to.
const FILES: [&str; 2] = ["append-a", "append-b"];

#[derive(Debug, Default)]
pub struct Appends(BTreeMap<ChangeId, (String, Vec<u8>)>);

impl Appends {
    /// The files.
    pub fn files() -> [&'static str; 2] {
        FILES
    }

    /// An append was sent.
    pub fn sent(&mut self, change: ChangeId, path: &str, line: &[u8]) {
        self.0.insert(change, (path.to_owned(), line.to_vec()));
    }

    /// The cluster is healed: a database that consists of these changes.
    pub fn check(&self, contents: &Contents, db: &MemDb) -> Result<(), Complaint> {
        for file in FILES {
            let lines = self.0.iter().filter(|(change, (path, _))| path == file && contents.contains(change));
            let mut expected: Vec<&[u8]> = lines.map(|(_, (_, line))| line.as_slice()).collect();
            let content = db.resolve(file.as_bytes()).and_then(|entry| entry.content().cloned());
            let content = content.unwrap_or_default();
            let mut found: Vec<&[u8]> = content.split_inclusive(|&byte| byte == b'\n').collect();
            expected.sort();
            found.sort();
            if expected != found {
                let text = |lines: &[&[u8]]| String::from_utf8_lossy(&lines.concat()).into_owned();
                return Err(format!("{file} has {:?}, appended were {:?}", text(&found), text(&expected)));
            }
        }
        Ok(())
    }
}
