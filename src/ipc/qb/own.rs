//! What a client of ours and a server of ours do otherwise than libqb: the mark by which they know each
//! other, the server's short answer to it, and the sealed memory that comes with that answer and holds
//! the rings. docs/protocol/ipc.md is its specification.
//!
//! The rings of libqb take files of megabytes, whose making and zeroing is most of the time of a connect.
//! Here a connection begins with small rings. In each direction it goes on in a long one from the first message
//! that needs that; only then the memory for it is there. It has no name that could be left over, and
//! nobody can cut it.

use super::mapping::{Mapping, allocate, page_size};
use super::ring::Ring;
use super::wire::{self, AUTH_REQUEST_LEN, Malformed, TYPE_SHM};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What stands in the first two paddings of both messages of the handshake. In the third is a version.
const MARK: [[u8; 4]; 2] = [*b"pmxc", *b"fsrs"];
const VERSION: u32 = 1;
/// Where the paddings are: behind id, size, and the size asked for or the error.
const PADDINGS: [usize; 3] = [4, 12, 20];

/// Length of the answer; that of a libqb server is much longer.
pub const ANSWER_LEN: usize = 44;
/// Says in a ring that the next message is in the long ring; shorter than any message.
pub const MOVED: [u8; 4] = *b"long";

/// Length of a ring's header. There are four: of the requests, the answers, the long requests, the long
/// answers.
pub const HEADER_LEN: usize = 128;
/// Where in it the number of the ends is, and behind that the rest as in a header of libqb.
pub const REFERENCES: usize = 60;
/// Where the data begins, in the same order.
pub const DATA: usize = 4 * HEADER_LEN;
/// Least length of a ring, and of what its length is a multiple.
const UNIT: u32 = 64;
/// More is not mapped, whatever a server says.
const RING_LEN_MAX: u32 = 16 << 20;

/// Lengths of the rings that a server makes. With the headers they fill whole pages, so that the long ones
/// begin on one.
const REQUESTS_LEN: u32 = (8 << 10) - DATA as u32;
const ANSWERS_LEN: u32 = 56 << 10;
/// Memory of a connection whose messages are all short.
pub(crate) const SHORT_LEN: usize = DATA + REQUESTS_LEN as usize + ANSWERS_LEN as usize;

/// Since Linux 6.3 a memory file should say that it is no program. Not in the bindings yet.
const NOT_EXECUTABLE: MFdFlags = MFdFlags::from_bits_retain(8);

/// Marks a request of the handshake.
pub fn mark(request: &mut [u8; AUTH_REQUEST_LEN]) {
    let [first, second, third] = PADDINGS;
    request[first..first + 4].copy_from_slice(&MARK[0]);
    request[second..second + 4].copy_from_slice(&MARK[1]);
    request[third..third + 4].copy_from_slice(&VERSION.to_ne_bytes());
}

/// Whether a message bears the mark of a version we know. The version is the highest that the other end
/// knows, so it knows ours too if it is higher.
pub(crate) fn is_marked(message: &[u8]) -> bool {
    let [first, second, third] = PADDINGS.map(|at| message.get(at..at + 4).unwrap_or_default());
    let version = <[u8; 4]>::try_from(third).map_or(0, u32::from_ne_bytes);
    [first, second] == MARK.each_ref().map(|word| &word[..]) && version >= VERSION
}

/// The answer to a marked request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The longest message of either end.
    pub max_message_size: u32,
    /// Length of the ring of requests.
    pub requests_len: u32,
    /// Length of the ring of answers.
    pub answers_len: u32,
    /// Length of each of the long rings.
    pub long_len: u32,
}

impl Answer {
    /// What a server of ours says; `None` if there is no ring for such messages.
    pub fn new(max_message_size: u32) -> Option<Self> {
        let long_len = wire::ring_len(max_message_size, page_size())?;
        let long_len = u32::try_from(long_len).ok().filter(|&len| len <= RING_LEN_MAX)?;
        Some(Self { max_message_size, requests_len: REQUESTS_LEN, answers_len: ANSWERS_LEN, long_len })
    }

