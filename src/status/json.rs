//! Text into JSON strings. Whatever bytes come in, valid JSON comes out. It knows nothing of
//! objects and lists.

use std::fmt::Write;

/// How a backslash in the text is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Backslash {
    /// As itself.
    Literal,
    /// `\uXXXX` is an escape already, any other is itself.
    EscapedUnicode,
    /// `\uXXXX` and `\"` are escapes already, any other is itself.
    EscapedUnicodeAndQuote,
}

/// Appends `text` in quotes.
pub(super) fn push_string(out: &mut String, text: &[u8]) {
    push_escaped(out, text, Backslash::Literal);
}

/// Appends `text` in quotes; what `backslash` says is an escape stays as it is.
pub(super) fn push_escaped(out: &mut String, text: &[u8], backslash: Backslash) {
    out.push('"');
    match std::str::from_utf8(text) {
        Ok(plain) if is_plain(text) => out.push_str(plain),
        _ => push_chars(out, &String::from_utf8_lossy(text), backslash),
    }
    out.push('"');
}

fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

fn push_chars(out: &mut String, mut text: &str, backslash: Backslash) {
    while let Some(character) = text.chars().next() {
        let mut taken = character.len_utf8();
        match character {
            '\\' => taken = push_backslash(out, text, backslash),
            '"' => out.push_str("\\\""),
            control if control < ' ' => push_unicode(out, control as u16),
            other => out.push(other),
        }
        text = text.get(taken..).unwrap_or_default();
    }
}

/// Appends what the backslash at the start of `text` means; says how many bytes that were.
fn push_backslash(out: &mut String, text: &str, backslash: Backslash) -> usize {
    if backslash == Backslash::EscapedUnicodeAndQuote && text.starts_with("\\\"") {
        out.push_str("\\\"");
        return 2;
    }
    let unit = if backslash == Backslash::Literal { None } else { unicode_escape(text.as_bytes()) };
    let Some(unit) = unit else {
        out.push_str("\\\\");
        return 1;
    };
    // Half a surrogate pair is text that no strict reader takes.
    if !(0xd800..0xe000).contains(&unit) {
        out.push_str(text.get(..6).unwrap_or_default());
        return 6;
    }
    let second = text.get(6..).and_then(|rest| unicode_escape(rest.as_bytes()));
    match second {
        Some(0xdc00..=0xdfff) if unit < 0xdc00 => {
            out.push_str(text.get(..12).unwrap_or_default());
            12
        }
        _ => {
            push_unicode(out, 0xfffd);
            6
        }
    }
}

fn push_unicode(out: &mut String, unit: u16) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\u{unit:04x}");
}

/// The code unit of a `\uXXXX` at the start of `text`.
pub(super) fn unicode_escape(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        u16::try_from(digit).ok().map(|digit| (unit << 4) | digit)
    })
}

/// Appends a number; `write!` is several times slower, and guest lists are long.
pub(super) fn push_number(out: &mut String, number: u64) {
    let mut digits = [0u8; 20];
    let mut left = number;
    let mut count = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        count += 1;
        if left == 0 {
            break;
        }
    }
    let used = digits.get(digits.len() - count..).unwrap_or_default();
    out.push_str(std::str::from_utf8(used).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8], backslash: Backslash) -> String {
        let mut out = String::new();
        push_escaped(&mut out, text, backslash);
        out
    }

    /// What a strict reader makes of it.
    fn read(text: &[u8], backslash: Backslash) -> String {
        serde_json::from_str(&escaped(text, backslash)).unwrap()
    }

    #[test]
    fn literal_text_comes_back() {
        for text in ["", "plain", "a \"quote\"", r"back\slash \u00e4 \", "\0\x1f\x7f\n", "ä € 😀 \u{2028}"]
        {
            assert_eq!(read(text.as_bytes(), Backslash::Literal), text);
        }
        assert_eq!(read(b"a\xffb\xc3", Backslash::Literal), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn escapes_stay_as_they_are() {
        use Backslash::{EscapedUnicode, EscapedUnicodeAndQuote};
        assert_eq!(escaped(br#"gr\u00fcn \"x\" \"#, EscapedUnicodeAndQuote), r#""gr\u00fcn \"x\" \\""#);
        assert_eq!(escaped(br#"gr\u00fcn \"x"#, EscapedUnicode), r#""gr\u00fcn \\\"x""#);
        assert_eq!(read(br"\n\u12\u12g4\uABcd\\", EscapedUnicode), "\\n\\u12\\u12g4\u{abcd}\\\\");
        assert_eq!(read(br"\ud83d\ude00", EscapedUnicode), "😀");
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        let read = |text: &[u8]| read(text, Backslash::EscapedUnicode);
        assert_eq!(read(br"\ud83d!"), "\u{fffd}!");
        assert_eq!(read(br"\ude00\ud83d"), "\u{fffd}\u{fffd}");
        assert_eq!(read(br"\ud83d\ud83d\ude00"), "\u{fffd}😀");
        assert_eq!(read(br"\ud83d\u0041"), "\u{fffd}A");
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 1_234_567_890, u64::MAX] {
            let mut out = String::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string());
        }
    }
}
