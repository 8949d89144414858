//! The bytes of libqb's protocol: the two messages of the handshake, the headers of requests and
//! responses, the header of a ring, and the sizes both ends compute. Pure functions over byte slices;
//! nothing here trusts a length.
//!
//! Integers are in host order. In the messages each header member takes 8 bytes: a value of 4 and
//! a padding of 4, sent as zero and ignored on receipt.

pub mod ring_header;

pub use ring_header::{new_ring_header, parse_ring_header};

/// Length of the request of the handshake.
pub const AUTH_REQUEST_LEN: usize = 24;
/// Length of the response of the handshake.
pub const AUTH_RESPONSE_LEN: usize = 12328;
/// Length of each path in the response of the handshake and in a ring's header.
pub const PATH_LEN: usize = 4096;
/// Length of the header of a request.
pub const REQUEST_HEADER_LEN: usize = 16;
/// Length of the header of a response.
pub const RESPONSE_HEADER_LEN: usize = 24;

/// Message id of the handshake.
pub(crate) const ID_AUTHENTICATE: i32 = -1;
/// Message id by which a client may end its connection; the stock client never does.
const ID_DISCONNECT: i32 = -3;
/// Connection type: datagram sockets.
pub const TYPE_SOCKET: i32 = 0;
/// Connection type: shared memory.
pub const TYPE_SHM: i32 = 1;

const _: () = assert!(cfg!(target_endian = "little"), "glibc's semaphore is read as a u64");
const _: () = assert!(AUTH_RESPONSE_LEN == 40 + 3 * PATH_LEN);

/// The layout of the control file of a connection over sockets.
pub mod control_file {
    /// Requests sent and not yet received.
    pub const REQUESTS_SENT: usize = 0;
    /// Not 0 asks the client to hold back.
    pub const FLOW_CONTROL: usize = 4;
    /// Responses sent and not yet received.
    pub const RESPONSES_SENT: usize = 8;
    /// Length of the file.
    pub const LEN: usize = 24;
}

/// A message that is not what the protocol asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// The 4 bytes at `at`, or 0 past the end: callers check lengths first.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// The same as a signed number.
fn int(bytes: &[u8], at: usize) -> i32 {
    word(bytes, at) as i32
}

/// How long a message says to be: all headers have that in the same place. `None` if it says nothing
/// that is a length.
pub(crate) fn message_len(bytes: &[u8]) -> Option<usize> {
    usize::try_from(int(bytes, 8)).ok()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The request of the handshake: the client asks for a message size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthRequest {
    /// The longest message the client wants to send or receive, header included.
    pub max_message_size: u32,
}

impl AuthRequest {
    /// Reads it. The size field is not looked at, as in libqb.
    ///
    /// # Errors
    /// If it has another length or is another message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != AUTH_REQUEST_LEN || int(bytes, 0) != ID_AUTHENTICATE {
            return Err(Malformed("authentication request"));
        }
        Ok(Self { max_message_size: word(bytes, 16) })
    }

    /// Writes it.
    pub fn encode(self) -> [u8; AUTH_REQUEST_LEN] {
        let mut bytes = [0; AUTH_REQUEST_LEN];
        put(&mut bytes, 0, &ID_AUTHENTICATE.to_ne_bytes());
        put(&mut bytes, 8, &(AUTH_REQUEST_LEN as u32).to_ne_bytes());
        put(&mut bytes, 16, &self.max_message_size.to_ne_bytes());
        bytes
    }
}

/// The response of the handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthResponse {
    /// 0 or a negative errno; everything else is meaningless then.
    pub error: i32,
    /// [`TYPE_SHM`], [`TYPE_SOCKET`], or a transport that nobody uses.
    pub connection_type: i32,
    /// The longest message of either end.
    pub max_message_size: u32,
    /// Base paths of the rings: requests, responses, events. Over sockets the first is the path of
    /// the control file, the second the name that the sockets' names begin with.
    pub rings: [Vec<u8>; 3],
}

impl AuthResponse {
    /// A refusal; `errno` is positive.
    pub fn refusal(errno: i32) -> Self {
        Self { error: -errno, ..Self::default() }
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it has another length, or a path without an end.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != AUTH_RESPONSE_LEN || int(bytes, 0) != ID_AUTHENTICATE {
            return Err(Malformed("authentication response"));
        }
        let error = int(bytes, 16);
        if error > 0 {
            return Err(Malformed("error in the authentication response"));
        }
        let path = |at| c_path(bytes, at).ok_or(Malformed("path in the authentication response"));
        Ok(Self {
            error,
            connection_type: int(bytes, 24),
            max_message_size: word(bytes, 28),
            rings: [path(40)?, path(40 + PATH_LEN)?, path(40 + 2 * PATH_LEN)?],
        })
    }

