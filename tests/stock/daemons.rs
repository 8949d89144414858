//! Stock daemons to compare with: the paths in `STOCK`, separated by colons.

use std::path::PathBuf;

/// Absolute paths of the stock daemons in `STOCK`, in its order; empty if it is unset or empty.
pub fn stock_daemons() -> Vec<PathBuf> {
    let Some(list) = std::env::var_os("STOCK") else { return Vec::new() };
    let paths = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty());
    let absolute = |path: PathBuf| match path.canonicalize() {
        Ok(absolute) => absolute,
        Err(error) => {
            panic!("STOCK must list paths of stock pmxcfs programs: '{}': {error}", path.display())
        }
    };
    paths.map(absolute).collect()
}
