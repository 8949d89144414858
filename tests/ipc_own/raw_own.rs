//! A client that speaks the protocol of our own connections byte by byte and may break each of its rules.

use super::raw::{self, COMMITTED, read_to_hangup};
use super::support::eventually;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use pmxcfs::ipc::qb::own::{ANSWER_LEN, Answer, HEADER_LEN, REFERENCES, mark};
use pmxcfs::ipc::qb::wire::{AuthRequest, RequestHeader, ResponseHeader, ring_header};
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

/// A client that speaks the protocol byte by byte and may break each of its rules.
pub struct RawOwn {
    pub socket: UnixStream,
    pub memory: File,
    pub answer: Answer,
    /// Where the next chunk goes in each of the four rings.
    pub next: [u32; 4],
}

pub const REQUESTS: usize = 0;
pub const ANSWERS: usize = 1;
pub const LONG_REQUESTS: usize = 2;
pub const LONG_ANSWERS: usize = 3;

/// Where a ring has its semaphore.
pub fn semaphore(ring: usize) -> usize {
    ring * HEADER_LEN + REFERENCES + ring_header::SEMAPHORE - ring_header::REFERENCES
}

/// Connects to the setup socket and sends a marked request.
pub fn dial(name: &str) -> UnixStream {
    let mut socket = raw::dial(name);
    let mut request = AuthRequest { max_message_size: 1 << 20 }.encode();
    mark(&mut request);
    socket.write_all(&request).unwrap();
    socket
}

/// Reads with the descriptors that come along.
fn read_with_descriptors(socket: &UnixStream, bytes: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    let mut parts = [IoSliceMut::new(bytes)];
    let mut control = nix::cmsg_space!([i32; 4], UnixCredentials);
    let fd = socket.as_raw_fd();
    let message = recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let mut descriptors = Vec::new();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just opened them for us alone.
            descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    (message.bytes, descriptors)
}

impl RawOwn {
    pub fn connect(name: &str) -> Self {
        let socket = dial(name);
        let mut bytes = [0; 4096];
        let (len, mut descriptors) = read_with_descriptors(&socket, &mut bytes);
        assert_eq!((len, descriptors.len()), (ANSWER_LEN, 1));
        let answer = Answer::parse(&bytes[..len]).unwrap();
        let memory = File::from(descriptors.remove(0));
        assert_eq!(memory.metadata().unwrap().len(), answer.layout()[4] as u64);
        Self { socket, memory, answer, next: [0; 4] }
    }

    pub fn put(&self, at: usize, value: u32) {
        self.memory.write_all_at(&value.to_ne_bytes(), at as u64).unwrap();
    }

    pub fn get(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read_exact_at(&mut bytes, at as u64).unwrap();
        u32::from_ne_bytes(bytes)
    }

    /// Puts a chunk into a ring, without a word. For as many as fit before it wraps.
    pub fn put_chunk(&mut self, ring: usize, chunk: &[u8]) {
        let at = self.answer.layout()[ring] + self.next[ring] as usize * 4;
        self.memory.write_all_at(chunk, at as u64 + 8).unwrap();
        self.put(at, chunk.len() as u32);
        self.put(at + 4, COMMITTED);
        self.next[ring] += 2 + chunk.len().div_ceil(4) as u32;
        self.put(ring * HEADER_LEN + ring_header::WRITE_INDEX, self.next[ring]);
        self.put(semaphore(ring), self.get(semaphore(ring)) + 1);
    }

    pub fn request(id: i32, body: &[u8]) -> Vec<u8> {
        let size = i32::try_from(16 + body.len()).unwrap();
        [&RequestHeader { id, size }.encode()[..], body].concat()
    }

    /// Says nothing if the server has hung up: that is to be found by reading.
    pub fn say(&self, bytes: &[u8]) {
        let _ = (&self.socket).write_all(bytes);
    }

    pub fn hang_up(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// The server must hang up.
    pub fn expect_hangup(&self) {
        read_to_hangup(&self.socket);
    }

    /// The next chunk of a ring, which must come.
    pub fn expect(&mut self, ring: usize) -> Vec<u8> {
        let at = self.answer.layout()[ring] + self.next[ring] as usize * 4;
        eventually("a chunk", || self.get(at + 4) == COMMITTED);
        let mut bytes = vec![0; self.get(at) as usize];
        self.memory.read_exact_at(&mut bytes, at as u64 + 8).unwrap();
        self.next[ring] += 2 + bytes.len().div_ceil(4) as u32;
        bytes
    }

    pub fn expect_answer(&mut self, ring: usize) -> (ResponseHeader, Vec<u8>) {
        let bytes = self.expect(ring);
        let (header, data) = ResponseHeader::split(&bytes).unwrap();
        (header, data.to_vec())
    }
}
