//! What a client sees of a whole tree, as values that can be compared.

use crate::known;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Path below the root to what is there.
pub type Tree = BTreeMap<OsString, Node>;

/// One node. Blocks are not in it: stock counts them in units of 4096.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type, permissions, links, user, group, size, time.
    pub attributes: String,
    /// Of a file, or where a link points.
    pub content: Vec<u8>,
}

/// Names at the root that are no entries of the database.
const GENERATED: &[&str] = &[".version", ".members", ".vmlist", ".rrd", ".clusterlog", ".debug"];

/// Where the two daemons cannot act in the same second.
const SAME_TIME_SECONDS: i64 = 600;

/// A time as text: those of the test itself are one and the same.
pub fn time_text(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    if (seconds - now).abs() < SAME_TIME_SECONDS { "now".to_owned() } else { seconds.to_string() }
}

/// The attributes of a node as text.
pub fn attributes(metadata: &fs::Metadata) -> String {
    let times = [metadata.atime(), metadata.mtime(), metadata.ctime()].map(time_text).join("/");
    format!(
        "mode {:o} links {} owner {}:{} size {} times {times}",
        metadata.mode(),
        metadata.nlink(),
        metadata.uid(),
        metadata.gid(),
        metadata.size()
    )
}

/// Reads everything below `root`. Of the generated files, whose text is of the moment, only the
/// attributes but for the size.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    read_into(root, Path::new(""), &mut tree);
    tree
}

fn read_into(root: &Path, below: &Path, tree: &mut Tree) {
    for entry in readable(below, fs::read_dir(root.join(below))) {
        let entry = readable(below, entry);
        let path = below.join(entry.file_name());
        let metadata = readable(&path, entry.metadata());
        assert_eq!(readable(&path, entry.file_type()), metadata.file_type(), "{}", path.display());
        let node = if GENERATED.iter().any(|name| path.as_os_str() == *name) {
            Node { attributes: format!("generated, mode {:o}", metadata.mode()), content: Vec::new() }
        } else {
            let content = if metadata.is_dir() {
                read_into(root, &path, tree);
                Vec::new()
            } else if metadata.is_file() {
                readable(&path, fs::read(root.join(&path)))
            } else {
                readable(&path, fs::read_link(root.join(&path))).into_os_string().into_vec()
            };
            Node { attributes: attributes(&metadata), content }
        };
        tree.insert(path.into_os_string(), node);
    }
}

fn readable<T>(path: &Path, result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn same(stock: Option<&Node>, ours: Option<&Node>) -> bool {
    let known = |(stock, ours): (&Node, &Node)| {
        stock.content == ours.content && known::is_link_without_size(&stock.attributes, &ours.attributes)
    };
    stock == ours || stock.zip(ours).is_some_and(known)
}

/// The differences, a line each; empty when there are none.
pub fn differences(stock: &Tree, ours: &Tree) -> String {
    let mut text = String::new();
    let mut paths: Vec<_> = stock.keys().chain(ours.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let (stock, ours) = (stock.get(path), ours.get(path));
        if same(stock, ours) {
            continue;
        }
        let node = |node: Option<&Node>| match node {
            None => "nothing".to_owned(),
            Some(node) => {
                let start = &node.content[..node.content.len().min(40)];
                format!("{}, content {}", node.attributes, start.escape_ascii())
            }
        };
        text += &format!("{}:\n  stock {}\n  ours  {}\n", Path::new(path).display(), node(stock), node(ours));
    }
    text
}

/// Both trees must be the same.
pub fn assert_same(what: &str, stock: &Tree, ours: &Tree) {
    let differences = differences(stock, ours);
    assert!(differences.is_empty(), "{what}: the trees differ\n{differences}");
}
