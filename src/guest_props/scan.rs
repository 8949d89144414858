//! Finding the values of properties in the text of a guest's config. Pure: bytes in, slices out.
//!
//! The rules are those of the stock daemon, to the byte. Only the current config counts: the part
//! before the first line that starts with `[` (snapshots, pending changes). A line `NAME:` then the
//! value; white space around the value is dropped; a later line wins over an earlier one.
//! Two corners of it, kept since clients of both daemons should see the same:
//! of a value that is nothing but white space the last byte remains (`NAME:` alone has no value),
//! and reading ends once as many repeated lines were seen as properties are asked for.

use memchr::memchr;

/// Looks for a list of properties.
#[derive(Debug)]
pub struct Scanner {
    names: Vec<Box<[u8]>>,
    /// The bytes that a line with one of the names can start with: most lines need no second look.
    first: [bool; 256],
}

impl Scanner {
    /// A scanner for `names`, which may be any bytes.
    pub fn new(names: &[&[u8]]) -> Self {
        let mut first = [false; 256];
        for name in names {
            first[usize::from(name.first().copied().unwrap_or(b':'))] = true;
        }
        Self { names: names.iter().map(|&name| name.into()).collect(), first }
    }

    /// The names, in the order of the values that [`Scanner::scan`] finds.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|name| &**name)
    }

    /// Sets `values` to one value per name, `None` for those that `config` does not have.
    pub fn scan<'c>(&self, config: &'c [u8], values: &mut Vec<Option<&'c [u8]>>) {
        values.clear();
        values.resize(self.names.len(), None);
        let mut repeats = 0;
        let mut rest = config;
        while let Some(&first) = rest.first() {
            let (line, after) = next_line(rest);
            rest = after;
            if first == b'[' {
                return;
            }
            if !self.first[usize::from(first)] {
                continue;
            }
            for (name, value) in self.names.iter().zip(values.iter_mut()) {
                if let Some(found) = value_in(line, name) {
                    repeats += usize::from(value.is_some());
                    *value = Some(found);
                }
            }
            if repeats == self.names.len() {
                return;
            }
        }
    }
}

/// The line that `text` starts with, without its end, and what is behind it.
fn next_line(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'\n', text) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[]),
    }
}

/// The value in `line` if that is a line of property `name`.
fn value_in<'c>(line: &'c [u8], name: &[u8]) -> Option<&'c [u8]> {
    let text = line.strip_prefix(name)?.strip_prefix(b":")?;
    let (_, all_but_last) = text.split_last()?;
    let start = all_but_last.iter().take_while(|&&b| is_space(b)).count();
    let text = &text[start..];
    let end = text.iter().rposition(|&b| !is_space(b)).map_or(1, |last| last + 1);
    let value = &text[..end];
    // A string ends at a NUL.
    match memchr(0, value) {
        Some(0) => None,
        Some(nul) => Some(&value[..nul]),
        None => Some(value),
    }
}

/// White space as C knows it; [`u8::is_ascii_whitespace`] lacks the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan<'c>(config: &'c [u8], names: &[&[u8]]) -> Vec<Option<&'c [u8]>> {
        let mut values = vec![Some(&b"left over"[..])];
        Scanner::new(names).scan(config, &mut values);
        values
    }

    /// The value of `name` in `config`.
    fn value<'c>(config: &'c str, name: &str) -> Option<&'c [u8]> {
        let values = scan(config.as_bytes(), &[name.as_bytes()]);
        assert_eq!(values.len(), 1);
        values[0]
    }

    #[test]
    fn a_value_is_what_is_between_the_white_space() {
        for (line, expected) in [
            ("name: a", "a"),
            ("name:a", "a"),
            ("name:\t\x0b\x0c\r a b \t\r", "a b"),
            ("name::", ":"),
            ("name: [x]", "[x]"),
            ("name: a\0b", "a"),
            ("name:  ", " "),
            ("name: \t", "\t"),
            ("name:\r", "\r"),
        ] {
            for end in ["", "\n", "\n\n", "\nother: x\n"] {
                let config = format!("memory: 1\n{line}{end}");
                assert_eq!(value(&config, "name"), Some(expected.as_bytes()), "{config:?}");
            }
        }
    }

    #[test]
    fn lines_without_a_value_or_of_other_properties_count_for_nothing() {
        for config in
            ["", "\n", "name", "name:", "name:\n", "name: \0x", "name :a", " name: a", "names: a", "Name: a"]
        {
            assert_eq!(value(config, "name"), None, "{config:?}");
            let config = format!("name: before\n{config}\n");
            assert_eq!(value(&config, "name"), Some(&b"before"[..]), "{config:?}");
        }
    }

    #[test]
    fn sections_end_the_current_config() {
        assert_eq!(value("[snap]\nname: a\n", "name"), None);
        assert_eq!(value("name: a\n[snap]\nname: b\n", "name"), Some(&b"a"[..]));
        assert_eq!(value("name: a\n[\nname: b\n", "name"), Some(&b"a"[..]));
        assert_eq!(value("name: a\n [snap]\nname: b\n", "name"), Some(&b"b"[..]));
    }

    #[test]
    fn a_later_line_wins_until_all_repeats_were_seen() {
        assert_eq!(value("name: a\nname: b\n", "name"), Some(&b"b"[..]));
        assert_eq!(value("name: a\nname: b\nname: c\n", "name"), Some(&b"b"[..]));
        let config = b"a: 1\na: 2\nb: 1\na: 3\na: 4\n";
        assert_eq!(scan(config, &[b"a", b"b"]), [Some(&b"3"[..]), Some(b"1")]);
        assert_eq!(scan(config, &[b"a", b"b", b"c"]), [Some(&b"4"[..]), Some(b"1"), None]);
    }

    #[test]
    fn values_come_in_the_order_of_the_names() {
        let config = b"tags: t\nname: n\n";
        assert_eq!(scan(config, &[b"name", b"lock", b"tags"]), [Some(&b"n"[..]), None, Some(b"t")]);
        assert_eq!(scan(config, &[b"name", b"name"]), [Some(&b"n"[..]), Some(b"n")]);
        assert_eq!(scan(b":x\n", &[b""]), [Some(&b"x"[..])]);
        assert_eq!(scan(config, &[]), []);
    }

    proptest! {
        #[test]
        fn any_bytes_have_values_or_none(
            config in proptest::collection::vec(proptest::sample::select(b"ab:[ \n\0\xff".to_vec()), 0..60),
            names in proptest::collection::vec("[a:]{0,2}", 0..4),
        ) {
            let names: Vec<&[u8]> = names.iter().map(|n| n.as_bytes()).collect();
            let values = scan(&config, &names);
            prop_assert_eq!(values.len(), names.len());
            prop_assert!(values.iter().flatten().all(|v| !v.is_empty() && !v.contains(&b'\n')));
        }
    }
}
