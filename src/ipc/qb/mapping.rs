//! Memory shared with another process: mapped files, and the only functions that touch them. Each
//! access is checked against the mapping's length, so no caller needs `unsafe`, and none gets a
//! reference to the shared bytes: numbers are read and written as atomics, all else is copied.
#![allow(unsafe_code, reason = "maps memory that another process writes")]

use super::sigbus::Registration;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Several files mapped one after the other, or private memory in tests.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<c_void>,
    len: usize,
    /// Taken before the memory is unmapped.
    registration: Option<Registration>,
}

// SAFETY: the memory belongs to the process, not to a thread, and is reached only through the
// methods below, which access it atomically or copy it without ever forming a reference to it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// The size of a page.
pub(crate) fn page_size() -> usize {
    const SMALLEST: usize = 4096;
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(SMALLEST)
}

/// Allocates `len` bytes of a file from `at` on, so that no access to them can fail later for want of
/// memory. A file system that cannot do that leaves it to the access.
///
/// # Errors
/// If there is not enough memory now.
pub(crate) fn allocate(file: impl AsFd, at: usize, len: usize) -> nix::Result<()> {
    const TRIES: u32 = 5; // a timer's signals may interrupt each
    let at = libc::off_t::try_from(at).map_err(|_| Errno::EFBIG)?;
    let size = libc::off_t::try_from(len).map_err(|_| Errno::EFBIG)?;
    for _ in 0..TRIES {
        match fallocate(&file, FallocateFlags::empty(), at, size) {
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP) => return Ok(()),
            result => return result,
        }
    }
    Err(Errno::EINTR)
}

impl Mapping {
    /// Maps `files`, each with its length, and tells where each one starts. Should one be cut, the
    /// fault is caught and shows as [`Mapping::is_broken`].
    ///
    /// # Errors
    /// As of mmap, or if no more mappings can be guarded.
    pub(crate) fn of_files(files: &[(BorrowedFd<'_>, usize)]) -> io::Result<(Self, Vec<usize>)> {
        let page = page_size();
        let lens: Vec<usize> = files.iter().map(|(_, len)| len.next_multiple_of(page)).collect();
        let mut offsets = Vec::with_capacity(files.len());
        let mut mapping = Self::reserve(lens.iter().sum(), ProtFlags::PROT_NONE)?;
        let mut offset = 0;
        for ((file, _), &len) in files.iter().zip(&lens) {
            mapping.place(*file, offset, len)?;
            offsets.push(offset);
            offset += len;
        }
        mapping.register()?;
        Ok((mapping, offsets))
    }

    /// Maps one file in the same way.
    ///
    /// # Errors
    /// As of [`Mapping::of_files`].
    pub(crate) fn of_file(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let len = len.next_multiple_of(page_size());
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new memory at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, file, 0)? };
        let mut mapping = Self { base, len, registration: None };
        mapping.register()?;
        Ok(mapping)
    }

    fn register(&mut self) -> io::Result<()> {
        let start = self.base.as_ptr() as usize;
        self.registration = Some(Registration::new(start, self.len)?);
        Ok(())
    }

