//! The files of a connection: a directory with a header and a data file for each of the three
//! rings. The server makes, opens and maps everything before the client may look; afterwards it
//! works with its own descriptors and its own copies of the names only. What a client writes into
//! a header never becomes a path here.
//!
//! The directory stays the server's, passable for all (0711); the files are the client's (0600).
//! So a client can open its files, but not rename, replace or delete them.
//!
//! The service sends no events, but a client opens three rings. The data file of the event ring is
//! therefore a second name of the response ring's: that saves a megabyte for each connection, and
//! the client the time to allocate it. Its header is a file of its own.

use super::mapping::{self, Mapping};
use super::ring::Ring;
use super::wire;
use crate::ipc::server::Peer;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::sys::uio::pwrite;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, ftruncate, linkat, unlinkat};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rings of a connection, in the order of the handshake.
const RINGS: [&str; 3] = ["request", "response", "event"];
/// A ring's two files.
const FILES: [&str; 2] = ["header", "data"];

/// The directory in which connections have theirs.
#[derive(Debug)]
pub(crate) struct ShmDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl ShmDir {
    /// Opens it.
    ///
    /// # Errors
    /// If it is no directory or may not be used.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { path: path.to_owned(), fd: open(path, flags, Mode::empty())? })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// Names in the directory of a connection to `service`: the six files.
pub(crate) fn file_names(service: &str) -> Vec<String> {
    let names = |ring| FILES.map(|file| format!("qb-{ring}-{service}-{file}"));
    RINGS.into_iter().flat_map(names).collect()
}

/// The files of one connection; they are removed with it.
#[derive(Debug)]
pub(crate) struct RingFiles {
    shm: Arc<ShmDir>,
    name: String,
    dir: OwnedFd,
    service: String,
}

/// What the server uses of the files.
#[derive(Debug)]
pub(crate) struct ServerRings {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) requests: Ring,
    pub(crate) responses: Ring,
    response_data: OwnedFd,
    len: usize,
}

impl ServerRings {
    /// Allocates the memory of the responses. A stock client is about to do the same; it takes a
    /// while, in which it can be busy with the requests. Closes the last file.
    pub(crate) fn allocate_responses(self) -> (Arc<Mapping>, Ring, Ring) {
        // Without memory the connection breaks when, and if, an answer needs it.
        let _ = mapping::allocate(&self.response_data, 0, self.len);
        (self.mapping, self.requests, self.responses)
    }
}

impl RingFiles {
    /// Makes the files for `peer`, for messages of `max_message_size`, and maps what the server
    /// needs. `socket` is the number of the connection's descriptor, for the name.
    ///
    /// The data files are left sparse: a stock client allocates them, and is charged for them. If
    /// it does not and memory runs out, only its own connection breaks.
    ///
    /// # Errors
    /// As of the file system.
    pub(crate) fn create(
        shm: &Arc<ShmDir>,
        service: &str,
        peer: Peer,
        socket: i32,
        max_message_size: u32,
    ) -> io::Result<(Self, ServerRings)> {
        let len =
            wire::ring_len(max_message_size, mapping::page_size()).ok_or(io::ErrorKind::InvalidInput)?;
        let files = Self::make_dir(shm, service, peer, socket)?;
        let (request_header, request_data) = files.make_ring("request", peer, len)?;
        let (response_header, response_data) = files.make_ring("response", peer, len)?;
        files.make_event_ring(peer, len)?;
        let header_len = wire::ring_header::LEN;
        let (mapping, at) = Mapping::of_files(&[
            (request_header.as_fd(), header_len),
            (request_data.as_fd(), len),
            (response_header.as_fd(), header_len),
            (response_data.as_fd(), len),
        ])?;
        fchmod(&files.dir, Mode::from_bits_truncate(0o711))?;
        let mapping = Arc::new(mapping);
        let ring = |header: usize, data: usize| {
            Ring::new(Arc::clone(&mapping), at[header], at[data], len)
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        };
        let (requests, responses) = (ring(0, 1)?, ring(2, 3)?);
        Ok((files, ServerRings { mapping, requests, responses, response_data, len }))
    }

