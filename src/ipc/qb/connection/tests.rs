//! What a client of ours is answered while there is no memory for its long ring.

use super::super::address::Namespace;
use super::super::server::{Options, Server};
use super::*;
use crate::ipc::server::{Access, Service};
use tempfile::TempDir;

const SIZE: u32 = 1 << 20;

/// Answers as many bytes as the id of a request says.
struct Lengths;

impl Service for Lengths {
    fn accept(&self, _: Peer) -> Result<Access, Refused> {
        Err(Refused::Stranger)
    }

    fn handle(&self, _: &Client, _: &dyn Link, id: i32, _: &[u8]) -> Response {
        Response::ok(vec![b'x'; usize::try_from(id).unwrap()])
    }
}

fn server() -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let shm_dir = dir.path().to_owned();
    let options = Options { namespace: Namespace::Directory(shm_dir.clone()), shm_dir, ..Options::default() };
    let server = Server::start("service", Arc::new(Lengths), options).unwrap();
    (dir, server)
}

/// The client's end.
struct OtherEnd {
    requests: Writer,
    answers: Reader,
    message: Vec<u8>,
}

impl OtherEnd {
    fn ask(&mut self, len: i32) {
        let size = REQUEST_HEADER_LEN as i32;
        assert_eq!(self.requests.put(&[&RequestHeader { id: len, size }.encode()]), Ok(true));
    }

    /// The error and the length of the next answer; None when it is that there is a long ring.
    fn answer(&mut self) -> Option<(i32, usize)> {
        let least = own::MOVED.len();
        assert_eq!(self.answers.take(&mut self.message, least, SIZE as usize), Ok(true));
        if self.message == own::MOVED {
            return None;
        }
        let (header, data) = ResponseHeader::split(&self.message).unwrap();
        Some((header.error, data.len()))
    }
}

#[test]
fn without_memory_for_a_long_answer() {
    let (_dir, server) = server();
    let (socket, _client) = UnixStream::pair().unwrap();
    let client = Client { pid: 1, uid: 0, gid: 0, access: Access::ReadOnly };
    let place = server.shared().take_place(Peer { pid: 1, uid: 0, gid: 0 }, SIZE).unwrap();
    let connection = Connection::new(0, client, socket, place);

    let answer = own::Answer::new(SIZE).unwrap();
    let (memory, file) = own::Memory::create(&answer).unwrap();
    let own::Memory { mapping, requests, answers } = memory;
    let mut long = answers.long;
    let source = long.exhaust();
    let long = Some((requests.long.into_ring(), long));
    let rings = Rings { mapping, requests: requests.short, responses: answers.short, long };
    let mut ours = RingServer::new(server.shared(), &connection, rings, SIZE);
    let theirs = own::Memory::open(file.try_clone().unwrap(), &answer).unwrap();
    let mut other = OtherEnd {
        requests: Writer::new(theirs.requests.short),
        answers: Reader::new(theirs.answers.short),
        message: Vec::new(),
    };

    [100_000, 10, 100_000, 30_000].into_iter().for_each(|len| other.ask(len));
    assert!(ours.answer_all().unwrap());
    for expected in [(-libc::ENOMEM, 0), (0, 10), (-libc::ENOMEM, 0), (0, 30_000)] {
        assert_eq!(other.answer(), Some(expected), "all others are served");
    }

    // Once there is some, it is found.
    ours.long_responses.as_mut().unwrap().refill(source);
    [100_000, 10].into_iter().for_each(|len| other.ask(len));
    assert!(ours.answer_all().unwrap());
    assert_eq!(other.answer(), None);
    other.answers = Reader::new(theirs.answers.long.into_ring());
    assert_eq!([other.answer(), other.answer()], [Some((0, 100_000)), Some((0, 10))]);
}
