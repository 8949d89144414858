//! Bytes, times and digests as text that people and programs can read back.

pub(super) use crate::clock::{utc, utc_for_name};
use std::fmt::Write;

/// Names and paths on a screen: text as it is; a backslash as two; control characters and what is not
/// UTF-8 as `\xNN`, byte by byte. No two names look the same.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let hex = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                char if char.is_control() => hex(&mut text, char.encode_utf8(&mut [0; 4]).as_bytes()),
                char => text.push(char),
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// What [`escape`] was given; None for what it never returns.
pub(super) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match *rest {
            [b'\\', ref after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [b'x', high, low, ref after @ ..] => {
                let digit = |byte: u8| (byte as char).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// Lower-case digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `1 entry`, `2 entries`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for (name, shown) in [
            (&b"a.conf"[..], "a.conf"),
            ("ä b".as_bytes(), "ä b"),
            (b"\xff\xfea", "\\xff\\xfea"),
            (b"\\xff", "\\\\xff"),
            (b"a\n\x1b", "a\\x0a\\x1b"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
            (b"", ""),
        ] {
            assert_eq!(escape(name), shown);
            assert_eq!(unescape(shown.as_bytes()).as_deref(), Some(name));
        }
        for bad in ["\\", "\\x", "\\x1", "\\xg0", "\\n"] {
            assert_eq!(unescape(bad.as_bytes()), None, "{bad}");
        }
    }
}
