//! Reading and writing files: offsets, appends, sizes, mappings.

use crate::fixture::{Tree, refused};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::process::Command;

const MAX: usize = 1 << 20;

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31 + at / 4096 + seed) % 251) as u8).collect()
}

#[test]
fn what_was_written_is_read() {
    let tree = Tree::new();
    for length in [0, 1, 4095, 4096, 4097, 100_000, MAX] {
        let data = pattern(length, 1);
        tree.write("f", &data);
        assert!(tree.read("f") == data, "{length} bytes");
        assert_eq!(fs::metadata(tree.path("f")).expect("stat").size(), length as u64);
    }
    let tree = tree.reload();
    assert!(tree.read("f") == pattern(MAX, 1), "after a restart");
}

#[test]
fn a_megabyte_is_one_change_and_pieces_are_many() {
    let tree = Tree::new();
    let data = pattern(MAX, 2);
    let mut file = File::create(tree.path("f")).expect("create");
    let before = tree.cfs.engine.read().version();
    file.write_all(&data).expect("write");
    assert_eq!(tree.cfs.engine.read().version(), before + 1, "one request");
    drop(file);
    let file = File::create(tree.path("g")).expect("create");
    for (index, piece) in data.chunks(4096).enumerate() {
        file.write_all_at(piece, index as u64 * 4096).expect("write");
    }
    drop(file);
    assert!(tree.read("g") == data);
}

#[test]
fn unaligned_overwrites_within_and_across_pages() {
    let tree = Tree::new();
    let mut expected = pattern(20_000, 3);
    tree.write("f", &expected);
    let file = OpenOptions::new().read(true).write(true).open(tree.path("f")).expect("open");
    for (at, length) in [(0, 1), (4090, 20), (1, 19_999), (8192, 4096), (19_999, 1), (5, 0)] {
        let piece = pattern(length, at);
        file.write_all_at(&piece, at as u64).expect("write");
        expected[at..at + length].copy_from_slice(&piece);
        let mut read = vec![0; expected.len()];
        file.read_exact_at(&mut read, 0).expect("read");
        assert!(read == expected, "{length} bytes at {at}");
    }
    assert!(tree.read("f") == expected);
    assert!(**tree.cfs.config(&"f".into()).expect("there") == *expected, "the database has the same");
}

#[test]
fn a_write_behind_the_end_fills_with_zeroes() {
    let tree = Tree::new();
    let file = File::create(tree.path("f")).expect("create");
    file.write_all_at(b"end", 10_000).expect("write");
    let read = tree.read("f");
    assert_eq!(read.len(), 10_003);
    assert!(read[..10_000].iter().all(|byte| *byte == 0) && read.ends_with(b"end"));
}

#[test]
fn truncate_cuts_and_fills() {
    let tree = Tree::new();
    let path = tree.write("f", "123456");
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    file.set_len(3).expect("truncate");
    assert_eq!(tree.read("f"), b"123");
    file.set_len(6).expect("truncate");
    assert_eq!(tree.read("f"), b"123\0\0\0", "what was cut does not come back");
    nix::unistd::truncate(&path, 1).expect("truncate");
    assert_eq!(tree.read("f"), b"1");
    nix::unistd::truncate(&path, 0).expect("truncate");
    file.set_len(5000).expect("an empty file can grow, too");
    assert_eq!(tree.read("f"), [0; 5000]);
    drop(file);
    assert_eq!(tree.reload().read("f"), [0; 5000]);
}

#[test]
fn opening_with_truncation_empties_and_keeps_the_inode() {
    let tree = Tree::new();
    let path = tree.write("f", pattern(9000, 0));
    let inode = fs::metadata(&path).expect("stat").ino();
    tree.write("f", "new");
    assert_eq!(tree.read("f"), b"new");
    assert_eq!(fs::metadata(&path).expect("stat").ino(), inode);
}

#[test]
fn a_file_ends_at_one_megabyte() {
    let tree = Tree::new();
    let file = File::create(tree.path("f")).expect("create");
    refused(file.write_at(b"x", MAX as u64), libc::EFBIG);
    file.write_all_at(b"x", MAX as u64 - 1).expect("the last byte");
    refused(file.write_at(&[1; 4097], MAX as u64 - 4096), libc::EFBIG);
    refused(file.set_len(MAX as u64 + 1), libc::EFBIG);
    refused(file.set_len(1 << 40), libc::EFBIG);
    file.set_len(MAX as u64).expect("as long as it may be");
    let append = OpenOptions::new().append(true).open(tree.path("f")).expect("open");
    refused((&append).write(b"x"), libc::EFBIG);
    assert_eq!(tree.read("f").len(), MAX);
    assert_eq!((&file).write(&vec![1; MAX + 1]).expect("in part"), MAX, "what fits is written");
}

#[test]
fn appends_of_two_descriptors_land_one_after_the_other() {
    let tree = Tree::new();
    let path = tree.write("f", "");
    let open = || OpenOptions::new().append(true).open(&path).expect("open");
    let (mut one, mut two) = (open(), open());
    let mut expected = Vec::new();
    for round in 0..200 {
        let line = format!("line {round}\n");
        (if round % 2 == 0 { &mut one } else { &mut two }).write_all(line.as_bytes()).expect("append");
        expected.extend_from_slice(line.as_bytes());
    }
    assert_eq!(tree.read("f"), expected);
}

