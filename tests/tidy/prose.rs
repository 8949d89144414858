//! Ratchet for the prose of comments and pages. It counts the sentences that hide their subject; the numbers may
//! only go down. To lower a ceiling, rewrite sentences and enter the number that the test prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Sentences with fewer words are labels.
const WORDS_MIN: usize = 4;
/// Sentences in a failing message.
const SHOWN: usize = 20;

/// Part of the project with its ceilings: for each of [`RULES`], how many sentences break it.
struct Area {
    name: &'static str,
    paths: &'static [&'static str],
    ceilings: [usize; 3],
}

const AREAS: &[Area] = &[
    Area { name: "src", paths: &["src"], ceilings: [560, 360, 88] },
    Area { name: "C libraries", paths: &["capi/src", "qb-compat/src"], ceilings: [15, 32, 4] },
    Area { name: "tests", paths: &["tests", "benches", "fuzz", "capi/tests"], ceilings: [196, 197, 40] },
    Area {
        name: "pages",
        paths: &["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs"],
        ceilings: [0, 2, 0],
    },
];

/// A rule and its test on the words of a sentence.
struct Rule {
    name: &'static str,
    breaks: fn(&str) -> bool,
}

const RULES: [Rule; 3] = [
    Rule {
        name: "begin with a relative clause (Who, What, That, How, Where ...)",
        breaks: begins_with_clause,
    },
    Rule { name: "contain who, what, whoever or whatever", breaks: contains_clause },
    Rule { name: "contain nobody, somebody or everybody", breaks: contains_body },
];

fn words(sentence: &str) -> impl Iterator<Item = &str> {
    sentence.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn begins_with_clause(sentence: &str) -> bool {
    let begins = |word: &str| {
        let rest = sentence.strip_prefix(word).map(|rest| rest.chars().next());
        rest.is_some_and(|next| !next.is_some_and(|c| c.is_alphanumeric() || c == '_'))
    };
    let clauses =
        ["Who", "What", "Whoever", "Whatever", "That", "Whether", "How", "Where", "When and", "Why"];
    clauses.into_iter().any(begins) && !sentence.ends_with('?')
}

fn contains_clause(sentence: &str) -> bool {
    words(sentence).any(|word| matches!(word, "who" | "whoever" | "what" | "whatever"))
}

fn contains_body(sentence: &str) -> bool {
    words(sentence)
        .any(|word| matches!(word, "nobody" | "somebody" | "everybody" | "Nobody" | "Somebody" | "Everybody"))
}

/// Blocks of text in a Rust file: runs of comment lines, divided at empty lines, list items, headings, tables.
fn comment_blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in text.lines().map(str::trim_start) {
        let comment = line.strip_prefix("//").filter(|_| !line.starts_with("////"));
        let text = comment.map(|rest| rest.strip_prefix(['/', '!']).unwrap_or(rest).trim());
        match text {
            Some(text) if !text.is_empty() && !text.starts_with(['|', '#']) && !text.starts_with("```") => {
                let item = text.strip_prefix("- ").or(text.strip_prefix("* "));
                if item.is_some() {
                    blocks.push(String::new());
                }
                append(&mut blocks, item.unwrap_or(text));
            }
            _ => blocks.push(String::new()),
        }
    }
    blocks
}

/// Blocks of text in a page: paragraphs, list items and cells of tables, without code and headings.
fn page_blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    let mut in_code = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.is_empty() || line.starts_with('#') || line.starts_with("```") {
            blocks.push(String::new());
        } else if let Some(row) = line.strip_prefix('|') {
            blocks.extend(row.split('|').map(|cell| cell.trim().to_owned()));
            blocks.push(String::new());
        } else {
            let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
            let numbered = number.strip_prefix(". ").filter(|_| number.len() < line.len());
            let item = line.strip_prefix("- ").or(line.strip_prefix("* ")).or(numbered);
            if item.is_some() {
                blocks.push(String::new());
            }
            append(&mut blocks, item.unwrap_or(line));
        }
    }
    blocks
}

/// Blocks of text in a manual page: text between requests, with the words of those that only set a font.
fn manual_blocks(text: &str) -> Vec<String> {
    const FONTS: [&str; 8] = [".B ", ".I ", ".BR ", ".IR ", ".RB ", ".BI ", ".IB ", ".RI "];
    let mut blocks = vec![String::new()];
    let mut in_example = false;
    for line in text.lines() {
        in_example = line == ".EX" || in_example && line != ".EE";
        let font = FONTS.into_iter().find_map(|font| line.strip_prefix(font));
        match font {
            _ if in_example => {}
            Some(words) => append(&mut blocks, &words.replace('"', "")),
            None if line.starts_with('.') => blocks.push(String::new()),
            None => append(&mut blocks, line),
        }
    }
    blocks
}

fn append(blocks: &mut [String], text: &str) {
    if let Some(block) = blocks.last_mut() {
        block.push(' ');
        block.push_str(text);
    }
}

/// Replaces `[text](target)` by its text.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("](") {
        let Some((_, after)) = behind.split_once(')') else { break };
        let (head, label) = before.rsplit_once('[').unwrap_or(("", before));
        plain.push_str(head);
        plain.push_str(label);
        rest = after;
    }
    plain + rest
}

