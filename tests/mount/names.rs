//! Names: any bytes, up to what the kernel takes.

use crate::fixture::{Tree, refused};
use nix::unistd::UnlinkatFlags;
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
fn long_name_of_another_member_is_served() {
    let tree = Tree::new();
    let dir = tree.mkdir("d");
    let longest = pmxcfs::memdb::NAME_BYTES_MAX;
    for name in ["a".repeat(2000), "b".repeat(longest), "c".to_owned()] {
        let path = pmxcfs::memdb::TreePath::from(format!("d/{name}").as_str());
        tree.elsewhere(pmxcfs::memdb::Change::Create { path });
    }
    let listed: Vec<usize> = tree.list("d").iter().map(String::len).collect();
    if !kernel_takes_long_names() {
        assert_eq!(listed, [1], "a longer one would fail the whole listing");
        return;
    }
    assert_eq!(listed, [2000, longest, 1]);
    let long = "a".repeat(2000);
    let long = dir.join(long);
    assert_eq!(fs::read(&long).expect("read"), b"");
    fs::write(&long, "text").expect("write");
    assert_eq!(fs::read(&long).expect("read"), b"text");
    refused(fs::rename(&long, dir.join("x".repeat(1025))), libc::ENAMETOOLONG);
    fs::rename(&long, dir.join("short")).expect("rename");
    // The whole path is too long for any system call.
    let handle = File::open(&dir).expect("open");
    nix::unistd::unlinkat(&handle, "b".repeat(longest).as_str(), UnlinkatFlags::NoRemoveDir).expect("unlink");
    assert_eq!(tree.list("d"), ["c", "short"]);
}

/// Whether this is Linux 6.14 or later.
fn kernel_takes_long_names() -> bool {
    let release = nix::sys::utsname::uname().expect("a name");
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
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
