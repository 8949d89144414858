//! The header file of a ring: its layout, and its bytes as a server writes and a client reads them.

use super::{Malformed, PATH_LEN, c_path, put, word};

/// Next word to write, owned by the writer.
pub const WRITE_INDEX: usize = 0;
/// Oldest unread word, owned by the reader.
pub const READ_INDEX: usize = 4;
/// Words of the data file.
pub const WORDS: usize = 8;
/// Path of the header file.
pub const HEADER_PATH: usize = 12;
/// Path of the data file.
pub const DATA_PATH: usize = HEADER_PATH + PATH_LEN;
/// How many ends use the ring.
pub const REFERENCES: usize = DATA_PATH + PATH_LEN;
/// A glibc semaphore: value and waiters in one u64, then the process-shared flag.
pub const SEMAPHORE: usize = 8208;
/// The request ring only: not 0 asks the client to hold back.
pub const FLOW_CONTROL: usize = 8240;
/// What both ends map. A stock client cuts the file to this length.
pub const LEN: usize = 8248;
/// What a server makes.
pub const FILE_LEN: usize = LEN + 4;

const _: () = assert!(REFERENCES + 4 == SEMAPHORE);
const _: () = assert!(SEMAPHORE % 8 == 0);

/// What a server writes into a new ring's header file: empty, one end, an open semaphore shared
/// between processes. `None` if a path is too long.
pub fn new_ring_header(words: u32, header_path: &[u8], data_path: &[u8]) -> Option<Vec<u8>> {
    if header_path.len() >= PATH_LEN || data_path.len() >= PATH_LEN {
        return None;
    }
    const PROCESS_SHARED: u32 = 128;
    let mut bytes = vec![0; FILE_LEN];
    put(&mut bytes, WORDS, &words.to_ne_bytes());
    put(&mut bytes, HEADER_PATH, header_path);
    put(&mut bytes, DATA_PATH, data_path);
    put(&mut bytes, REFERENCES, &1u32.to_ne_bytes());
    put(&mut bytes, SEMAPHORE + 8, &PROCESS_SHARED.to_ne_bytes());
    Some(bytes)
}

/// What a client reads from a ring's header file: the words of the ring and the data file's path.
///
/// # Errors
/// If the header is short or the path has no end.
pub fn parse_ring_header(bytes: &[u8]) -> Result<(u32, Vec<u8>), Malformed> {
    if bytes.len() < LEN {
        return Err(Malformed("ring header"));
    }
    let path = c_path(bytes, DATA_PATH).ok_or(Malformed("path in a ring header"))?;
    Ok((word(bytes, WORDS), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ring_header_is_the_recorded_one() {
        let bytes = new_ring_header(0x40400, b"/h", b"/d").unwrap();
        assert_eq!(bytes.len(), 8252);
        assert_eq!(bytes[..14], *b"\0\0\0\0\0\0\0\0\x00\x04\x04\x00/h");
        assert_eq!(&bytes[0x100c..0x100f], b"/d\0");
        assert_eq!(bytes[0x200c..0x2010], [1, 0, 0, 0]);
        assert_eq!(bytes[0x2010..0x201c], [0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0]);
        assert_eq!(parse_ring_header(&bytes), Ok((0x40400, b"/d".to_vec())));
        assert!(parse_ring_header(&bytes[..8247]).is_err());
    }
}
