//! The errno of every operation that is refused, and that refused operations change nothing.

use crate::fixture::{NODE, Tree, refused, www_data};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

fn set_mtime(path: &Path, seconds: i64) -> nix::Result<()> {
    set_times(path, TimeSpec::new(seconds, 0), TimeSpec::new(seconds, 999_999_999))
}

fn set_times(path: &Path, atime: TimeSpec, mtime: TimeSpec) -> nix::Result<()> {
    utimensat(AT_FDCWD, path, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
}

fn mtime(path: &Path) -> i64 {
    fs::symlink_metadata(path).expect("stat").mtime()
}

#[test]
fn making_and_removing() {
    let tree = Tree::new();
    tree.mkdir("d/sub");
    tree.write("d/f", "x");
    let at = |path: &str| tree.path(path);
    refused(fs::create_dir(at("missing/d")), libc::ENOENT);
    refused(File::create(at("missing/f")), libc::ENOENT);
    refused(fs::create_dir(at("d/f/d")), libc::ENOTDIR);
    refused(File::create(at("d/f/f")), libc::ENOTDIR);
    refused(fs::create_dir(at("d/f")), libc::EEXIST);
    refused(fs::create_dir(at("d/sub")), libc::EEXIST);
    refused(File::create_new(at("d/f")), libc::EEXIST);
    refused(File::create(at("d")), libc::EISDIR);
    refused(File::open(at("d/missing")), libc::ENOENT);
    refused(fs::read(at("d")), libc::EISDIR);
    refused(fs::remove_file(at("d/missing")), libc::ENOENT);
    refused(fs::remove_dir(at("d/missing")), libc::ENOENT);
    refused(fs::remove_file(at("d/sub")), libc::EISDIR);
    refused(fs::remove_dir(at("d/f")), libc::ENOTDIR);
    refused(fs::remove_dir(at("d")), libc::ENOTEMPTY);
    refused(fs::remove_dir(at("")), libc::EBUSY);
    refused(nix::unistd::truncate(&at("d"), 0), libc::EISDIR);
    refused(nix::unistd::truncate(&at("missing"), 0), libc::ENOENT);
    assert_eq!(tree.list("d"), ["f", "sub"]);
    assert_eq!(tree.read("d/f"), b"x");
    fs::remove_file(at("d/f")).expect("unlink");
    fs::remove_dir(at("d/sub")).expect("rmdir");
    fs::remove_dir(at("d")).expect("rmdir");
    refused(fs::metadata(at("d")), libc::ENOENT);
}

#[test]
fn renaming() {
    let tree = Tree::new();
    tree.mkdir("full/sub");
    tree.mkdir("empty");
    tree.write("full/f", "f");
    tree.write("g", "g");
    let rename = |from: &str, to: &str| fs::rename(tree.path(from), tree.path(to));
    refused(rename("missing", "x"), libc::ENOENT);
    refused(rename("g", "missing/x"), libc::ENOENT);
    refused(rename("g", "full/f/x"), libc::ENOTDIR);
    refused(rename("full", "other"), libc::ENOTEMPTY);
    refused(rename("empty", "full"), libc::ENOTEMPTY);
    refused(rename("full", "empty"), libc::ENOTEMPTY);
    refused(rename("g", "empty"), libc::EISDIR);
    refused(rename("empty", "g"), libc::ENOTDIR);
    refused(rename("empty", "empty/x"), libc::EINVAL);
    rename("g", "g").expect("onto itself");
    let flag = |to: &str, flags| renameat2(AT_FDCWD, &tree.path("g"), AT_FDCWD, &tree.path(to), flags);
    refused(flag("free", RenameFlags::RENAME_NOREPLACE), libc::EINVAL);
    refused(flag("full/f", RenameFlags::RENAME_NOREPLACE), libc::EEXIST);
    refused(flag("full/f", RenameFlags::RENAME_EXCHANGE), libc::EINVAL);
    refused(flag("free", RenameFlags::RENAME_WHITEOUT), libc::EINVAL);
    assert_eq!((tree.list("full"), tree.read("g")), (vec!["f".to_owned(), "sub".to_owned()], b"g".to_vec()));
}

#[test]
fn operations_that_there_are_not() {
    let tree = Tree::new();
    let path = tree.write("f", "x");
    for _ in 0..2 {
        refused(symlink("f", tree.path("link")), libc::ENOSYS);
        refused(fs::hard_link(&path, tree.path("hard")), libc::EPERM);
        for kind in [SFlag::S_IFIFO, SFlag::S_IFCHR, SFlag::S_IFSOCK] {
            refused(mknod(&tree.path("node"), kind, Mode::S_IRUSR, 0x103), libc::ENOSYS);
        }
        refused(set_xattr(&path), libc::EOPNOTSUPP);
        refused(get_xattr(&path), libc::EOPNOTSUPP);
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        let mode = nix::fcntl::FallocateFlags::empty();
        refused(nix::fcntl::fallocate(&file, mode, 0, 100), libc::EOPNOTSUPP);
        let mut unnamed = OpenOptions::new();
        refused(unnamed.write(true).custom_flags(libc::O_TMPFILE).open(tree.root()), libc::EOPNOTSUPP);
    }
    refused(symlink("x", &path), libc::EEXIST);
    refused(fs::hard_link(&path, tree.path(".version")), libc::EEXIST);
    mknod(&tree.path("plain"), SFlag::S_IFREG, Mode::S_IRUSR, 0).expect("a plain file");
    refused(mknod(&tree.path("plain"), SFlag::S_IFREG, Mode::S_IRUSR, 0), libc::EEXIST);
    assert_eq!(tree.read("plain"), b"");
    let file = File::open(&path).expect("open");
    file.lock_shared_then_unlock();
}

/// Locks of files are the kernel's own business.
trait FileLocks {
    fn lock_shared_then_unlock(self);
}

impl FileLocks for File {
    fn lock_shared_then_unlock(self) {
        let lock = nix::fcntl::Flock::lock(self, nix::fcntl::FlockArg::LockExclusive);
        lock.map_err(|(_, error)| error)
            .expect("flock")
            .unlock()
            .map_err(|(_, error)| error)
            .expect("unlock");
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

fn set_xattr(path: &Path) -> io::Result<()> {
    let path = c_path(path);
    // SAFETY: both strings end with NUL, and the value is one byte long.
    let result = unsafe { libc::setxattr(path.as_ptr(), c"user.x".as_ptr(), [1u8].as_ptr().cast(), 1, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get_xattr(path: &Path) -> io::Result<isize> {
    let path = c_path(path);
    // SAFETY: both strings end with NUL; only the length is asked for.
    let result = unsafe { libc::getxattr(path.as_ptr(), c"user.x".as_ptr(), std::ptr::null_mut(), 0) };
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn chmod_accepts_what_is_so_anyway() {
    let tree = Tree::new();
    for dir in ["priv/lock/l", "nodes/x/priv", "d"] {
        tree.mkdir(dir);
    }
    tree.write("priv/f", "");
    tree.write("d/f", "");
    let rows = [
        ("", 0o640),
        ("d", 0o640),
        ("d/f", 0o640),
        (".version", 0o640),
        (".debug", 0o640),
        ("nodes/x", 0o640),
        ("priv", 0o600),
        ("priv/f", 0o600),
        ("priv/lock/l", 0o600),
        ("nodes/x/priv", 0o600),
    ];
    for (path, accepted) in rows {
        let before = fs::metadata(tree.path(path)).expect("stat").mode();
        for mode in [0o600, 0o640, 0o644, 0o755, 0o440, 0o700, 0, 0o1640, 0o4640, 0o2600] {
            let result = fs::set_permissions(tree.path(path), fs::Permissions::from_mode(mode));
            if mode == accepted { result.expect(path) } else { refused(result, libc::EPERM) }
        }
        assert_eq!(fs::metadata(tree.path(path)).expect("stat").mode(), before, "{path}");
    }
    refused(fs::set_permissions(tree.path("no"), fs::Permissions::from_mode(0o640)), libc::ENOENT);
}

#[test]
fn chown_accepts_what_is_so_anyway() {
    let tree = Tree::new();
    tree.mkdir("priv");
    tree.write("f", "");
    let group = www_data();
    for path in ["", "f", "priv", ".version", "local"] {
        let path = tree.path(path);
        for (uid, gid) in [(Some(0), Some(group)), (Some(0), None), (None, Some(group)), (None, None)] {
            lchown(&path, uid, gid).expect("accepted");
        }
        for (uid, gid) in
            [(Some(1), None), (None, Some(0)), (Some(0), Some(group + 1)), (Some(1), Some(group))]
        {
            refused(lchown(&path, uid, gid), libc::EPERM);
        }
    }
    refused(chown(tree.path("missing"), Some(0), None), libc::ENOENT);
}

#[test]
fn times_are_whole_seconds_of_32_bits() {
    let tree = Tree::new();
    tree.mkdir("d");
    tree.write("f", "x");
    for path in [tree.path("f"), tree.path("d")] {
        for (seconds, stored) in [(1234, 1234), (0, 0), (-5, 4_294_967_291), (5_000_000_000, 705_032_704)] {
            set_mtime(&path, seconds).expect("utimens");
            let stat = fs::metadata(&path).expect("stat");
            assert_eq!((stat.atime(), stat.mtime(), stat.ctime()), (stored, stored, stored), "{seconds}");
            assert_eq!(stat.mtime_nsec(), 0);
        }
    }
    let path = tree.path("f");
    set_mtime(&path, 100).expect("utimens");
    let (some, omitted) = (TimeSpec::new(77, 0), TimeSpec::UTIME_OMIT);
    set_times(&path, some, omitted).expect("accepted");
    assert_eq!(mtime(&path), 100, "the access time alone changes nothing");
    set_times(&path, omitted, some).expect("accepted");
    assert_eq!(mtime(&path), 100, "as in stock");
    let now = TimeSpec::UTIME_NOW;
    set_times(&path, now, now).expect("touch");
    assert!(mtime(&path) >= i64::from(tree.cfs.clock.unix()) - 2);
    assert_eq!(tree.read("f"), b"x");
    refused(set_mtime(&tree.path("missing"), 1), libc::ENOENT);
    for path in ["", ".version", ".debug", "local"] {
        refused(set_mtime(&tree.path(path), 1), libc::EACCES);
    }
}

#[test]
fn generated_nodes_stay() {
    let tree = Tree::new();
    tree.mkdir(&format!("nodes/{NODE}"));
    tree.mkdir("d");
    tree.write("f", "x");
    let at = |path: &str| tree.path(path);
    for path in [".version", ".debug", "local", "lxc"] {
        refused(fs::remove_file(at(path)), libc::EACCES);
        refused(fs::remove_dir(at(path)), libc::ENOTDIR);
        refused(fs::create_dir(at(path)), libc::EEXIST);
        refused(File::create_new(at(path)), libc::EEXIST);
        refused(fs::rename(at(path), at("x")), libc::EACCES);
        refused(fs::rename(at("f"), at(path)), libc::EACCES);
        refused(fs::rename(at(path), at("d/x")), libc::EACCES);
        refused(fs::rename(at("d"), at(path)), libc::ENOTDIR);
        refused(symlink("f", at(path)), libc::EEXIST);
    }
    refused(fs::metadata(at(".version/x")), libc::ENOTDIR);
    refused(fs::create_dir(at(".version/x")), libc::ENOTDIR);
    assert_eq!(tree.read("f"), b"x");
    assert_eq!(tree.list("d").len(), 0);
}

#[test]
fn without_quorum_nothing_changes() {
    let tree = Tree::new();
    tree.mkdir("d/empty");
    tree.write("d/f", "x");
    let open = OpenOptions::new().write(true).open(tree.path("d/f")).expect("open");
    tree.set_quorate(false);
    let at = |path: &str| tree.path(path);
    refused(fs::create_dir(at("n")), libc::EACCES);
    refused(File::create(at("n")), libc::EACCES);
    refused(fs::write(at("d/f"), "y"), libc::EACCES);
    refused(open.write_at(b"y", 0), libc::EACCES);
    refused(open.set_len(1), libc::EACCES);
    refused(nix::unistd::truncate(&at("d/f"), 1), libc::EACCES);
    refused(fs::remove_file(at("d/f")), libc::EACCES);
    refused(fs::remove_dir(at("d/empty")), libc::EACCES);
    refused(fs::rename(at("d/f"), at("d/g")), libc::EACCES);
    refused(set_mtime(&at("d/f"), 1), libc::EACCES);
    refused(mknod(&at("n"), SFlag::S_IFREG, Mode::S_IRUSR, 0), libc::EACCES);
    // What asks for nothing new is none of its business.
    let append = OpenOptions::new().append(true).open(at("d/f")).expect("root may open");
    refused((&append).write(b"y"), libc::EACCES);
    append.sync_all().expect("nothing to store");
    fs::set_permissions(at("d/f"), fs::Permissions::from_mode(0o640)).expect("chmod");
    chown(at("d/f"), Some(0), None).expect("chown");
    refused(fs::create_dir(at("d")), libc::EEXIST);
    refused(fs::remove_file(at("d/missing")), libc::ENOENT);
    fs::write(at(".debug"), "0\n").expect(".debug needs no quorum");
    assert_eq!((tree.read("d/f"), tree.list("d")), (b"x".to_vec(), vec!["empty".to_owned(), "f".to_owned()]));
    tree.set_quorate(true);
    fs::write(at("d/f"), "y").expect("again");
}

/// ENOENT as with the stock daemon. Programs do not expect ESTALE of a local tree.
#[test]
fn removed_working_directory_is_not_found() {
    let tree = Tree::new();
    for elsewhere in [false, true] {
        let path = tree.mkdir("d");
        let opened = File::open(&path).expect("open");
        if elsewhere {
            tree.elsewhere(pmxcfs::memdb::Change::Delete { path: "d".into() });
        } else {
            fs::remove_dir(&path).expect("removed");
        }
        refused(opened.metadata(), libc::ENOENT);
        let inside =
            |name: &str| format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&opened));
        refused(fs::metadata(inside(".")), libc::ENOENT);
        refused(set_mtime(Path::new(&inside(".")), 99), libc::ENOENT);
        refused(fs::metadata(inside("x")), libc::ENOENT);
        refused(fs::write(inside("x"), "x"), libc::ENOENT);
        refused(fs::create_dir(inside("x")), libc::ENOENT);
    }
}