    /// Whether these bytes are such an answer and, if they are too many, more than that. That of libqb's
    /// servers says another length.
    pub(crate) fn is_whole(bytes: &[u8]) -> bool {
        bytes.len() >= ANSWER_LEN && is_marked(bytes) && wire::message_len(bytes) == Some(ANSWER_LEN)
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is none, or names rings that are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let is_one = bytes.len() == ANSWER_LEN && Self::is_whole(bytes);
        let head = [word(0), word(16), word(20), word(24)];
        if !is_one || head != [wire::ID_AUTHENTICATE as u32, 0, VERSION, TYPE_SHM as u32] {
            return Err(Malformed("answer to a marked request"));
        }
        let [max_message_size, requests_len, answers_len, long_len] = [28, 32, 36, 40].map(word);
        let is_ring = |len: u32| len % UNIT == 0 && (UNIT..=RING_LEN_MAX).contains(&len);
        if ![requests_len, answers_len, long_len].into_iter().all(is_ring) {
            return Err(Malformed("length of a ring"));
        }
        Ok(Self { max_message_size, requests_len, answers_len, long_len })
    }

    /// Writes it.
    pub fn encode(self) -> [u8; ANSWER_LEN] {
        let mut bytes = [0; ANSWER_LEN];
        let mut put = |at: usize, word: [u8; 4]| bytes[at..at + 4].copy_from_slice(&word);
        put(0, wire::ID_AUTHENTICATE.to_ne_bytes());
        put(4, MARK[0]);
        put(8, (ANSWER_LEN as u32).to_ne_bytes());
        put(12, MARK[1]);
        put(20, VERSION.to_ne_bytes());
        put(24, TYPE_SHM.to_ne_bytes());
        put(28, self.max_message_size.to_ne_bytes());
        put(32, self.requests_len.to_ne_bytes());
        put(36, self.answers_len.to_ne_bytes());
        put(40, self.long_len.to_ne_bytes());
        bytes
    }

    /// Where the data of each ring begins, and where the memory ends.
    pub fn layout(&self) -> [usize; 5] {
        let mut at = DATA;
        let lens = [self.requests_len, self.answers_len, self.long_len, self.long_len];
        let [answers, long_requests, long_answers, end] = lens.map(|len| {
            at += len as usize;
            at
        });
        [DATA, answers, long_requests, long_answers, end]
    }
}

/// All rings of a connection.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) requests: Direction,
    pub(crate) answers: Direction,
}

/// The rings of one direction.
#[derive(Debug)]
pub(crate) struct Direction {
    pub(crate) short: Ring,
    pub(crate) long: LongRing,
}

/// A ring for which there is no memory yet.
#[derive(Debug)]
pub(crate) struct LongRing {
    ring: Ring,
    file: Arc<OwnedFd>,
    at: usize,
    len: usize,
}

impl LongRing {
    /// Allocates its memory, which who writes does before the first message.
    pub(crate) fn allocate(&self) -> nix::Result<()> {
        allocate(&self.file, self.at, self.len)
    }

    /// Has no memory from now on; returns what it would have it from.
    #[cfg(test)]
    pub(crate) fn exhaust(&mut self) -> Arc<OwnedFd> {
        let none = std::fs::File::open("/dev/null").expect("on every system");
        std::mem::replace(&mut self.file, Arc::new(none.into()))
    }

    /// Has memory again.
    #[cfg(test)]
    pub(crate) fn refill(&mut self, file: Arc<OwnedFd>) {
        self.file = file;
    }

    /// The ring, once there is memory for it.
    pub(crate) fn into_ring(self) -> Ring {
        self.ring
    }
}

impl Memory {
    /// Makes the rings that `answer` describes, with memory for the short ones.
    ///
    /// # Errors
    /// If there is not enough memory, or no such memory on this system.
    pub(crate) fn create(answer: &Answer) -> io::Result<(Self, Arc<OwnedFd>)> {
        let [_, _, short, _, len] = answer.layout();
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = match memfd_create(c"pmxcfs-ipc", flags | NOT_EXECUTABLE) {
            Err(Errno::EINVAL) => memfd_create(c"pmxcfs-ipc", flags),
            result => result,
        }?;
        ftruncate(&file, libc::off_t::try_from(len).map_err(io::Error::other)?)?;
        // No access to it can fail later for want of memory.
        allocate(&file, 0, short)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let file = Arc::new(file);
        Ok((Self::map(&file, answer)?, file))
    }

