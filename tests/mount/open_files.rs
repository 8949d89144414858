//! Files that were removed or replaced while open: they are read on, and written on by those
//! who had them open when this node removed them.

use crate::fixture::{Tree, refused};
use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync, munmap};
use std::ffi::c_void;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::ptr::NonNull;
use std::time::UNIX_EPOCH;

const LENGTH: usize = 200_000;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 253) as u8).collect()
}

/// Drops the pages that the kernel has of all files, so that reads reach the daemon.
fn drop_pages(file: &File) {
    nix::fcntl::posix_fadvise(file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .expect("fadvise");
}

fn check(file: &mut File, how: &str) {
    drop_pages(file);
    let stat = file.metadata().expect("fstat");
    assert_eq!((stat.nlink(), stat.size(), stat.mode()), (0, LENGTH as u64, 0o100640), "{how}");
    let mut part = vec![0; 5000];
    file.read_exact_at(&mut part, 100_000).expect("pread");
    assert!(part == content()[100_000..105_000], "{how}");
    let mut all = Vec::new();
    file.read_to_end(&mut all).expect("read");
    assert!(all == content(), "{how}");
}

/// A shared mapping of a whole file.
struct Mapping {
    at: NonNull<c_void>,
    length: usize,
}

impl Mapping {
    fn of(file: &File, length: usize) -> Self {
        let size = NonZeroUsize::new(length).expect("a length");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free place, and only this value uses it.
        let at = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, file, 0) }.expect("mmap");
        Self { at, length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped until the value is dropped; the test accesses the file only between uses of the slice.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast().as_ptr(), self.length) }
    }

    fn sync(&self) {
        // SAFETY: the range is the mapping.
        unsafe { msync(self.at, self.length, MsFlags::MS_SYNC) }.expect("msync");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping, and no slice of it is left.
        unsafe { munmap(self.at, self.length) }.expect("munmap");
    }
}

#[test]
fn unlinked_files_are_read_to_the_end() {
    let tree = Tree::new();
    let path = tree.write("f", content());
    let mut one = File::open(&path).expect("open");
    let mut two = File::open(&path).expect("open");
    fs::remove_file(&path).expect("unlink");
    refused(fs::metadata(&path), libc::ENOENT);
    check(&mut one, "first");
    drop(one);
    check(&mut two, "second");
    assert!(tree.list("").iter().all(|name| !name.starts_with(".fuse")), "nothing is hidden in the tree");
}

#[test]
fn replaced_files_are_read_to_the_end() {
    let tree = Tree::new();
    let path = tree.write("f", content());
    let mut old = File::open(&path).expect("open");
    tree.write("new", "new");
    fs::rename(tree.path("new"), &path).expect("rename");
    check(&mut old, "replaced");
    assert_eq!(tree.read("f"), b"new");
}

#[test]
fn files_removed_elsewhere_are_read_to_the_end() {
    let tree = Tree::new();
    let path = tree.write("f", content());
    let mut old = File::open(&path).expect("open");
    tree.elsewhere(pmxcfs::memdb::Change::Delete { path: "f".into() });
    refused(fs::metadata(&path), libc::ENOENT);
    check(&mut old, "removed");
    tree.write("f", "another");
    check(
        &mut File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&old))).expect("reopen"),
        "by fd",
    );
}

#[test]
fn a_file_removed_here_is_written_on() {
    let tree = Tree::new();
    let path = tree.write("f", "old");
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("open");
    let mut end = OpenOptions::new().append(true).open(&path).expect("open");
    fs::remove_file(&path).expect("unlink");
    let version = tree.cfs.engine.read().version();
    tree.write("f", "new");
    let now = file.metadata().expect("fstat").mtime();
    assert_eq!(file.write_at(b"abcdef", 4000).expect("write"), 6);
    end.write_all(b"gh").expect("append");
    file.set_len(4007).expect("truncate");
    file.sync_all().expect("nothing to store");
    drop_pages(&file);
    let mut read = vec![0; 5000];
    assert_eq!(file.read_at(&mut read, 0).expect("read"), 4007);
    assert_eq!((&read[..5], &read[3999..4007]), (&b"old\0\0"[..], &b"\0abcdefg"[..]));
    let stat = file.metadata().expect("fstat");
    assert_eq!((stat.nlink(), stat.size()), (0, 4007));
    assert!(stat.mtime() >= now);
    refused(file.write_at(b"x", 1 << 20), libc::EFBIG);
    refused(file.set_len((1 << 20) + 1), libc::EFBIG);
    let epoch = fs::FileTimes::new().set_accessed(UNIX_EPOCH).set_modified(UNIX_EPOCH);
    file.set_times(epoch).expect("futimens");
    assert_eq!(file.metadata().expect("fstat").mtime(), 0);

    assert_eq!(tree.read("f"), b"new");
    assert_eq!(tree.cfs.engine.read().version(), version + 2, "made and written");
}

#[test]
fn a_mapping_of_a_removed_file_is_written_back() {
    let tree = Tree::new();
    let path = tree.write("f", content());
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("open");
    let mut mapping = Mapping::of(&file, LENGTH);
    fs::remove_file(&path).expect("unlink");
    mapping.bytes()[150_000] = b'!';
    mapping.sync();
    drop(mapping);
    file.sync_all().expect("stored");
    drop_pages(&file);
    let mut read = [0; 3];
    file.read_exact_at(&mut read, 149_999).expect("pread");
    assert_eq!(read, [content()[149_999], b'!', content()[150_001]]);
}

#[test]
fn a_file_removed_elsewhere_is_not_written_in_vain() {
    let tree = Tree::new();
    let path = tree.write("f", "x");
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("open");
    tree.elsewhere(pmxcfs::memdb::Change::Delete { path: "f".into() });
    refused(file.write_at(b"y", 0), libc::ENOENT);
    refused(file.set_len(0), libc::ENOENT);
    file.sync_all().expect("nothing to store");
    let mut read = [0];
    file.read_exact_at(&mut read, 0).expect("read");
    assert_eq!(&read, b"x");
    tree.write("f", "new");
    refused(file.write_at(b"y", 0), libc::ENOENT);
    assert_eq!(tree.read("f"), b"new");
}

#[test]
fn a_working_directory_can_be_removed() {
    let tree = Tree::new();
    tree.mkdir("d");
    let script =
        "cd $TREE/d && rmdir $TREE/d && ! ls . 2>/dev/null && ! mkdir x 2>/dev/null && cd / && echo left";
    let output = tree.shell_as(0, 0, script);
    assert_eq!(output.stdout, b"left\n", "{output:?}");
}

/// While an unlink waits for its commit the entry is out of the tree already.
#[test]
fn readers_notice_nothing_of_a_removal() {
    let tree = Tree::new();
    for round in 0..30 {
        let path = tree.write("f", content());
        let file = File::open(&path).expect("open");
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| fs::remove_file(&path).expect("unlink"));
            while !remover.is_finished() {
                drop_pages(&file);
                let mut part = [0; 10];
                file.read_exact_at(&mut part, 150_000).expect("always readable");
                assert_eq!(part, content()[150_000..150_010], "round {round}");
            }
        });
    }
}
