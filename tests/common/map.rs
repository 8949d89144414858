//! The version script of libpmxcfs, `capi/libpmxcfs.map`: the one list of its public names.

use std::fs;
use std::path::Path;

/// Public names with the versions that added them, sorted by name.
pub fn names() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("capi/libpmxcfs.map");
    let text = fs::read_to_string(path).expect("the version script");
    let mut version = "";
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(begun) = line.strip_suffix(" {") {
            version = begun;
        } else if let Some(name) = line.trim().strip_suffix(';').filter(|name| name.starts_with("pmxcfs_")) {
            names.push((name.to_owned(), version.to_owned()));
        }
    }
    names.sort();
    names
}