/// Sentences of a block. One ends with a period, question mark or exclamation mark before white space and the
/// begin of another one.
fn sentences(block: &str) -> Vec<String> {
    let mut sentences = vec![String::new()];
    for word in without_links(block).split_whitespace() {
        let begins = word.starts_with(|c: char| c.is_ascii_uppercase() || matches!(c, '`' | '[' | '('));
        let sentence = sentences.last_mut().expect("never empty");
        if begins && sentence.ends_with(['.', '!', '?']) {
            sentences.push(word.to_owned());
        } else {
            if !sentence.is_empty() {
                sentence.push(' ');
            }
            sentence.push_str(word);
        }
    }
    let lower = |sentence: &str| {
        let bytes = sentence.as_bytes();
        bytes.windows(3).any(|three| three.iter().all(u8::is_ascii_lowercase))
    };
    sentences.retain(|sentence| sentence.split_whitespace().count() >= WORDS_MIN && lower(sentence));
    sentences
}

fn find_files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("readable directory") {
            find_files(&entry.expect("readable entry").path(), found);
        }
    } else if path
        .extension()
        .is_some_and(|extension| ["rs", "md", "3", "8"].iter().any(|one| extension == *one))
    {
        found.push(path.to_owned());
    }
}

/// All sentences of an area with their files; those of the files changed last come first.
fn sentences_of(area: &Area) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    area.paths.iter().for_each(|path| find_files(&root.join(path), &mut files));
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    files.sort_by_key(|path| std::cmp::Reverse(changed(path).unwrap_or(SystemTime::UNIX_EPOCH)));
    let mut all = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("UTF-8 text");
        let blocks = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => comment_blocks(&text),
            Some("md") => page_blocks(&text),
            _ => manual_blocks(&text),
        };
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        all.extend(blocks.iter().flat_map(|block| sentences(block)).map(|one| (name.clone(), one)));
    }
    all
}

#[test]
fn prose_has_no_more_hidden_subjects() {
    let mut complaints = Vec::new();
    for area in AREAS {
        let all = sentences_of(area);
        assert!(all.len() > 100, "{}: only {} sentences were found", area.name, all.len());
        for (rule, ceiling) in RULES.iter().zip(area.ceilings) {
            let found: Vec<_> = all.iter().filter(|(_, sentence)| (rule.breaks)(sentence)).collect();
            let share = 100.0 * found.len() as f64 / all.len() as f64;
            let summary = format!(
                "{}: {} of {} sentences ({share:.1} %) {}",
                area.name,
                found.len(),
                all.len(),
                rule.name
            );
            println!("{summary}; at most {ceiling} may");
            if found.len() > ceiling {
                complaints.push(format!("{summary}; at most {ceiling} may. In the files changed last:"));
                let shown = found.iter().take(SHOWN);
                complaints.extend(shown.map(|(path, sentence)| format!("  {}: {sentence}", path.display())));
            }
        }
    }
    assert!(complaints.is_empty(), "rewrite these: subject, verb, object\n{}\n", complaints.join("\n"));
}

#[test]
fn each_prose_rule_fires() {
    let breaks = |sentence: &str| RULES.map(|rule| (rule.breaks)(sentence));
    assert_eq!(breaks("Who asks gets it."), [true, false, false]);
    assert_eq!(breaks("What's stored is what was sent."), [true, true, false]);
    assert_eq!(breaks("When and why it fails."), [true, false, false]);
    assert_eq!(breaks("What does it store?"), [false, false, false]);
    assert_eq!(breaks("Thatch has a whoop."), [false, false, false]);
    assert_eq!(breaks("It wakes whoever waits, and nobody else."), [false, true, true]);
    assert_eq!(breaks("Wakes all waiters."), [false, false, false]);
}

#[test]
fn sentences_are_found_in_comments_and_pages() {
    let code = "//! One two three four. `Five` six\n//! seven eight.\n//!\n//! # Not a heading of ours\n\
        let x = 1; // not a whole line of comment\n/// - An item of a list.\n///\n// too short\n";
    let found: Vec<_> = comment_blocks(code).iter().flat_map(|block| sentences(block)).collect();
    assert_eq!(found, ["One two three four.", "`Five` six seven eight.", "An item of a list."]);
    let page = "# A heading with four words\n\nSee [the page](a.md) for more,\nv. 1.2 too.\n\n```sh\nrun what you like here\n```\n\
        1. First do this thing.\n| cell with four words | short |\n";
    let found: Vec<_> = page_blocks(page).iter().flat_map(|block| sentences(block)).collect();
    assert_eq!(found, ["See the page for more, v. 1.2 too.", "First do this thing.", "cell with four words"]);
    let manual = ".TP\n.B check\nLists all\n.I faults\nof it.\n.EX\nsome lines to be typed\n.EE\nPrints them as text.\n";
    let found: Vec<_> = manual_blocks(manual).iter().flat_map(|block| sentences(block)).collect();
    assert_eq!(found, ["check Lists all faults of it.", "Prints them as text."]);
}
