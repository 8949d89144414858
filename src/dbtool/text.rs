//! Bytes, times and digests as text that people and programs can read back.

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

/// Seconds since 1970 as date and time in UTC.
pub(super) fn utc(seconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same for a file name: digits and one hyphen.
pub(super) fn utc_for_name(seconds: u32) -> String {
    let digits = utc(seconds).replace('T', "_");
    let kept: String = digits.chars().filter(|c| c.is_ascii_digit() || *c == '_').collect();
    kept.replace('_', "-")
}

/// Year, month and day of a day since 1970. Years begin in March here, so that the leap day is the last.
fn date(days: u32) -> (u32, u32, u32) {
    // Days since 1 March of the year 0, and from there in 400 years, 4 years and so on.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month, day)
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

    #[test]
    fn times() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (u32::MAX, "2106-02-07T06:28:15Z"),
        ] {
            assert_eq!(utc(seconds), shown);
        }
        assert_eq!(utc_for_name(1_700_000_000), "20231114-221320");
    }
}
