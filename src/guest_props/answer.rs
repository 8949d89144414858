//! The answer to one list of properties over all guests, kept so that a change of one guest costs the
//! parsing of that guest's config and a copy of the text. It holds the text and where each guest's
//! part of it is, nothing of the configs; it takes no lock and knows no tree.
//!
//! An update has two steps: [`Answer::plan`] looks at the guest list, [`Answer::apply`] parses. Only the
//! first needs the tree.

use super::scan::Scanner;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

/// What all answers start with.
const HEAD: &[u8] = b"{\n";
/// What stands between two guests.
const BETWEEN: &[u8] = b",\n";
/// What all answers end with.
const TAIL: &[u8] = b"\n}\n";

/// A list of properties, ready to be searched and written.
#[derive(Debug)]
pub struct Properties {
    scanner: Scanner,
    /// The names as JSON strings.
    names: Vec<Vec<u8>>,
}

impl Properties {
    /// Of these names, in this order.
    pub fn new(names: &[&[u8]]) -> Self {
        let quoted = |name: &&[u8]| {
            let mut json = Vec::new();
            push_json_string(&mut json, name);
            json
        };
        Self { scanner: Scanner::new(names), names: names.iter().map(quoted).collect() }
    }

    /// Whether these are the `names`.
    pub fn are(&self, names: &[&[u8]]) -> bool {
        self.scanner.names().eq(names.iter().copied())
    }

    /// The answer about one guest.
    pub fn of_one(&self, vmid: u32, config: &[u8]) -> Vec<u8> {
        let mut text = HEAD.to_vec();
        self.push_guest(&mut text, vmid, config, &mut Vec::new());
        finish(&mut text);
        text
    }

    /// Writes a guest's part, or nothing when it has none of the properties.
    fn push_guest<'c>(
        &self,
        text: &mut Vec<u8>,
        vmid: u32,
        config: &'c [u8],
        values: &mut Vec<Option<&'c [u8]>>,
    ) {
        self.scanner.scan(config, values);
        let mut first = true;
        for (name, value) in self.names.iter().zip(values.iter()) {
            let Some(value) = value else { continue };
            if first {
                // Writing into memory cannot fail.
                let _ = write!(text, "\"{vmid}\":{{");
            } else {
                text.push(b',');
            }
            first = false;
            text.extend_from_slice(name);
            text.extend_from_slice(b": ");
            push_json_string(text, value);
        }
        if !first {
            text.push(b'}');
            text.extend_from_slice(BETWEEN);
        }
    }
}

/// Writes `bytes` as a JSON string. What is not UTF-8 becomes U+FFFD: the answer as a whole must
/// stay readable whatever one config holds.
fn push_json_string(text: &mut Vec<u8>, bytes: &[u8]) {
    // Writing into memory cannot fail, and a string is always serializable.
    let _ = serde_json::to_writer(text, &String::from_utf8_lossy(bytes));
}

/// Puts the end behind the last guest's part.
fn finish(text: &mut Vec<u8>) {
    if text.len() > HEAD.len() {
        text.truncate(text.len() - BETWEEN.len());
    }
    text.extend_from_slice(TAIL);
}

/// A guest as the answer knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    vmid: u32,
    /// The guest list's version of this guest: another one with every change of its config.
    version: u32,
    /// Where the guest's part of the text ends, with what stands between guests. It starts where that
    /// of the row before ends.
    end: usize,
}

/// The text for all guests of a guest list.
#[derive(Debug)]
pub struct Answer {
    /// In order of vmid.
    rows: Vec<Row>,
    text: Arc<Vec<u8>>,
}

/// What stays and what must be read again.
#[derive(Debug)]
enum Piece {
    /// These rows are as they were.
    Kept(Range<usize>),
    /// This guest is new or was changed; without a config it has no properties.
    Changed { vmid: u32, version: u32, config: Option<Arc<Vec<u8>>> },
}