    /// Opens the rings that a server has described, in the memory that it has sent.
    ///
    /// # Errors
    /// If that is not memory of that size that nobody can cut, or cannot be mapped.
    pub(crate) fn open(file: OwnedFd, answer: &Answer) -> Result<Self, NoMemory> {
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_retain);
        let len = usize::try_from(fstat(&file).map_err(io::Error::from)?.st_size);
        let [.., end] = answer.layout();
        if !seals.contains(SealFlag::F_SEAL_SHRINK) || len != Ok(end) {
            return Err(Malformed("memory of the rings").into());
        }
        Ok(Self::map(&Arc::new(file), answer)?)
    }

    /// Maps it, as one more end of each ring.
    fn map(file: &Arc<OwnedFd>, answer: &Answer) -> io::Result<Self> {
        let [requests, answers, long_requests, long_answers, end] = answer.layout();
        let mapping = Arc::new(Mapping::of_file(file.as_fd(), end)?);
        let ring = |header: usize, at: usize, len: u32| {
            let header = header * HEADER_LEN;
            let ring = Ring::compact(Arc::clone(&mapping), header, header + REFERENCES, at, len as usize)?;
            ring.references().fetch_add(1, Ordering::AcqRel);
            Some(ring)
        };
        let direction = |header: usize, at: usize, len: u32, long: usize| {
            let short = ring(header, at, len)?;
            let ring = ring(header + 2, long, answer.long_len)?;
            let long = LongRing { ring, file: Arc::clone(file), at: long, len: answer.long_len as usize };
            Some(Direction { short, long })
        };
        let no_ring = || io::Error::from(io::ErrorKind::InvalidInput);
        let requests = direction(0, requests, answer.requests_len, long_requests).ok_or_else(no_ring)?;
        let answers = direction(1, answers, answer.answers_len, long_answers).ok_or_else(no_ring)?;
        Ok(Self { mapping, requests, answers })
    }
}

