//! Text of a log message made plain ASCII, fit to stand in a JSON string and in syslog.

use crate::status::json::unicode_escape;

/// Stock stops when fewer than this many bytes of its buffer are left: the longest piece and a NUL.
const LONGEST_PIECE: usize = 7;
/// Bytes at the end of the room that the text leaves free: its NUL, and the four that the layout of
/// an entry leaves behind it.
const SPARE: usize = 5;

/// The text up to its first NUL as it is stored, short enough to lie in `room` bytes with its NUL.
///
/// A quote gets a backslash; control characters and DEL become `#` and three decimal digits; other
/// characters up to 65535 become `\uXXXX`, higher ones are dropped. In text that is not UTF-8,
/// bytes over 126 become `?`. A backslash stays where it starts `\uXXXX` already, as the stock Perl
/// side sends it, and is `\u005c` anywhere else.
pub fn to_ascii(text: &[u8], room: usize) -> Vec<u8> {
    let text = crate::status::until_nul(text);
    let mut out = Output { bytes: Vec::with_capacity(text.len().min(room)), room };
    match std::str::from_utf8(text) {
        Ok(text) => push_unicode(&mut out, text),
        Err(_) => push_unknown(&mut out, text),
    }
    out.bytes
}

struct Output {
    bytes: Vec<u8>,
    room: usize,
}

impl Output {
    /// Appends a piece whole; false when there is no room for it or more.
    fn push(&mut self, piece: &[u8]) -> bool {
        let length = self.bytes.len();
        if length + LONGEST_PIECE >= self.room || length + piece.len() + SPARE > self.room {
            return false;
        }
        self.bytes.extend_from_slice(piece);
        true
    }
}

fn push_unicode(out: &mut Output, text: &str) {
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let escape = rest.as_bytes().get(..6).filter(|escape| unicode_escape(escape).is_some());
        let (taken, fits) = match (escape, u32::from(character)) {
            (Some(escape), _) => (6, out.push(escape)),
            (None, control @ (0..=31 | 127)) => (1, out.push(format!("#{control:03}").as_bytes())),
            (None, 0x5c) => (1, out.push(b"\\u005c")),
            (None, 0x22) => (1, out.push(b"\\\"")),
            (None, 32..=126) => (1, out.push(&rest.as_bytes()[..1])),
            (None, code @ 128..=0xffff) => {
                (character.len_utf8(), out.push(format!("\\u{code:04x}").as_bytes()))
            }
            (None, _) => (character.len_utf8(), true),
        };
        if !fits {
            return;
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
}

/// Text of no known encoding, byte by byte.
fn push_unknown(out: &mut Output, text: &[u8]) {
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        let escape = rest.get(..6).filter(|escape| unicode_escape(escape).is_some());
        let fits = match (escape, byte) {
            (Some(escape), _) => out.push(escape),
            (None, 0..=31) => out.push(format!("#0{byte:02}").as_bytes()),
            (None, b'\\') => out.push(b"\\u005c"),
            (None, b'"') => out.push(b"\\\""),
            (None, 32..=126) => out.push(&[byte]),
            (None, _) => out.push(b"?"),
        };
        if !fits {
            return;
        }
        rest = if escape.is_some() { rest.get(6..).unwrap_or_default() } else { behind };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(text: impl AsRef<[u8]>) -> String {
        String::from_utf8(to_ascii(text.as_ref(), 4000)).unwrap()
    }

    #[test]
    fn text_in_utf8() {
        assert_eq!(ascii("plain text ~"), "plain text ~");
        assert_eq!(ascii("say \"hi\""), r#"say \"hi\""#);
        assert_eq!(ascii("\t\x1f\x7f"), "#009#031#127");
        assert_eq!(ascii("\u{80}ä€\u{ffff}"), r"\u0080\u00e4\u20ac\uffff");
        assert_eq!(ascii("a😀b\u{10ffff}"), "ab");
        assert_eq!(ascii("cut\0here"), "cut");
    }

    #[test]
    fn text_in_no_known_encoding() {
        assert_eq!(ascii(b"\xff\"\x01\x1f\x7f\\ \\u00e4 \\uzz"), r##"?\"#001#031?\u005c \u00e4 \u005cuzz"##);
    }

    /// Stock leaves any backslash alone, which makes JSON that no reader takes.
    #[test]
    fn backslashes() {
        assert_eq!(ascii(r"C:\temp \ end\"), r"C:\u005ctemp \u005c end\u005c");
        assert_eq!(ascii(r"gr\u00fcn \u12 \U00e4 \\u00e4"), r"gr\u00fcn \u005cu12 \u005cU00e4 \u005c\u00e4");
        assert_eq!(ascii(r#"\""#), r#"\u005c\""#);
    }

    /// The text ends where stock's does, but never within an escape.
    #[test]
    fn text_that_is_too_long() {
        for room in 12..60 {
            assert_eq!(to_ascii(&[b'x'; 100], room).len(), room - 7);
            for (text, piece) in [("ä", r"\u00e4"), ("\"", "\\\""), ("\t", "#009"), (r"\u00e4", r"\u00e4")] {
                let stored = String::from_utf8(to_ascii(text.repeat(100).as_bytes(), room)).unwrap();
                assert_eq!(stored, piece.repeat(stored.len() / piece.len()), "{room}");
                assert!(
                    stored.len() + 5 <= room && stored.len() + piece.len() + 7 > room,
                    "{room}: {stored}"
                );
            }
        }
    }
}
