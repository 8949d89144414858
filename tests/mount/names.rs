//! Names: any bytes, up to what the kernel takes.

use crate::fixture::{Tree, refused};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

#[test]
fn any_bytes_are_a_name() {
    let tree = Tree::new();
    let dir = tree.mkdir("d");
    let names: [&[u8]; 8] =
        [b"\xff\xfe\x80", b"a\nb", b"'\"\\", b" ", b"\xc3\xa4", b"...", b"-", b"\x01\x7f"];
    for name in names {
        fs::write(dir.join(OsStr::from_bytes(name)), name).expect("write");
    }
    let check = |tree: &Tree| {
        let dir = tree.path("d");
        let mut listed: Vec<_> =
            fs::read_dir(&dir).expect("list").map(|e| e.expect("entry").file_name()).collect();
        let mut expected = names.map(OsStr::from_bytes).to_vec();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
        for name in names {
            assert_eq!(fs::read(dir.join(OsStr::from_bytes(name))).expect("read"), name);
        }
    };
    check(&tree);
    check(&tree.reload());
}

#[test]
fn names_up_to_1024_bytes() {
    let tree = Tree::new();
    let dir = tree.mkdir("d");
    for length in [1, 255, 256, 257, 1000, 1024] {
        let name = "n".repeat(length);
        fs::write(dir.join(&name), name.as_bytes()).expect("write");
        assert_eq!(fs::read(dir.join(&name)).expect("read"), name.as_bytes());
        fs::create_dir(dir.join("d".repeat(length))).expect("mkdir");
    }
    let long = "n".repeat(1025);
    refused(File::create(dir.join(&long)), libc::ENAMETOOLONG);
    refused(fs::create_dir(dir.join(&long)), libc::ENAMETOOLONG);
    refused(fs::metadata(dir.join(&long)), libc::ENAMETOOLONG);
    refused(fs::rename(dir.join("n"), dir.join(&long)), libc::ENAMETOOLONG);
    let listed: Vec<usize> = tree.list("d").iter().map(String::len).collect();
    assert_eq!(listed, [1, 255, 256, 257, 1000, 1024, 1, 255, 256, 257, 1000, 1024]);
    // Also when the kernel is told of such a name.
    let path = pmxcfs::memdb::TreePath::from(format!("d/{}", "n".repeat(1024)).as_str());
    tree.elsewhere(pmxcfs::memdb::Change::Delete { path });
    refused(fs::metadata(dir.join("n".repeat(1024))), libc::ENOENT);
}

#[test]
fn deep_trees() {
    let tree = Tree::new();
    let mut path = tree.root();
    for level in 0..60 {
        path.push(format!("level-{level}-{}", "x".repeat(40)));
        fs::create_dir(&path).expect("mkdir");
    }
    fs::write(path.join("f"), "deep").expect("write");
    assert_eq!(fs::read(path.join("f")).expect("read"), b"deep");
    refused(fs::metadata(tree.root().join("x/".repeat(2100))), libc::ENAMETOOLONG);
}