    /// Writes it; `None` if a path is too long.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; AUTH_RESPONSE_LEN];
        put(&mut bytes, 0, &ID_AUTHENTICATE.to_ne_bytes());
        put(&mut bytes, 8, &(AUTH_RESPONSE_LEN as u32).to_ne_bytes());
        put(&mut bytes, 16, &self.error.to_ne_bytes());
        put(&mut bytes, 24, &self.connection_type.to_ne_bytes());
        put(&mut bytes, 28, &self.max_message_size.to_ne_bytes());
        for (index, ring) in self.rings.iter().enumerate() {
            if ring.len() >= PATH_LEN {
                return None;
            }
            put(&mut bytes, 40 + index * PATH_LEN, ring);
        }
        Some(bytes)
    }
}

/// The path with its NUL in the field at `at`, without the NUL.
fn c_path(bytes: &[u8], at: usize) -> Option<Vec<u8>> {
    let field = bytes.get(at..at + PATH_LEN)?;
    let end = field.iter().position(|&b| b == 0)?;
    Some(field[..end].to_vec())
}

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// What is asked.
    pub id: i32,
    /// Length of the whole message.
    pub size: i32,
}

impl RequestHeader {
    /// Reads the header of a message.
    ///
    /// # Errors
    /// If the message is shorter than a header.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        if message.len() < REQUEST_HEADER_LEN {
            return Err(Malformed("short request"));
        }
        Ok(Self { id: int(message, 0), size: int(message, 8) })
    }

    /// The body of the message with this header. As in libqb, its length is the one in the header, and
    /// bytes after it are ignored. `None` if the message is shorter than this length, or this length is shorter than
    /// a header.
    pub fn body(self, message: &[u8]) -> Option<&[u8]> {
        message.get(REQUEST_HEADER_LEN..usize::try_from(self.size).ok()?)
    }

    /// Splits a message into header and body.
    ///
    /// # Errors
    /// The message is shorter than a header or than the header's length, or that length is shorter than a header.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let header = Self::parse(message)?;
        Ok((header, header.body(message).ok_or(Malformed("size of a request"))?))
    }

    /// True for the reserved id by which a client ends its connection. Any other id is the service's to
    /// refuse.
    pub(crate) fn is_disconnect(self) -> bool {
        self.id == ID_DISCONNECT
    }

    /// Writes it.
    pub fn encode(self) -> [u8; REQUEST_HEADER_LEN] {
        let mut bytes = [0; REQUEST_HEADER_LEN];
        put(&mut bytes, 0, &self.id.to_ne_bytes());
        put(&mut bytes, 8, &self.size.to_ne_bytes());
        bytes
    }
}

/// The header of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The id of the request.
    pub id: i32,
    /// Length of the whole message.
    pub size: i32,
    /// 0 or a negative errno.
    pub error: i32,
}

impl ResponseHeader {
    /// Splits a message into header and data.
    ///
    /// # Errors
    /// If it is shorter than a header, or if the header gives another length than it has.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (header, data) =
            message.split_at_checked(RESPONSE_HEADER_LEN).ok_or(Malformed("short response"))?;
        let header = Self { id: int(header, 0), size: int(header, 8), error: int(header, 16) };
        if usize::try_from(header.size) != Ok(message.len()) {
            return Err(Malformed("size of a response"));
        }
        Ok((header, data))
    }

    /// Writes it.
    pub fn encode(self) -> [u8; RESPONSE_HEADER_LEN] {
        let mut bytes = [0; RESPONSE_HEADER_LEN];
        put(&mut bytes, 0, &self.id.to_ne_bytes());
        put(&mut bytes, 8, &self.size.to_ne_bytes());
        put(&mut bytes, 16, &self.error.to_ne_bytes());
        bytes
    }
}

/// The longest message of a connection: what the client asks for, but at least what the handshake
/// itself needs, and at most `limit`.
pub fn agreed_message_size(asked: u32, limit: u32) -> u32 {
    asked.max(AUTH_RESPONSE_LEN as u32).min(limit)
}