/// Why memory that a server has sent is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoMemory {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::qb::ring::{Reader, Writer};
    use crate::ipc::qb::wire::{AuthRequest, AuthResponse};

    #[test]
    fn the_mark_is_where_libqb_does_not_look() {
        let mut request = AuthRequest { max_message_size: 0x10_0000 }.encode();
        assert!(!is_marked(&request));
        mark(&mut request);
        assert!(is_marked(&request));
        assert_eq!(&request, b"\xff\xff\xff\xffpmxc\x18\0\0\0fsrs\0\0\x10\0\x01\0\0\0");
        assert_eq!(AuthRequest::parse(&request), Ok(AuthRequest { max_message_size: 0x10_0000 }));
        request[20] = 2;
        assert!(is_marked(&request), "of a later version");
        request[20] = 0;
        assert!(!is_marked(&request));
        assert!(!is_marked(&request[..22]));
    }

    fn answer() -> Answer {
        Answer::new(1 << 20).unwrap()
    }

    #[test]
    fn the_answer_is_as_documented() {
        let answer = Answer { requests_len: 0x1e00, answers_len: 0xe000, ..answer() };
        let bytes = answer.encode();
        let expected = b"\xff\xff\xff\xffpmxc\x2c\0\0\0fsrs\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\x10\0\
            \0\x1e\0\0\0\xe0\0\0\0\x10\x10\0";
        assert_eq!(&bytes, expected);
        assert_eq!(Answer::parse(&bytes), Ok(answer));
        for at in [0, 4, 8, 12, 16, 20, 24] {
            let mut other = bytes;
            other[at] ^= 1;
            assert!(Answer::parse(&other).is_err(), "{at}");
        }
        let mut later = bytes;
        later[20] = 2;
        assert!(Answer::parse(&later).is_err(), "of a version that nobody asked for");
        assert!(Answer::parse(&bytes[..ANSWER_LEN - 1]).is_err());
        for len in [0, 63, 65, 0x1f01, RING_LEN_MAX + UNIT, u32::MAX - 63, u32::MAX] {
            assert!(Answer::parse(&Answer { requests_len: len, ..answer }.encode()).is_err(), "{len}");
            assert!(Answer::parse(&Answer { answers_len: len, ..answer }.encode()).is_err(), "{len}");
            assert!(Answer::parse(&Answer { long_len: len, ..answer }.encode()).is_err(), "{len}");
        }
        assert_eq!(Answer::new(u32::MAX), None);
        assert_eq!(Answer::new(RING_LEN_MAX), None);
    }

    #[test]
    fn no_answer_of_libqb_is_taken_for_it() {
        let response = AuthResponse::refusal(13).encode().unwrap();
        assert!(!Answer::is_whole(&response));
        let mut marked = [0; AUTH_REQUEST_LEN];
        mark(&mut marked);
        let marked =
            [&response[..4], &marked[4..8], &response[8..12], &marked[12..16], &response[16..]].concat();
        assert!(!Answer::is_whole(&marked));
        let bytes = answer().encode();
        assert!((0..ANSWER_LEN).all(|len| !Answer::is_whole(&bytes[..len])) && Answer::is_whole(&bytes));
    }

    #[test]
    fn both_ends_have_the_same_rings() {
        let (server, file) = Memory::create(&answer()).unwrap();
        let client = Memory::open(file.try_clone().unwrap(), &answer()).unwrap();
        let rings = |direction: &Direction| [direction.short.clone(), direction.long.ring.clone()];
        let mut message = Vec::new();
        for (from, to) in [(&client.requests, &server.requests), (&server.answers, &client.answers)] {
            from.long.allocate().unwrap();
            for (from, to) in rings(from).into_iter().zip(rings(to)) {
                assert_eq!(from.references().load(Ordering::Relaxed), 2);
                let (mut writer, mut reader) = (Writer::new(from), Reader::new(to.clone()));
                for round in 0..2000u32 {
                    let body = vec![round as u8; 700];
                    assert!(writer.put(&[&body]).unwrap());
                    assert!(reader.take(&mut message, 1, 1000).unwrap());
                    assert_eq!(message, body);
                }
                to.close();
                assert_ne!(writer.ring().references().load(Ordering::Relaxed), 2);
            }
        }
    }

    /// What is not used takes no memory.
    #[test]
    fn only_short_rings_have_memory_at_first() {
        let (memory, file) = Memory::create(&answer()).unwrap();
        let taken = || fstat(&file).unwrap().st_blocks as usize * 512;
        let [_, _, short, long_answers, _] = answer().layout();
        assert_eq!((short % 4096, taken()), (0, short));
        memory.requests.long.allocate().unwrap();
        assert_eq!(taken(), long_answers);
        assert!(short < 70_000 && long_answers - short > 1 << 20);
    }

    #[test]
    fn nobody_can_cut_it() {
        let (_memory, file) = Memory::create(&answer()).unwrap();
        assert_eq!(ftruncate(&file, 0), Err(Errno::EPERM));
        assert_eq!(ftruncate(&file, 1 << 30), Err(Errno::EPERM));
        assert!(fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).is_err());
    }

    #[test]
    fn memory_that_could_be_cut_or_is_not_that_long_is_refused() {
        let answer = answer();
        let [.., end] = answer.layout();
        let open = |file: OwnedFd, answer: &Answer| Memory::open(file, answer).map(drop);
        let (_memory, file) = Memory::create(&answer).unwrap();
        let longer = Answer { answers_len: answer.answers_len + UNIT, ..answer };
        assert!(matches!(open(file.try_clone().unwrap(), &longer), Err(NoMemory::Malformed(_))));
        let plain = tempfile::tempfile().unwrap();
        plain.set_len(end as u64).unwrap();
        assert!(matches!(open(plain.into(), &answer), Err(NoMemory::Malformed(_))));
        let unsealed = memfd_create(c"x", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, end as i64).unwrap();
        assert!(matches!(open(unsealed, &answer), Err(NoMemory::Malformed(_))));
    }
}