    fn make_dir(shm: &Arc<ShmDir>, service: &str, peer: Peer, socket: i32) -> io::Result<Self> {
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            let (server, random) = (std::process::id(), random_name());
            let name = format!("qb-{server}-{}-{socket}-{random}", peer.pid);
            match mkdirat(&shm.fd, name.as_str(), Mode::S_IRWXU) {
                Err(Errno::EEXIST) => continue,
                result => result?,
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let opened = openat(&shm.fd, name.as_str(), flags, Mode::empty());
            let dir = opened.inspect_err(|_| remove(&shm.fd, &name, UnlinkatFlags::RemoveDir))?;
            return Ok(Self { shm: Arc::clone(shm), name, dir, service: service.to_owned() });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn file_name(&self, ring: &str, file: &str) -> String {
        format!("qb-{ring}-{}-{file}", self.service)
    }

    /// The path of a ring as the client is told it.
    fn base_path(&self, ring: &str) -> Vec<u8> {
        let file = format!("qb-{ring}-{}", self.service);
        self.shm.path.join(&self.name).join(file).as_os_str().as_bytes().to_vec()
    }

    /// The base paths of the rings in the order of the handshake.
    pub(crate) fn base_paths(&self) -> [Vec<u8>; 3] {
        RINGS.map(|ring| self.base_path(ring))
    }

    fn make_ring(&self, ring: &str, peer: Peer, len: usize) -> io::Result<(OwnedFd, OwnedFd)> {
        let header = self.make_header(ring, peer, len)?;
        let data = self.make_file(ring, "data", peer)?;
        let size = libc::off_t::try_from(len).map_err(io::Error::other)?;
        ftruncate(&data, size)?;
        Ok((header, data))
    }

    fn make_event_ring(&self, peer: Peer, len: usize) -> io::Result<()> {
        self.make_header("event", peer, len)?;
        let (from, to) = (self.file_name("response", "data"), self.file_name("event", "data"));
        linkat(&self.dir, from.as_str(), &self.dir, to.as_str(), AtFlags::empty())?;
        Ok(())
    }

    fn make_header(&self, ring: &str, peer: Peer, len: usize) -> io::Result<OwnedFd> {
        let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
        let words = u32::try_from(len / 4).map_err(io::Error::other)?;
        let path = |file: &[u8]| [&self.base_path(ring), file].concat();
        let content =
            wire::new_ring_header(words, &path(b"-header"), &path(b"-data")).ok_or_else(too_long)?;
        let file = self.make_file(ring, "header", peer)?;
        if pwrite(&file, &content, 0)? != content.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(file)
    }

    fn make_file(&self, ring: &str, file: &str, peer: Peer) -> io::Result<OwnedFd> {
        let name = self.file_name(ring, file);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.dir, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let (uid, gid) = (Uid::from_raw(peer.uid), Gid::from_raw(peer.gid));
        match fchown(&fd, Some(uid), Some(gid)) {
            // Not root: then it can serve its own user and root, as a stock server can.
            Err(Errno::EPERM) => {}
            result => result?,
        }
        Ok(fd)
    }
}

impl Drop for RingFiles {
    fn drop(&mut self) {
        for name in file_names(&self.service) {
            remove(&self.dir, &name, UnlinkatFlags::NoRemoveDir);
        }
        remove(&self.shm.fd, &self.name, UnlinkatFlags::RemoveDir);
    }
}

/// Removes a name; it is fine if it is not there, as after a failure half way.
pub(crate) fn remove(dir: &OwnedFd, name: &str, flags: UnlinkatFlags) {
    match unlinkat(dir, name, flags) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => log::warn!("cannot remove '{name}' of an IPC connection: {error}"),
    }
}

/// Six characters nobody can foresee; std seeds its hashers with the kernel's random numbers.
fn random_name() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut number = RandomState::new().build_hasher().finish();
    let mut next = || {
        let digit = number % ALPHABET.len() as u64;
        number /= ALPHABET.len() as u64;
        char::from(ALPHABET[digit as usize])
    };
    std::array::from_fn::<char, 6, _>(|_| next()).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    const PEER: Peer = Peer { pid: 77, uid: 1234, gid: 1235 };

