//! Servers that take a client in as they should, and then break one rule. Each lives in a thread and
//! serves one client.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use pmxcfs::ipc::qb::wire::{
    AUTH_REQUEST_LEN, AuthResponse, ResponseHeader, TYPE_SHM, TYPE_SOCKET, control_file, new_ring_header,
    ring_header,
};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use tempfile::TempDir;

pub const COMMITTED: u32 = 0xa1a1_a1a1;
/// What is agreed on, and the ring that makes.
pub const MESSAGE_SIZE: u32 = 12328;
pub const RING_LEN: u64 = 16384;

/// The files of a connection.
pub struct Files {
    pub dir: TempDir,
    /// Header and data of requests, responses, events; or only the control file.
    pub files: Vec<File>,
    pub sockets: Vec<OwnedFd>,
}

impl Files {
    fn new() -> Self {
        Self { dir: crate::support::shm_dir(), files: Vec::new(), sockets: Vec::new() }
    }

    /// As a server of shared memory makes them.
    pub fn rings() -> Self {
        let mut made = Self::new();
        for ring in ["request", "response", "event"] {
            let [header, data] = ["header", "data"].map(|file| made.path(&format!("{ring}-{file}")));
            let bytes = |path: &PathBuf| path.as_os_str().as_encoded_bytes().to_vec();
            let words = (RING_LEN / 4) as u32;
            let content = new_ring_header(words, &bytes(&header), &bytes(&data)).unwrap();
            let create = |path| File::options().create_new(true).read(true).write(true).open(path).unwrap();
            let (header, data) = (create(header), create(data));
            header.write_all_at(&content, 0).unwrap();
            data.set_len(RING_LEN).unwrap();
            made.files.extend([header, data]);
        }
        made
    }

    /// As a server of sockets makes them.
    pub fn sockets() -> Self {
        let mut made = Self::new();
        let path = made.path("control");
        let control = File::options().create_new(true).read(true).write(true).open(path).unwrap();
        control.set_len(control_file::LEN as u64).unwrap();
        made.files.push(control);
        for suffix in ["-request", "-event-tx"] {
            let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
            bind(fd.as_raw_fd(), &made.address(suffix)).unwrap();
            made.sockets.push(fd);
        }
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn address(&self, suffix: &str) -> UnixAddr {
        let mut name = format!("{}/s{suffix}", self.dir.path().display()).into_bytes();
        name.resize(107, 0);
        UnixAddr::new_abstract(&name).unwrap()
    }

    /// What the client is told.
    pub fn response(&self) -> AuthResponse {
        let path = |name| self.path(name).as_os_str().as_encoded_bytes().to_vec();
        let (connection_type, rings) = if self.sockets.is_empty() {
            (TYPE_SHM, ["request", "response", "event"].map(path))
        } else {
            (TYPE_SOCKET, [path("control"), path("s"), Vec::new()])
        };
        AuthResponse { error: 0, connection_type, max_message_size: MESSAGE_SIZE, rings }
    }

    pub fn put(&self, file: usize, offset: u64, value: u32) {
        self.files[file].write_all_at(&value.to_ne_bytes(), offset).unwrap();
    }

    /// Announces a chunk at the start of the ring of responses.
    pub fn answer(&self, len: u32, state: u32, message: &[u8]) {
        self.files[3].write_all_at(message, 8).unwrap();
        self.put(3, 0, len);
        self.put(3, 4, state);
        self.put(2, ring_header::SEMAPHORE as u64, 1);
    }

    /// Sends a datagram as an answer.
    pub fn send(&self, message: &[u8]) {
        use nix::sys::socket::{MsgFlags, sendto};
        let to = self.address("-response");
        sendto(self.sockets[0].as_raw_fd(), message, &to, MsgFlags::empty()).unwrap();
    }
}

/// An answer to request `id` that says that it has `size` bytes.
pub fn message(id: i32, size: i32, data: &[u8]) -> Vec<u8> {
    [&ResponseHeader { id, size, error: 0 }.encode()[..], data].concat()
}

/// Runs `serve` with each client that connects to `name`, after it asked to be let in.
pub fn listen(name: &str, serve: impl FnMut(UnixStream) + Send + 'static) {
    let mut serve = serve;
    let mut padded = name.as_bytes().to_vec();
    padded.resize(107, 0);
    let address = SocketAddr::from_abstract_name(&padded).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    nix::sys::socket::setsockopt(&listener, nix::sys::socket::sockopt::PassCred, &true).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            if client.read_exact(&mut [0; AUTH_REQUEST_LEN]).is_ok() {
                serve(client);
            }
        }
    });
}

/// Lets a client in.
pub fn admit(mut client: &UnixStream, response: &AuthResponse) {
    client.write_all(&response.encode().unwrap()).unwrap();
}

/// Waits until a request is announced; false when the client has left instead.
pub fn bell(mut client: &UnixStream) -> bool {
    matches!(client.read(&mut [0]), Ok(1))
}

/// Waits until the client leaves.
pub fn until_left(mut client: &UnixStream) {
    while matches!(client.read(&mut [0; 64]), Ok(1..)) {}
}
