//! The limits of the whole database, which stock only shows.

use crate::fixture::{Tree, refused};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

const MEGABYTE: usize = 1 << 20;

#[test]
fn the_database_is_full_at_128_megabytes() {
    let tree = Tree::new();
    let data = vec![b'x'; MEGABYTE];
    tree.mkdir("d");
    for number in 0..128 {
        tree.write(&format!("d/{number}"), &data);
    }
    let free = |tree: &Tree| nix::sys::statvfs::statvfs(&tree.root()).expect("statfs").blocks_free();
    assert_eq!(free(&tree), 0);
    refused(fs::write(tree.path("d/more"), "x"), libc::ENOSPC);
    assert_eq!(tree.read("d/more"), b"", "made, but nothing fits into it");
    refused(nix::unistd::truncate(&tree.path("d/more"), 1), libc::ENOSPC);
    // What takes no room goes on: overwriting, renaming, removing.
    let file = OpenOptions::new().write(true).open(tree.path("d/0")).expect("open");
    file.write_all_at(b"other", 1000).expect("overwritten in place");
    fs::rename(tree.path("d/more"), tree.path("d/moved")).expect("rename");
    tree.mkdir("d/sub");
    file.set_len(10).expect("cut");
    assert!(free(&tree) > 0);
    tree.write("d/moved", "fits");
    fs::remove_file(tree.path("d/1")).expect("unlink");
    tree.write("d/again", &data);
    drop(file);
    let tree = tree.reload();
    assert_eq!((tree.read("d/moved"), tree.list("d").len()), (b"fits".to_vec(), 130));
}
