//! All views that programs have of the directory of the pairs, compared with the tree.

use crate::fixture::Tree;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use pmxcfs::memdb::ROOT;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Names that operations use.
pub const NAMES: [&str; 4] = ["f", "g", "n", "s"];

/// Attributes determined by the tree.
pub struct Node {
    ino: u64,
    is_dir: bool,
    size: u64,
    mtime: i64,
    content: Option<Vec<u8>>,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ino, is_dir, size, mtime, content } = self;
        let content = content.as_deref().map(show);
        write!(f, "inode {ino}, directory {is_dir}, size {size}, mtime {mtime}, content {content:?}")
    }
}

/// Contents of the tree below `d`.
pub fn truth(tree: &Tree) -> BTreeMap<String, Node> {
    let db = tree.cfs.engine.read();
    let directory = db.lookup(ROOT, b"d").expect("the directory stays").inode;
    let found = NAMES.into_iter().filter_map(|name| {
        let entry = db.lookup(directory, name.as_bytes())?;
        let content = entry.content().map(|content| content.to_vec());
        let (size, mtime) = (entry.size(), i64::from(entry.mtime));
        Some((name.to_owned(), Node { ino: entry.inode, is_dir: entry.is_dir(), size, mtime, content }))
    });
    found.collect()
}

/// View by paths: names, attributes, and contents by a new open and by a new mapping.
///
/// # Errors
/// Fails if a mapping has other bytes than a read.
pub fn by_path(tree: &Tree) -> Result<BTreeMap<String, Node>, String> {
    let mut found = BTreeMap::new();
    for name in NAMES {
        let path = tree.path(&format!("d/{name}"));
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let content = if meta.is_file() { Some(content_of(&path)?) } else { None };
        let node = Node {
            ino: meta.ino(),
            is_dir: meta.is_dir(),
            size: if meta.is_dir() { 0 } else { meta.size() },
            mtime: meta.mtime(),
            content,
        };
        found.insert(name.to_owned(), node);
    }
    Ok(found)
}

fn content_of(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let read = whole(&file).map_err(|error| format!("{}: {error}", path.display()))?;
    let pages = mapped(&file, read.len());
    if pages == read { Ok(read) } else { Err(format!("{}: a mapping differs from a read", path.display())) }
}

/// Reads all bytes of an open file.
pub fn whole(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 3000];
    loop {
        let taken = file.read_at(&mut piece, bytes.len() as u64)?;
        if taken == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&piece[..taken]);
    }
}

/// Reads the bytes of a file by a mapping.
pub fn mapped(file: &File, length: usize) -> Vec<u8> {
    let Some(size) = NonZeroUsize::new(length) else { return Vec::new() };
    // SAFETY: a new private mapping of `size` bytes; no other code knows its address.
    let address = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0) };
    let address = address.expect("files can be mapped");
    // The kernel writes the bytes to a pipe: a page that was truncated meanwhile is EFAULT and not a signal.
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let mut reader = File::from(reader);
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let piece = (length - bytes.len()).min(4096);
        // SAFETY: the range lies within the mapping, which lives until the munmap below.
        let from =
            unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>().add(bytes.len()), piece) };
        let Ok(taken) = nix::unistd::write(&writer, from) else { break };
        let mut copied = vec![0; taken];
        reader.read_exact(&mut copied).expect("what was written can be read");
        bytes.extend_from_slice(&copied);
    }
    // SAFETY: the mapping made above; nothing refers to it any more.
    unsafe { munmap(address, length) }.expect("unmapped");
    bytes
}

/// Short form of contents, for messages: runs of equal bytes.
pub fn show(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        text += &format!("{}x{} ", char::from(run[0]).escape_default(), run.len());
    }
    text
}

/// Size of a file as reported by the daemon, independent of the kernel's caches.
pub fn size_from_the_daemon(path: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("a path without NUL");
    // SAFETY: all-zero bytes are a valid value of this plain struct.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_STATX_FORCE_SYNC;
    // SAFETY: `path` is a C string and `stat` is writable; both outlive the call.
    let result =
        unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_SIZE, &raw mut stat) };
    assert_eq!(result, 0, "statx: {}", io::Error::last_os_error());
    stat.stx_size
}
