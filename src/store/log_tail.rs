//! Frames at the end of the write-ahead log that belong to no transaction. A commit that failed because the file
//! system is full leaves them, and they take up the space that a checkpoint needs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Length of the log up to the end of its last transaction. Of a log without a transaction only the header is left.
///
/// Counts frames with the salts of the header, up to the last one that ends a transaction. All frames that SQLite
/// uses are among them.
pub(super) fn committed_bytes(log: &File) -> io::Result<u64> {
    let length = log.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    if length < HEADER_BYTES as u64 {
        return Ok(length);
    }
    log.read_exact_at(&mut header, 0)?;
    let page_bytes = match big_endian(&header[8..12]) {
        page_bytes @ 512..=0x1_0000 => u64::from(page_bytes),
        // Not a log that SQLite would read.
        _ => return Ok(length),
    };
    let mut committed = HEADER_BYTES as u64;
    let mut end = committed;
    loop {
        let start = end;
        end += FRAME_HEADER_BYTES as u64 + page_bytes;
        if end > length {
            return Ok(committed);
        }
        let mut frame = [0; FRAME_HEADER_BYTES];
        log.read_exact_at(&mut frame, start)?;
        if frame[8..16] != header[16..24] {
            return Ok(committed);
        }
        // Number of pages of the database in the last frame of a transaction, 0 in all others.
        if big_endian(&frame[4..8]) != 0 {
            committed = end;
        }
    }
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const FRAME: u64 = 24 + 512;

    /// A log with frames of these salts and sizes of the database; its own salts are 7.
    fn log(frames: &[(u8, u8)]) -> File {
        let mut header = [0; HEADER_BYTES];
        header[10] = 2;
        header[16..24].fill(7);
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&header).expect("written");
        for &(salt, pages) in frames {
            let mut frame = [0; FRAME as usize];
            frame[7] = pages;
            frame[8..16].fill(salt);
            file.write_all(&frame).expect("written");
        }
        file
    }

    #[test]
    fn frames_after_the_last_transaction_are_left_out() {
        let bytes = |frames: &[(u8, u8)]| committed_bytes(&log(frames)).expect("readable");
        assert_eq!(bytes(&[(7, 0), (7, 2), (7, 0), (7, 0)]), 32 + 2 * FRAME);
        assert_eq!(bytes(&[(7, 0), (7, 2), (7, 3)]), 32 + 3 * FRAME);
        assert_eq!(bytes(&[(7, 0)]), 32);
        assert_eq!(bytes(&[]), 32);
    }

    #[test]
    fn frames_of_an_older_log_are_left_out() {
        let bytes = |frames: &[(u8, u8)]| committed_bytes(&log(frames)).expect("readable");
        assert_eq!(bytes(&[(7, 2), (6, 2), (7, 2)]), 32 + FRAME);
    }

    #[test]
    fn incomplete_frame_and_strange_header_are_no_transactions() {
        let file = log(&[(7, 2), (7, 2)]);
        file.set_len(32 + 2 * FRAME - 1).expect("cut");
        assert_eq!(committed_bytes(&file).expect("readable"), 32 + FRAME);
        file.set_len(31).expect("cut");
        assert_eq!(committed_bytes(&file).expect("readable"), 31);
        let strange = tempfile::tempfile().expect("a file");
        strange.set_len(1000).expect("zeros");
        assert_eq!(committed_bytes(&strange).expect("readable"), 1000);
    }
}