/// Length of a ring's data file. Both ends compute it from the agreed message size; `None` if it
/// does not fit.
pub fn ring_len(max_message_size: u32, page_size: usize) -> Option<usize> {
    const MARGIN: u32 = 13;
    let least = max_message_size.checked_add(MARGIN)?;
    let len = usize::try_from(least).ok()?.checked_next_multiple_of(page_size)?;
    u32::try_from(len).ok()?;
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auth_request_is_the_recorded_one() {
        let bytes = AuthRequest { max_message_size: 0x10_0000 }.encode();
        let recorded: [u8; 24] =
            [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0];
        assert_eq!(bytes, recorded);
        assert_eq!(AuthRequest::parse(&bytes), Ok(AuthRequest { max_message_size: 0x10_0000 }));
    }

    #[test]
    fn an_auth_request_of_another_length_or_id_is_refused() {
        let bytes = AuthRequest { max_message_size: 1 }.encode();
        assert!(AuthRequest::parse(&bytes[..23]).is_err());
        assert!(AuthRequest::parse(&[&bytes[..], &[0]].concat()).is_err());
        let mut other = bytes;
        other[0] = 1;
        assert!(AuthRequest::parse(&other).is_err());
    }

    #[test]
    fn the_auth_response_has_its_fields_where_libqb_looks() {
        let rings = ["/dev/shm/a", "/dev/shm/b", "/dev/shm/c"].map(|p| p.as_bytes().to_vec());
        let response =
            AuthResponse { error: 0, connection_type: TYPE_SHM, max_message_size: 0x10_0000, rings };
        let bytes = response.encode().unwrap();
        assert_eq!(bytes.len(), AUTH_RESPONSE_LEN);
        assert_eq!(bytes[8..12], [0x28, 0x30, 0, 0]);
        assert_eq!(bytes[24..32], [1, 0, 0, 0, 0, 0, 0x10, 0]);
        assert_eq!(bytes[32..40], [0; 8], "no pointer of ours leaves");
        assert_eq!(&bytes[40..51], b"/dev/shm/a\0");
        assert_eq!(&bytes[4136..4147], b"/dev/shm/b\0");
        assert_eq!(&bytes[8232..8243], b"/dev/shm/c\0");
        assert_eq!(AuthResponse::parse(&bytes), Ok(response));
        let refusal = AuthResponse::refusal(13).encode().unwrap();
        assert_eq!(refusal[16..20], [0xf3, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn an_auth_response_without_an_end_of_a_path_is_refused() {
        let mut bytes = AuthResponse::default().encode().unwrap();
        assert!(AuthResponse::parse(&bytes).is_ok());
        bytes[4136..8232].fill(b'x');
        assert!(AuthResponse::parse(&bytes).is_err());
        assert!(AuthResponse::parse(&bytes[1..]).is_err());
        let long = AuthResponse { rings: [vec![b'x'; PATH_LEN], vec![], vec![]], ..Default::default() };
        assert_eq!(long.encode(), None);
    }

    #[test]
    fn a_request_must_say_its_own_length() {
        let message = |id, size| [&RequestHeader { id, size }.encode()[..], b"body"].concat();
        let good = message(6, 20);
        let (header, body) = RequestHeader::split(&good).unwrap();
        assert_eq!((header.id, body), (6, &b"body"[..]));
        for size in [21, 15, 0, -5, i32::MIN, i32::MAX] {
            assert!(RequestHeader::split(&message(6, size)).is_err(), "{size}");
        }
        assert_eq!(RequestHeader::split(&message(6, 18)).unwrap().1, b"bo", "the rest is ignored");
        assert_eq!(RequestHeader::split(&message(6, 16)).unwrap().1, b"");
        assert!(RequestHeader::split(&good[..15]).is_err());
        for id in [-1, -2, -5, i32::MIN] {
            assert!(RequestHeader::split(&message(id, 20)).is_ok(), "{id} is for the service to refuse");
        }
    }

    #[test]
    fn a_response_round_trips() {
        let header = ResponseHeader { id: 6, size: 28, error: -2 };
        let message = [&header.encode()[..], b"data"].concat();
        assert_eq!(ResponseHeader::split(&message), Ok((header, &b"data"[..])));
        assert!(ResponseHeader::split(&message[..27]).is_err());
        assert!(ResponseHeader::split(&message[..23]).is_err());
    }

    #[test]
    fn sizes_are_those_libqb_computes() {
        assert_eq!(ring_len(1_048_576, 4096), Some(1_052_672));
        assert_eq!(ring_len(12328, 4096), Some(16384));
        assert_eq!(ring_len(2_000_000, 4096), Some(2_002_944));
        assert_eq!(ring_len(u32::MAX, 4096), None);
        assert_eq!(ring_len(u32::MAX - 13, 4096), None);
        assert_eq!(agreed_message_size(100, 1 << 20), 12328);
        assert_eq!(agreed_message_size(1 << 20, 1 << 20), 1 << 20);
        assert_eq!(agreed_message_size(u32::MAX, 1 << 20), 1 << 20);
    }
}