    /// Private zeroed memory, to test and fuzz what reads a mapping.
    ///
    /// # Errors
    /// As of mmap.
    pub(crate) fn private(len: usize) -> io::Result<Self> {
        let len = len.next_multiple_of(page_size());
        Self::reserve(len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    fn reserve(len: usize, access: ProtFlags) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: new memory at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE)? };
        Ok(Self { base, len, registration: None })
    }

    /// Maps a file over the reserved bytes at `offset`.
    fn place(&self, file: BorrowedFd<'_>, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "inside of the rest");
        let at = NonZeroUsize::new(self.base.as_ptr() as usize + offset);
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: the range is part of the reservation of `self` (asserted), which nobody uses yet.
        unsafe { mmap(at, size, access, flags, file, 0)? };
        Ok(())
    }

    /// Whether a file was cut under a guarded mapping: what was read since the last check is
    /// worth nothing, and nothing written arrives any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.registration.as_ref().is_some_and(Registration::is_broken)
    }

    /// Where `len` bytes at `offset` are.
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {offset} of a mapping of {}", self.len);
        // SAFETY: the result is inside of the mapping (asserted).
        unsafe { self.base.as_ptr().cast::<u8>().add(offset) }
    }

    /// The number at `offset`, which must be a multiple of 4.
    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset % 4 == 0, "aligned");
        let at = self.at(offset, 4).cast();
        // SAFETY: 4 mapped bytes (asserted by `at`), aligned as the base is a page, mapped for the
        // life of `self`. All accesses on this side are atomic, the other process's too as far as
        // it keeps to the protocol; if not, the value is arbitrary, which callers expect.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// The number at `offset`, which must be a multiple of 8.
    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0, "aligned");
        let at = self.at(offset, 8).cast();
        // SAFETY: as of `u32`, with 8 bytes.
        unsafe { AtomicU64::from_ptr(at) }
    }

    /// Copies `len` bytes out, to the end of `bytes`. They may change meanwhile: only the copy may be
    /// checked and used.
    pub(crate) fn append(&self, offset: usize, len: usize, bytes: &mut Vec<u8>) {
        let from = self.at(offset, len);
        bytes.reserve(len);
        let to = bytes.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: the source is mapped (asserted by `at`); `len` bytes behind the vector's own are
        // reserved and private, so they do not overlap, and after the copy they are initialized.
        // Another process may write the source at the same time; then the copy holds a mixture,
        // which is as hostile as any other content and checked after the copy.
        unsafe {
            std::ptr::copy_nonoverlapping(from, to, len);
            bytes.set_len(bytes.len() + len);
        }
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: the target is mapped (asserted by `at`), the source is private, so they do not
        // overlap. Another process may read or write the target at the same time; that harms
        // itself only, as this side reads back nothing it wrote.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // First: another mapping may get this address as soon as it is free.
        self.registration = None;
        // SAFETY: made by `reserve` with this length; `self` is gone, and all borrows with it.
        if let Err(error) = unsafe { munmap(self.base, self.len) } {
            log::error!("cannot unmap a ring: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::atomic::Ordering;

    fn file(len: usize) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; len]).unwrap();
        file
    }

    #[test]
    fn files_lie_one_after_the_other_in_whole_pages() {
        let (one, two) = (file(10), file(page_size() * 2));
        let files = [(one.as_fd(), 10), (two.as_fd(), page_size() * 2)];
        let (mapping, offsets) = Mapping::of_files(&files).unwrap();
        assert_eq!(offsets, [0, page_size()]);
        let mut bytes = Vec::new();
        mapping.append(0, 12, &mut bytes);
        assert_eq!(bytes, [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0]);
        mapping.write(page_size() * 3 - 3, b"end");
        assert_eq!(mapping.u32(page_size() * 3 - 4).load(Ordering::Relaxed) >> 8, 0x64_6e65);
    }

    #[test]
    fn a_truncated_file_breaks_the_mapping_and_nothing_else() {
        let (one, two) = (file(page_size()), file(page_size()));
        let (cut, _) = Mapping::of_files(&[(one.as_fd(), page_size())]).unwrap();
        let (whole, _) = Mapping::of_files(&[(two.as_fd(), page_size())]).unwrap();
        assert_eq!(cut.u32(0).load(Ordering::Relaxed), 0x0707_0707);
        one.set_len(0).unwrap();
        assert_eq!(cut.u32(0).load(Ordering::Relaxed), 0, "the fault is repaired");
        assert!(cut.is_broken());
        cut.write(8, b"goes nowhere");
        assert!(!whole.is_broken());
        assert_eq!(whole.u32(0).load(Ordering::Relaxed), 0x0707_0707);
    }

    #[test]
    fn faults_in_copies_are_caught_too() {
        let len = page_size() * 4;
        for reads in [true, false] {
            let file = file(len);
            let (mapping, _) = Mapping::of_files(&[(file.as_fd(), len)]).unwrap();
            file.set_len(page_size() as u64).unwrap();
            let mut bytes = vec![1; len];
            if reads {
                mapping.append(0, len, &mut bytes);
            } else {
                mapping.write(0, &bytes);
            }
            assert!(mapping.is_broken());
        }
    }

    /// Runs in a process of its own, which must not survive it.
    #[test]
    fn a_fault_elsewhere_still_kills() {
        const VARIABLE: &str = "PMXCFS_TEST_FAULT";
        if std::env::var_os(VARIABLE).is_some() {
            let (guarded, other) = (file(page_size()), file(page_size()));
            let _handler = Mapping::of_files(&[(guarded.as_fd(), page_size())]).unwrap();
            let mapping = Mapping::reserve(page_size(), ProtFlags::PROT_NONE).unwrap();
            mapping.place(other.as_fd(), 0, page_size()).unwrap();
            other.set_len(0).unwrap();
            mapping.u32(0).load(Ordering::Relaxed);
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ipc::qb::mapping::tests::a_fault_elsewhere_still_kills"])
            .env(VARIABLE, "1")
            .output()
            .unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(signal, Some(libc::SIGBUS), "{output:?}");
    }

    #[test]
    fn a_slot_is_clean_for_its_next_user() {
        for _ in 0..3 {
            let file = file(page_size());
            let files = [(file.as_fd(), page_size())];
            let (mapping, _) = Mapping::of_files(&files).unwrap();
            assert!(!mapping.is_broken());
            file.set_len(0).unwrap();
            mapping.write(0, b"x");
            assert!(mapping.is_broken());
        }
    }
}