/// How to bring an answer up to date.
#[derive(Debug)]
pub struct Plan(Vec<Piece>);

impl Default for Answer {
    fn default() -> Self {
        let mut text = HEAD.to_vec();
        finish(&mut text);
        Self { rows: Vec::new(), text: Arc::new(text) }
    }
}

impl Answer {
    /// The whole answer.
    pub fn text(&self) -> &Arc<Vec<u8>> {
        &self.text
    }

    /// Compares with a guest list: (vmid, version, handle of the config), in order of vmid. `read` is
    /// called only for the guests that changed, and shares their configs.
    pub fn plan<H>(
        &self,
        guests: impl Iterator<Item = (u32, u32, H)>,
        read: impl Fn(H) -> Option<Arc<Vec<u8>>>,
    ) -> Plan {
        let mut pieces = Vec::new();
        let mut kept = 0..0;
        let mut at = 0;
        for (vmid, version, handle) in guests {
            // Guests that are gone.
            at += self.rows[at..].iter().take_while(|row| row.vmid < vmid).count();
            let known = self.rows.get(at).filter(|row| row.vmid == vmid);
            if known.is_some_and(|row| row.version == version) {
                if kept.end != at {
                    push_kept(&mut pieces, &kept);
                    kept.start = at;
                }
                kept.end = at + 1;
            } else {
                push_kept(&mut pieces, &kept);
                kept = at..at;
                pieces.push(Piece::Changed { vmid, version, config: read(handle) });
            }
            at += usize::from(known.is_some());
        }
        push_kept(&mut pieces, &kept);
        Plan(pieces)
    }

    /// Follows the plan, which must have been made from this answer as it is.
    pub fn apply(&mut self, properties: &Properties, plan: Plan) {
        let mut rows = Vec::with_capacity(self.rows.len() + 1);
        let mut text = Vec::with_capacity(self.text.len() + self.text.len() / 16);
        text.extend_from_slice(HEAD);
        for piece in plan.0 {
            match piece {
                Piece::Kept(kept) => self.copy(kept, &mut rows, &mut text),
                Piece::Changed { vmid, version, config } => {
                    let config = config.as_deref().map_or(&[][..], |config| config);
                    properties.push_guest(&mut text, vmid, config, &mut Vec::new());
                    rows.push(Row { vmid, version, end: text.len() });
                }
            }
        }
        finish(&mut text);
        *self = Self { rows, text: Arc::new(text) };
    }

    fn copy(&self, kept: Range<usize>, rows: &mut Vec<Row>, text: &mut Vec<u8>) {
        let start = kept.start.checked_sub(1).map_or(HEAD.len(), |before| self.rows[before].end);
        let shifted = text.len();
        rows.extend(self.rows[kept].iter().map(|row| Row { end: row.end - start + shifted, ..*row }));
        let len = rows.last().map_or(shifted, |row| row.end) - shifted;
        if len > 0 {
            // Behind the last guest's part the old text may have its end in place of `BETWEEN`.
            text.extend_from_slice(&self.text[start..start + len - BETWEEN.len()]);
            text.extend_from_slice(BETWEEN);
        }
    }
}

