//! A page of docs/protocol: its blocks, and its tables of fields.

use std::collections::BTreeMap;
use std::path::Path;

/// A page, taken apart.
pub struct Page {
    text: String,
    /// Examples by their names.
    examples: BTreeMap<String, Vec<u8>>,
}

impl Page {
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol").join(name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut examples = BTreeMap::new();
        for (name, lines) in blocks(&text, "hex") {
            let bytes = parse_dump(&name, &lines);
            assert!(examples.insert(name.clone(), bytes).is_none(), "two examples '{name}'");
        }
        check_tables(&text);
        Self { text, examples }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes an example out. In the end [`Page::finish`] checks that none is left.
    pub fn example(&mut self, name: &str) -> Vec<u8> {
        self.examples.remove(name).unwrap_or_else(|| panic!("no example '{name}'"))
    }

    pub fn finish(self) {
        let left: Vec<_> = self.examples.into_keys().collect();
        assert!(left.is_empty(), "no test decodes these examples: {left:?}");
    }

    /// Lines of the block in this language with this name.
    pub fn block(&self, language: &str, name: &str) -> String {
        let found = blocks(&self.text, language).into_iter().find(|(other, _)| other == name);
        found.unwrap_or_else(|| panic!("no block '{language} {name}'")).1.join("\n")
    }
}

fn blocks(text: &str, language: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("```").and_then(|line| line.strip_prefix(language)) {
            let inner = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
            blocks.push((name.trim().to_owned(), inner));
        }
    }
    blocks
}

/// Bytes of a dump. A line has an offset, bytes and a comment: `0004  01 00*3 | version`.
fn parse_dump(name: &str, lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let dump = line.split('|').next().unwrap_or_default();
        let mut words = dump.split_whitespace();
        let offset = words.next().and_then(|word| usize::from_str_radix(word, 16).ok());
        assert_eq!(offset, Some(bytes.len()), "{name}: offset of '{line}'");
        for word in words {
            let (digits, count) = word.split_once('*').unwrap_or((word, "1"));
            let byte = u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2);
            let (Some(byte), Ok(count)) = (byte, count.parse::<usize>()) else {
                panic!("{name}: '{word}' in '{line}'")
            };
            bytes.resize(bytes.len() + count, byte);
        }
    }
    bytes
}

/// A sum of a number and lengths with names, such as `20+P+Q`.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    number: usize,
    names: Vec<String>,
}

impl Sum {
    fn parse(text: &str) -> Self {
        let (numbers, names): (Vec<&str>, Vec<&str>) =
            text.split('+').partition(|term| term.parse::<usize>().is_ok());
        let number = numbers.iter().filter_map(|term| term.parse::<usize>().ok()).sum();
        Self { number, names: names.into_iter().map(str::to_owned).collect() }
    }

    fn plus(mut self, other: Sum) -> Self {
        self.number += other.number;
        self.names.extend(other.names);
        self
    }
}

/// Checks that in each table of fields every field begins at the end of the field before it.
fn check_tables(text: &str) {
    let mut lines = text.lines();
    let mut count = 0;
    while lines.by_ref().any(|line| line == "| at | size | field |") {
        lines.next();
        let mut end: Option<Sum> = None;
        for row in lines.by_ref().take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let (at, size) = (Sum::parse(cells[1]), Sum::parse(cells[2]));
            assert!(end.is_none_or(|end| end == at), "a gap before {row}");
            end = Some(at.plus(size));
            count += 1;
        }
    }
    assert!(count > 8, "only {count} fields were found");
}

#[test]
fn dump_with_repeats_is_parsed() {
    let lines = ["0000  01 ff*2 | two", "0003  00"].map(str::to_owned);
    assert_eq!(parse_dump("x", &lines), [1, 255, 255, 0]);
}

#[test]
#[should_panic(expected = "offset of '0002  00'")]
fn dump_with_wrong_offset_is_refused() {
    parse_dump("x", &["0000  01".to_owned(), "0002  00".to_owned()]);
}

#[test]
#[should_panic(expected = "a gap before | 4+N | 2 | c |")]
fn table_with_gap_is_refused() {
    check_tables(
        "| at | size | field |\n| --- | --- | --- |\n| 0 | 2 | a |\n| 2 | N | b |\n| 4+N | 2 | c |\n",
    );
}