    fn make(dir: &Path) -> (RingFiles, ServerRings) {
        let shm = Arc::new(ShmDir::open(dir).unwrap());
        RingFiles::create(&shm, "test", PEER, 9, 1 << 20).unwrap()
    }

    #[test]
    fn files_are_the_clients_and_the_directory_is_ours() {
        let temp = tempfile::tempdir().unwrap();
        let (files, _) = make(temp.path());
        let dir = temp.path().join(&files.name);
        let prefix = format!("qb-{}-77-9-", std::process::id());
        assert!(files.name.starts_with(&prefix), "{}", files.name);
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o711);
        let root = nix::unistd::geteuid().is_root();
        for name in file_names("test") {
            let metadata = dir.join(&name).metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{name}");
            let len = if name.ends_with("data") { 1_052_672 } else { 8252 };
            assert_eq!(metadata.len(), len, "{name}");
            assert_eq!((metadata.uid(), metadata.gid()) == (1234, 1235), root, "{name}");
        }
        assert_eq!(dir.read_dir().unwrap().count(), 6);
        let base = dir.join("qb-response-test");
        assert_eq!(files.base_paths()[1], base.as_os_str().as_bytes());
    }

    #[test]
    fn nothing_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let made = make(temp.path());
        assert_eq!(temp.path().read_dir().unwrap().count(), 1);
        drop(made);
        assert_eq!(temp.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_left_of_a_failure() {
        let temp = tempfile::tempdir().unwrap();
        let shm = Arc::new(ShmDir::open(temp.path()).unwrap());
        let long = "x".repeat(250);
        assert!(RingFiles::create(&shm, &long, PEER, 9, 1 << 20).is_err());
        assert!(RingFiles::create(&shm, "test", PEER, 9, u32::MAX).is_err());
        assert_eq!(temp.path().read_dir().unwrap().count(), 0);
    }

    /// Name of the variable with the directory for [`without_descriptors_in_a_child`].
    const CHILD_DIR: &str = "PMXCFS_TEST_SHM_DIR";

    /// Runs in a process of its own, where no other test needs descriptors.
    #[test]
    fn without_descriptors_in_a_child() {
        let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
        use nix::sys::resource::{Resource, setrlimit};
        setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
        let shm = Arc::new(ShmDir::open(Path::new(&dir)).unwrap());
        let mut taken = Vec::new();
        taken.extend(std::iter::from_fn(|| shm.fd.try_clone().ok()));
        assert!(taken.len() > 10);
        // With each number of free descriptors from none to enough of them.
        loop {
            let made = RingFiles::create(&shm, "test", PEER, 9, 1 << 20);
            if let Err(error) = &made {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            }
            let enough = made.is_ok();
            drop(made);
            // Frees the descriptor that the count needs.
            taken.pop().unwrap();
            let left = Path::new(&dir).read_dir().unwrap().count();
            assert_eq!(left, 0, "with {} descriptors taken", taken.len() + 1);
            if enough {
                break;
            }
        }
    }

    #[test]
    fn nothing_is_left_without_descriptors() {
        let temp = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "ipc::qb::shm::tests::without_descriptors_in_a_child"]);
        let output = child.env(CHILD_DIR, temp.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        assert_eq!(temp.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn random_names_differ() {
        assert_ne!(random_name(), random_name());
        assert_eq!(random_name().len(), 6);
    }
}