fn push_kept(pieces: &mut Vec<Piece>, kept: &Range<usize>) {
    if !kept.is_empty() {
        pieces.push(Piece::Kept(kept.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeMap;

    /// A guest list as tests make it: vmid to version and config.
    type List = BTreeMap<u32, (u32, &'static [u8])>;

    fn names() -> [&'static [u8]; 2] {
        [b"name", b"tags"]
    }

    /// Brings `answer` up to date; says how many configs were looked at.
    fn update(answer: &mut Answer, list: &List) -> usize {
        let read = Cell::new(0);
        let plan =
            answer.plan(list.iter().map(|(&vmid, &(version, config))| (vmid, version, config)), |config| {
                read.set(read.get() + 1);
                Some(Arc::new(config.to_vec()))
            });
        answer.apply(&Properties::new(&names()), plan);
        read.get()
    }

    fn text(answer: &Answer) -> &str {
        std::str::from_utf8(answer.text()).expect("JSON is UTF-8")
    }

    #[test]
    fn the_text_of_the_stock_daemon() {
        let mut answer = Answer::default();
        assert_eq!(text(&answer), "{\n\n}\n");
        let list = List::from([
            (100, (1, &b"tags: t\nname: a\n"[..])),
            (101, (2, b"memory: 512\n")),
            (102, (3, b"name: \\weird \"x\"")),
        ]);
        assert_eq!(update(&mut answer, &list), 3);
        assert_eq!(
            text(&answer),
            "{\n\"100\":{\"name\": \"a\",\"tags\": \"t\"},\n\"102\":{\"name\": \"\\\\weird \\\"x\\\"\"}\n}\n"
        );
        let one = Properties::new(&names()).of_one(100, b"name: a\n");
        assert_eq!(one, b"{\n\"100\":{\"name\": \"a\"}\n}\n");
        assert_eq!(Properties::new(&names()).of_one(100, b""), b"{\n\n}\n");
    }

    #[test]
    fn whatever_a_config_holds_the_answer_is_json() {
        let config = b"name: \x01\ttab \xff\xc3\xa4 \"q\" \\u0041 \x7f\n";
        let names: [&[u8]; 2] = [b"name", b"na\"me\xff"];
        let text = Properties::new(&names).of_one(100, config);
        let json: serde_json::Value = serde_json::from_slice(&text).expect("valid JSON");
        assert_eq!(json["100"]["name"], "\u{1}\ttab \u{fffd}\u{e4} \"q\" \\u0041 \u{7f}");
        let text = Properties::new(&names).of_one(100, b"na\"me\xff: v\n");
        let json: serde_json::Value = serde_json::from_slice(&text).expect("valid JSON");
        assert_eq!(json["100"]["na\"me\u{fffd}"], "v");
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let mut list: List = (100..200).map(|vmid| (vmid, (vmid, &b"name: a\n"[..]))).collect();
        let mut answer = Answer::default();
        assert_eq!(update(&mut answer, &list), 100);
        assert_eq!(update(&mut answer, &list), 0);
        list.insert(150, (1000, b"name: b\n"));
        assert_eq!(update(&mut answer, &list), 1);
        assert!(text(&answer).contains("\"150\":{\"name\": \"b\"}"));
        list.remove(&100);
        list.remove(&199);
        assert_eq!(update(&mut answer, &list), 0);
        assert!(!text(&answer).contains("\"100\"") && !text(&answer).contains("\"199\""));
        list.insert(99, (1001, b"x: y\n"));
        assert_eq!(update(&mut answer, &list), 1);
    }

    proptest! {
        /// After any changes the text is that of an answer made from nothing.
        #[test]
        fn an_update_gives_what_a_new_answer_gives(
            steps in proptest::collection::vec(proptest::collection::vec((0..12u32, 0..5usize), 0..6), 1..12),
        ) {
            const CONFIGS: [&[u8]; 4] = [b"", b"name: a\n", b"tags: x\nname: b\n", b"other: c\n"];
            let (mut list, mut answer, mut version) = (List::new(), Answer::default(), 0);
            for step in steps {
                for (vmid, config) in step {
                    version += 1;
                    match CONFIGS.get(config) {
                        Some(config) => list.insert(vmid, (version, config)),
                        None => list.remove(&vmid),
                    };
                }
                let mut fresh = Answer::default();
                prop_assert_eq!(update(&mut fresh, &list), list.len());
                update(&mut answer, &list);
                prop_assert_eq!(text(&answer), text(&fresh));
                prop_assert_eq!(&answer.rows, &fresh.rows);
                let parsed = serde_json::from_str::<serde_json::Value>(text(&answer));
                prop_assert!(parsed.is_ok());
            }
        }
    }
}
