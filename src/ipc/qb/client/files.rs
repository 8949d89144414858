//! The client's side of a connection's files: opens and maps what the server named, after checking
//! that it is what a server makes. Symbolic links are not followed, and a data file must lie beside
//! its header, so that a server cannot point us at another file. Should it cut a file later, the
//! fault is caught.

use super::ClientError;
use crate::ipc::qb::mapping::{Mapping, allocate};
use crate::ipc::qb::ring::Ring;
use crate::ipc::qb::wire::{parse_ring_header, ring_header};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The three rings' files, mapped.
#[derive(Debug)]
pub(super) struct Files {
    rings: [Ring; 3],
    /// Of all files, to remove them should the server not do it.
    paths: Vec<PathBuf>,
}

/// An open ring.
struct OpenRing {
    header: File,
    data: File,
    paths: [PathBuf; 2],
}

impl Files {
    /// Opens the rings with these base paths, with `len` bytes of data each.
    pub(super) fn open(bases: &[Vec<u8>; 3], len: usize) -> Result<(Self, [Ring; 3]), ClientError> {
        let [requests, responses, events] = bases;
        let opened = [open_ring(requests, len)?, open_ring(responses, len)?, open_ring(events, len)?];
        // A connection that stands must not break because others fill the memory later. The server
        // is doing the second one right now.
        opened[..2].iter().try_for_each(|ring| allocate(&ring.data, 0, len))?;
        let part = |file, len| -> (BorrowedFd<'_>, usize) { (File::as_fd(file), len) };
        let parts: Vec<_> = opened
            .iter()
            .flat_map(|ring| [part(&ring.header, ring_header::LEN), part(&ring.data, len)])
            .collect();
        let (mapping, at) = Mapping::of_files(&parts)?;
        let mapping = Arc::new(mapping);
        let ring = |index: usize| {
            Ring::new(Arc::clone(&mapping), at[2 * index], at[2 * index + 1], len)
                .ok_or(ClientError::Protocol("size of a ring"))
        };
        let rings = [ring(0)?, ring(1)?, ring(2)?];
        for ring in &rings {
            ring.references().fetch_add(1, Ordering::AcqRel);
        }
        let paths = opened.into_iter().flat_map(|ring| ring.paths).collect();
        Ok((Self { rings: rings.clone(), paths }, rings))
    }

    /// Tells the server that we are done.
    pub(super) fn close(&self) {
        self.rings.iter().for_each(Ring::close);
    }

    /// Removes the files and their directory in the place of a server that was killed, as far as
    /// we may: what is left, the next server removes.
    pub(super) fn remove(&self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
        if let Some(directory) = self.paths.first().and_then(|path| path.parent()) {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

fn open_ring(base: &[u8], len: usize) -> Result<OpenRing, ClientError> {
    let header_path = [base, b"-header"].concat();
    let header_path = Path::new(OsStr::from_bytes(&header_path));
    if !header_path.is_absolute() {
        return Err(ClientError::Protocol("path of a ring"));
    }
    let header = open_file(header_path, ring_header::LEN)?;
    let mut bytes = vec![0; ring_header::LEN];
    header.read_exact_at(&mut bytes, 0)?;
    let (words, data_path) = parse_ring_header(&bytes)?;
    let data_path = Path::new(OsStr::from_bytes(&data_path));
    if data_path.parent() != header_path.parent() || data_path.file_name().is_none() {
        return Err(ClientError::Protocol("path of a ring's data"));
    }
    if u64::from(words) * 4 != len as u64 {
        return Err(ClientError::Protocol("size of a ring"));
    }
    let data = open_file(data_path, len)?;
    Ok(OpenRing { header, data, paths: [header_path.into(), data_path.into()] })
}

/// Opens a regular file of at least `least` bytes.
pub(super) fn open_file(path: &Path, least: usize) -> Result<File, ClientError> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = open(path, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    let regular = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG;
    if !regular || u64::try_from(stat.st_size).unwrap_or(0) < least as u64 {
        return Err(ClientError::Protocol("a file of a ring"));
    }
    Ok(file.into())
}
