//! A client that speaks the protocol byte by byte and may break each of its rules. It works on the
//! shared files with reads and writes, which meet the server's mapping of the same pages.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use super::support::LIMIT;
use nix::sys::socket::{setsockopt, sockopt};
use pmxcfs::ipc::qb::wire::{
    AUTH_RESPONSE_LEN, AuthRequest, AuthResponse, RequestHeader, ResponseHeader, ring_header,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

pub const COMMITTED: u32 = 0xa1a1_a1a1;

/// One ring's files.
pub struct RawRing {
    pub header_path: PathBuf,
    pub data_path: PathBuf,
    pub header: File,
    pub data: File,
    pub words: u32,
}

impl RawRing {
    fn open(base: &[u8]) -> Self {
        let path = |file: &str| {
            PathBuf::from(OsStr::from_bytes(base)).with_file_name(format!(
                "{}-{file}",
                Path::new(OsStr::from_bytes(base)).file_name().unwrap().to_str().unwrap()
            ))
        };
        let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
        let (header_path, data_path) = (path("header"), path("data"));
        let (header, data) = (open(&header_path), open(&data_path));
        let words = u32::try_from(data.metadata().unwrap().len() / 4).unwrap();
        Self { header_path, data_path, header, data, words }
    }

    pub fn get(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.header.read_exact_at(&mut bytes, offset as u64).unwrap();
        u32::from_ne_bytes(bytes)
    }

    pub fn set(&self, offset: usize, value: u32) {
        self.header.write_all_at(&value.to_ne_bytes(), offset as u64).unwrap();
    }

    pub fn word(&self, index: u32) -> u32 {
        let mut bytes = [0; 4];
        self.data.read_exact_at(&mut bytes, u64::from(index % self.words) * 4).unwrap();
        u32::from_ne_bytes(bytes)
    }

    pub fn set_word(&self, index: u32, value: u32) {
        let at = u64::from(index % self.words) * 4;
        self.data.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }
}

/// A connection without any check.
pub struct RawClient {
    pub socket: UnixStream,
    pub response: AuthResponse,
    pub requests: RawRing,
    pub responses: RawRing,
    pub events: RawRing,
    /// Where the next request goes, and the next answer is.
    pub write: u32,
    pub read: u32,
}

/// Connects to the setup socket, and says nothing.
pub fn dial(name: &str) -> UnixStream {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(107, 0);
    let address = SocketAddr::from_abstract_name(&padded).unwrap();
    let socket = UnixStream::connect_addr(&address).unwrap();
    setsockopt(&socket, sockopt::PassCred, &true).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Reads to the end, which must come.
pub fn read_to_hangup(mut socket: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("the server does not hang up: {error}"),
    }
}

impl RawClient {
    pub fn connect(name: &str) -> Self {
        Self::connect_asking(name, 1 << 20)
    }

    pub fn connect_asking(name: &str, max_message_size: u32) -> Self {
        let mut socket = dial(name);
        socket.write_all(&AuthRequest { max_message_size }.encode()).unwrap();
        let mut bytes = vec![0; AUTH_RESPONSE_LEN];
        socket.read_exact(&mut bytes).unwrap();
        let response = AuthResponse::parse(&bytes).unwrap();
        assert_eq!(response.error, 0);
        let [requests, responses, events] = [0, 1, 2].map(|ring| RawRing::open(&response.rings[ring]));
        Self { socket, response, requests, responses, events, write: 0, read: 0 }
    }

    /// Puts a chunk of any length and state into the ring, and moves on by what it holds.
    pub fn put(&mut self, payload: &[u8], len: u32, state: u32) {
        let words: Vec<u32> = payload
            .chunks(4)
            .map(|chunk| {
                let mut word = [0; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                u32::from_ne_bytes(word)
            })
            .collect();
        self.requests.set_word(self.write, len);
        for (index, &word) in (self.write + 2..).zip(&words) {
            self.requests.set_word(index, word);
        }
        self.requests.set_word(self.write + 1, state);
        self.write = (self.write + 2 + words.len() as u32) % self.requests.words;
        self.requests.set(ring_header::WRITE_INDEX, self.write);
    }

    /// Counts a chunk. The server may count it down between our read and our write; only use it
    /// while it sleeps.
    pub fn post(&self) {
        let value = self.requests.get(ring_header::SEMAPHORE);
        self.requests.set(ring_header::SEMAPHORE, value + 1);
    }

    /// Says nothing if the server has hung up: that is to be found by reading.
    pub fn ring_bell(&mut self) {
        let _ = self.socket.write_all(&[0]);
    }

    /// A request as it should be.
    pub fn send(&mut self, id: i32, body: &[u8]) {
        let size = i32::try_from(16 + body.len()).unwrap();
        self.send_message(&[&RequestHeader { id, size }.encode(), body].concat());
    }

    /// Any message, in a chunk as it should be.
    pub fn send_message(&mut self, message: &[u8]) {
        self.put(message, message.len() as u32, COMMITTED);
        self.post();
        self.ring_bell();
    }

    /// Whether the next answer is there.
    pub fn is_answered(&self) -> bool {
        self.responses.word(self.read + 1) == COMMITTED
    }

    /// Reads the next answer, which must be there, without telling the server.
    pub fn answer(&mut self) -> (ResponseHeader, Vec<u8>) {
        let len = self.responses.word(self.read) as usize;
        let words = u32::try_from(len.div_ceil(4)).unwrap();
        let payload = self.read + 2..self.read + 2 + words;
        let bytes: Vec<u8> = payload.flat_map(|word| self.responses.word(word).to_ne_bytes()).collect();
        self.read = (self.read + 2 + words) % self.responses.words;
        let (header, data) = ResponseHeader::split(&bytes[..len]).unwrap();
        (header, data.to_vec())
    }

    pub fn files(&self) -> [&File; 6] {
        let [a, b, c] = [&self.requests, &self.responses, &self.events];
        [&a.header, &a.data, &b.header, &b.data, &c.header, &c.data]
    }

    /// The server must hang up.
    pub fn expect_hangup(&self) {
        read_to_hangup(&self.socket);
    }

    pub fn hang_up(&self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }
}
