//! Entry points for fuzzing: everything of the transport that reads bytes of another process, over
//! arbitrary bytes. They return when nothing panics.

use super::mapping::Mapping;
use super::own;
use super::ring::{Reader, Ring, Writer};
use super::sem;
use super::wire::{self, AuthRequest, AuthResponse, RequestHeader, ResponseHeader, ring_header};
use std::sync::Arc;

/// What a client sends first, and what it gets.
pub fn auth_request(bytes: &[u8]) {
    if let Ok(request) = AuthRequest::parse(bytes) {
        assert_eq!(AuthRequest::parse(&request.encode()), Ok(request));
        let size = wire::agreed_message_size(request.max_message_size, 1 << 20);
        assert!(wire::ring_len(size, 4096).is_some_and(|len| len > size as usize));
    }
    own::is_marked(bytes);
}

/// What a server answers to a client.
pub fn auth_response(bytes: &[u8]) {
    if let Ok(answer) = own::Answer::parse(bytes) {
        assert!(own::Answer::is_whole(bytes) && answer.encode() == bytes);
        assert!(answer.layout().is_sorted() && answer.layout()[4] < 1 << 27);
        own_memory(&answer);
    }
    if let Ok(response) = AuthResponse::parse(bytes) {
        let encoded = response.encode();
        assert_eq!(encoded.map(|bytes| AuthResponse::parse(&bytes)), Some(Ok(response)));
    }
}

/// The memory that a server describes, if it is what it says: every place of every ring is inside.
fn own_memory(answer: &own::Answer) {
    if answer.layout()[4] > 1 << 20 {
        return;
    }
    let Ok((memory, _)) = own::Memory::create(answer) else { return };
    for ring in [memory.requests.short, memory.requests.long.into_ring(), memory.answers.short] {
        let (mut reader, mut writer) = (Reader::new(ring.clone()), Writer::new(ring));
        let mut message = Vec::new();
        for round in 0..3 {
            let len = [1, 40, 3000][round];
            if writer.put(&[&vec![7; len]]) == Ok(true) {
                assert_eq!(reader.take(&mut message, 1, len), Ok(true));
            }
        }
    }
}

/// What follows: messages, and a ring's header as the client reads it.
pub fn messages(bytes: &[u8]) {
    if let Ok((header, body)) = RequestHeader::split(bytes) {
        assert_eq!(body.len() + wire::REQUEST_HEADER_LEN, header.size as usize);
    }
    if let Ok((header, data)) = ResponseHeader::split(bytes) {
        assert_eq!(data.len() + wire::RESPONSE_HEADER_LEN, header.size as usize);
    }
    if let Ok((_, path)) = wire::parse_ring_header(bytes) {
        assert!(path.len() < wire::PATH_LEN);
    }
}

/// Both ends of a ring in memory another process scribbles on. The first half of `bytes` is what
/// the memory holds: the numbers of the header, then data. The rest is written over it, 6 bytes at
/// a time (place, value), between calls.
pub fn ring(bytes: &[u8]) {
    const DATA: usize = 4096;
    const NUMBERS: [usize; 6] = [
        ring_header::WRITE_INDEX,
        ring_header::READ_INDEX,
        ring_header::WORDS,
        ring_header::REFERENCES,
        ring_header::SEMAPHORE,
        ring_header::SEMAPHORE + 4,
    ];
    let Ok(mapping) = Mapping::private(DATA + ring_header::LEN).map(Arc::new) else { return };
    let (content, scribbles) = bytes.split_at(bytes.len() / 2);
    let (numbers, data) = content.split_at(content.len().min(4 * NUMBERS.len()));
    for (number, offset) in numbers.chunks(4).zip(NUMBERS) {
        mapping.write(DATA + offset, number);
    }
    mapping.write(0, &data[..data.len().min(DATA)]);
    let Some(ring) = Ring::new(Arc::clone(&mapping), DATA, 0, DATA) else { return };
    let (mut reader, mut writer) = (Reader::new(ring.clone()), Writer::new(ring));
    let mut message = Vec::new();
    for scribble in scribbles.chunks_exact(6) {
        let (place, value) = scribble.split_at(2);
        let place = usize::from(u16::from_le_bytes([place[0], place[1]])) % (DATA + ring_header::LEN - 4);
        mapping.write(place, value);
        sem::post(reader.ring().semaphore());
        if reader.take(&mut message, 16, 2048).is_ok_and(|taken| taken) {
            assert!((16..=2048).contains(&message.len()));
        }
        // Refusing is as good as writing.
        let _ = writer.put(&[scribble, &scribbles[..scribbles.len().min(1000)]]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            super::messages(&bytes);
            super::ring(&bytes);
            super::auth_request(&bytes[..bytes.len().min(24)]);
        }

        #[test]
        fn responses_with_the_right_frame(
            bytes in proptest::collection::vec(any::<u8>(), 300),
            at in 8usize..12000,
        ) {
            let mut response = vec![0; super::wire::AUTH_RESPONSE_LEN];
            response[..4].fill(0xff);
            response[at..at + 300].copy_from_slice(&bytes);
            super::auth_response(&response);
        }
    }
}