#[test]
fn an_append_lands_at_the_true_end() {
    let tree = Tree::new();
    let path = tree.write("f", pattern(8000, 4));
    let mut file = OpenOptions::new().read(true).append(true).open(&path).expect("open");
    // The kernel has the last page, and believes that it ends at 8000.
    let mut read = Vec::new();
    file.read_to_end(&mut read).expect("read");
    tree.write_elsewhere("f", 8000, b"from elsewhere, ");
    file.write_all(b"from here").expect("append");
    tree.drain();
    let expected = [&pattern(8000, 4)[..], b"from elsewhere, from here"].concat();
    assert!(**tree.cfs.config(&"f".into()).expect("there") == *expected, "in the database");
    assert!(tree.read("f") == expected, "by the kernel");
    assert_eq!(fs::metadata(&path).expect("stat").size(), expected.len() as u64);
    file.write_all(b", again").expect("append");
    assert!(tree.read("f").ends_with(b"from elsewhere, from here, again"));
}

#[test]
fn an_append_lands_at_the_true_end_also_when_nobody_told_the_kernel() {
    let tree = Tree::new();
    let path = tree.write("f", "1234");
    let mut file = OpenOptions::new().append(true).open(&path).expect("open");
    let at = pmxcfs::memdb::WriteAt::End;
    let change = pmxcfs::memdb::Change::Write { path: "f".into(), at, data: b"5678".to_vec() };
    tree.cfs.engine.submit_wait(change).expect("written");
    file.write_all(b"9").expect("append");
    tree.drain();
    assert_eq!(tree.read("f"), b"123456789");
}

#[test]
fn shared_mappings_show_the_file() {
    let tree = Tree::new();
    let data = pattern(10_000, 5);
    let path = tree.write("f", &data);
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("open");
    let length = std::num::NonZeroUsize::new(data.len()).expect("not empty");
    let map = || {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        // SAFETY: the mapping is only read, and the file stays as long as it is.
        unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0) }.expect("mmap")
    };
    let view = map();
    // SAFETY: the mapping has this length, and nobody shortens the file.
    let bytes = unsafe { std::slice::from_raw_parts(view.cast::<u8>().as_ptr(), data.len()) };
    assert!(bytes == data);
    file.write_all_at(b"changed", 4093).expect("write");
    assert_eq!(&bytes[4093..4100], b"changed");
    tree.write_elsewhere("f", 0, b"elsewhere");
    assert_eq!(&bytes[..9], b"elsewhere");
    // SAFETY: nothing looks at it any more.
    unsafe { nix::sys::mman::munmap(view, data.len()) }.expect("munmap");
}

#[test]
fn writing_through_a_mapping_reaches_the_database() {
    let tree = Tree::new();
    let path = tree.write("f", vec![b'.'; 5000]);
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("open");
    let length = std::num::NonZeroUsize::new(5000).expect("not empty");
    use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync, munmap};
    let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: only this test uses the file.
    let view = unsafe { mmap(None, length, flags, MapFlags::MAP_SHARED, &file, 0) }.expect("mmap");
    // SAFETY: the mapping is 5000 bytes long.
    unsafe { view.cast::<u8>().as_ptr().add(4500).write(b'!') };
    // SAFETY: the mapping is there until the next line.
    unsafe { msync(view, 5000, MsFlags::MS_SYNC) }.expect("msync");
    // SAFETY: nothing looks at it any more.
    unsafe { munmap(view, 5000) }.expect("munmap");
    drop(file);
    let content = tree.cfs.config(&"f".into()).expect("there");
    assert_eq!((content.len(), content[4499], content[4500]), (5000, b'.', b'!'));
}

#[test]
fn direct_and_synchronous_opens_work() {
    let tree = Tree::new();
    let mut direct = OpenOptions::new();
    direct.read(true).write(true).create(true).custom_flags(libc::O_DIRECT);
    let file = direct.open(tree.path("f")).expect("O_DIRECT");
    let data = pattern(3 * 4096 + 17, 6);
    file.write_all_at(&data, 0).expect("write");
    assert!(tree.read("f") == data);
    let commits = tree.cfs.engine.commit_stats().commits;
    let mut sync = OpenOptions::new();
    let mut file = sync.write(true).custom_flags(libc::O_SYNC).open(tree.path("f")).expect("O_SYNC");
    file.write_all(b"stored").expect("write");
    assert!(tree.cfs.engine.commit_stats().commits > commits, "on disk before the write returned");
    assert!(tree.cfs.engine.is_stored(tree.cfs.engine.read().version()));
}

#[test]
fn programs_copy_compare_and_count() {
    let tree = Tree::new();
    tree.write("f", pattern(300_000, 7));
    let script = "cd \"$TREE\" && cp f g && cmp f g && cp --reflink=auto -p f h && cmp f h && wc -c < h && \
                  tail -c 5 f | cmp - <(tail -c 5 g) && dd if=f of=i bs=777 conv=fsync status=none && cmp f i";
    let mut bash = Command::new("/bin/bash");
    let output = bash.arg("-c").arg(script).env("TREE", tree.root()).output().expect("bash");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"300000\n");
}

#[test]
fn seeking_as_stock() {
    let tree = Tree::new();
    let path = tree.write("f", "0123456789");
    let mut file = File::open(&path).expect("open");
    assert_eq!(file.seek(SeekFrom::End(-3)).expect("seek"), 7);
    let mut rest = String::new();
    file.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "789");
    let hole = nix::unistd::lseek(&file, 2, nix::unistd::Whence::SeekHole).expect("SEEK_HOLE");
    assert_eq!(hole, 10, "files have no holes");
}
