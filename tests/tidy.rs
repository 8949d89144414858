//! Reads the source tree and enforces the walls of docs/ARCHITECTURE.md: what may stand where.
//! Every rule is a function from a file to complaints, and is shown to fire below.

#[path = "tidy/prose.rs"]
mod prose;

use std::fs;
use std::path::{Path, PathBuf};

/// Modules without I/O, threads, locks, clocks or randomness.
const CORE: &[&str] = &["memdb", "status", "dfsm", "dcdb", "status_group"];

/// The only files with unsafe code: where another language's memory or calls begin.
const UNSAFE_CORNERS: &[&str] = &[
    "src/ipc/qb/",
    "src/rrd/librrd.rs",
    "src/cluster/heap.rs",
    "src/cluster/poll.rs",
    "capi/src/",
    "qb-compat/src/",
];

/// Longest file and longest function, in lines.
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// A module may use those of a lower rank, and itself.
const RANKS: &[(&str, u32)] = &[
    ("clock", 0),
    ("counts", 1),
    ("dir", 1),
    ("logging", 1),
    ("memdb", 1),
    ("status", 2),
    ("dfsm", 2),
    ("dcdb", 3),
    ("status_group", 3),
    ("store", 3),
    ("engine", 4),
    ("rrd", 4),
    ("guest_props", 5),
    ("cfs", 6),
    ("fs", 7),
    ("options", 8),
    // Names every error type of the layers below; those only implement its trait.
    ("errno", 9),
    ("fuse", 10),
    ("ipc", 10),
    ("cluster", 10),
    ("daemon", 11),
    ("dbtool", 11),
    ("ctl", 11),
];

/// One source file: its path from the project's root, and its lines up to its unit tests.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        // A test module in a file of its own is a source like any other.
        let tests_begin = |line: &str, next: &str| line.starts_with("#[cfg(test)]") && next.ends_with('{');
        let nexts = text.lines().skip(1).chain([""]);
        let lines = text.lines().zip(nexts).take_while(|(line, next)| !tests_begin(line, next));
        Self { path: path.to_owned(), lines: lines.map(|(line, _)| line.to_owned()).collect() }
    }

    /// Lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.lines.iter().enumerate().map(|(index, line)| (index + 1, line.trim_start()));
        numbered.filter(|(_, line)| !line.starts_with("//"))
    }

    /// The top module that the file belongs to; None for programs.
    fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        if inner.starts_with("bin/") || inner == "main.rs" || inner == "lib.rs" {
            return None;
        }
        inner.split(['/', '.']).next()
    }

    fn is_corner(&self) -> bool {
        UNSAFE_CORNERS.iter().any(|corner| self.path.starts_with(corner))
    }

    fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// Complaints about each line of code that contains any of `words`.
    fn ban(&self, words: &[&str], why: &str) -> Vec<String> {
        // `log::` is not in `clusterlog::`.
        let starts_word =
            |line: &str, at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let contains = |line: &str, word: &str| line.match_indices(word).any(|(at, _)| starts_word(line, at));
        let hit = |line: &str| words.iter().find(|word| contains(line, word)).copied();
        let found = self.code().filter_map(|(number, line)| Some((number, hit(line)?)));
        found.map(|(number, word)| self.complain(number, &format!("`{word}`: {why}"))).collect()
    }
}

fn core_does_no_io(file: &Source) -> Vec<String> {
    if !file.module().is_some_and(|module| CORE.contains(&module)) {
        return Vec::new();
    }
    let words = [
        "std::fs",
        "std::io",
        "std::net::Tcp",
        "std::net::Udp",
        "std::os",
        "std::process",
        "std::env",
        "std::thread",
        "Mutex",
        "RwLock",
        "Condvar",
        "mpsc",
        "atomic",
        "Instant",
        "SystemTime",
        "nix::",
        "libc::",
        "rand::",
        "log::",
    ];
    file.ban(&words, "the core has no I/O, threads, locks, clocks, randomness or log")
}

fn clocks_are_in_clock(file: &Source) -> Vec<String> {
    if file.path == "src/clock.rs" {
        return Vec::new();
    }
    let words = ["Instant::now", "SystemTime::now", "UNIX_EPOCH", "clock_gettime"];
    file.ban(&words, "only src/clock.rs reads a clock")
}

fn errnos_are_in_errno(file: &Source) -> Vec<String> {
    if file.module() == Some("errno") || file.is_corner() {
        return Vec::new();
    }
    let named = |line: &str, prefix: &str| {
        let second = |at: usize| line.as_bytes().get(at + prefix.len()).copied();
        line.match_indices(prefix).any(|(at, _)| second(at).is_some_and(|b| b.is_ascii_uppercase()))
    };
    let hits = file.code().filter(|(_, line)| named(line, "libc::E") || named(line, "Errno::E"));
    hits.map(|(number, _)| {
        file.complain(number, "an errno by name: only src/errno.rs and what is below it have them")
    })
    .collect()
}

fn unsafe_is_in_corners(file: &Source) -> Vec<String> {
    let is_unsafe =
        |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
    let mut complaints = Vec::new();
    for (number, _) in file.code().filter(|(_, line)| is_unsafe(line)) {
        if !file.is_corner() {
            complaints.push(file.complain(number, "unsafe code outside of the FFI corners"));
            continue;
        }
        let above = &file.lines[number.saturating_sub(9)..number];
        if !above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
            complaints.push(file.complain(number, "unsafe code without a SAFETY comment"));
        }
    }
    complaints
}

fn libraries_stay_behind_their_adapter(file: &Source) -> Vec<String> {
    let owners =
        [("rusqlite", "store"), ("fuser::", "fuse"), ("syslog", "logging"), ("rust_corosync", "cluster")];
    let foreign = owners.iter().filter(|(_, module)| file.module() != Some(module));
    foreign.flat_map(|(library, _)| file.ban(&[library], "used outside of the module that owns it")).collect()
}

fn arrows_point_down(file: &Source) -> Vec<String> {
    let rank = |name: &str| RANKS.iter().find(|(module, _)| *module == name).map(|(_, rank)| *rank);
    let Some(module) = file.module() else { return Vec::new() };
    let Some(own) = rank(module) else {
        return vec![file.complain(1, "a module without a rank in tests/tidy.rs")];
    };
    let mut complaints = Vec::new();
    for (number, line) in file.code() {
        for (at, prefix) in line.match_indices("crate::") {
            let rest = line[at + prefix.len()..].chars();
            let used: String = rest.take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let allowed = used == module || used == "errno" || module == "errno";
            if !allowed && rank(&used).is_some_and(|other| other >= own) {
                complaints.push(file.complain(number, &format!("`{module}` may not use `{used}`")));
            }
        }
    }
    complaints
}

fn nothing_is_left_undone(file: &Source) -> Vec<String> {
    let words = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME", "XXX"];
    let mut complaints = file.ban(&words, "left over");
    // Before there is a log, standard error is the only place to complain; programs print.
    if file.module().is_some() && file.path != "src/logging.rs" {
        complaints.extend(file.ban(&["println!(", "print!("], "the library does not print"));
    }
    complaints
}

fn files_say_what_they_own(file: &Source) -> Vec<String> {
    let says = file.lines.first().is_some_and(|line| line.starts_with("//! "));
    if says { Vec::new() } else { vec![file.complain(1, "does not begin with a `//!` paragraph")] }
}

fn files_and_functions_fit(file: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if file.lines.len() > FILE_LINES_MAX {
        complaints.push(file.complain(1, "is too long: is there a second noun in it?"));
    }
    for (index, line) in file.lines.iter().enumerate() {
        let code = line.trim_start();
        let starts = !code.starts_with("//") && code.split(' ').take(4).any(|word| word == "fn");
        if !starts || code.ends_with(';') {
            continue;
        }
        let indent = " ".repeat(line.len() - code.len());
        let after_arguments =
            file.lines[index..].iter().find(|other| other.starts_with(&format!("{indent})")));
        if code.ends_with('(') && after_arguments.is_some_and(|line| line.ends_with(';')) {
            continue;
        }
        let close = format!("{indent}}}");
        let length = file.lines[index..].iter().position(|other| *other == close).unwrap_or(0);
        if length > FUNCTION_LINES_MAX {
            complaints.push(file.complain(index + 1, &format!("a function of {length} lines")));
        }
    }
    complaints
}

const RULES: &[fn(&Source) -> Vec<String>] = &[
    core_does_no_io,
    clocks_are_in_clock,
    errnos_are_in_errno,
    unsafe_is_in_corners,
    libraries_stay_behind_their_adapter,
    arrows_point_down,
    nothing_is_left_undone,
    files_say_what_they_own,
    files_and_functions_fit,
];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable directory") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for dir in ["src", "capi/src", "qb-compat/src"] {
        rust_files(&root.join(dir), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        Source::new(&relative, &fs::read_to_string(path).expect("UTF-8 source"))
    };
    paths.iter().map(read).collect()
}

#[test]
fn the_walls_stand() {
    let sources = sources();
    assert!(sources.len() > 15, "the source tree was not found");
    let complaints: Vec<String> =
        sources.iter().flat_map(|file| RULES.iter().flat_map(move |rule| rule(file))).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_file_belongs_to_a_module() {
    let sources = sources();
    let declared = |parent: &str, name: &str| {
        let wanted = format!("mod {name};");
        let file = sources.iter().find(|file| file.path == parent);
        file.is_some_and(|file| file.lines.iter().any(|line| line.trim_start().ends_with(&wanted)))
    };
    for file in sources.iter().filter(|file| file.module().is_some()) {
        let path = Path::new(&file.path);
        let name = path.file_stem().expect("named").to_string_lossy();
        let dir = path.parent().expect("in src");
        let parent =
            if dir == Path::new("src") { "src/lib.rs".to_owned() } else { format!("{}.rs", dir.display()) };
        assert!(declared(&parent, &name), "{} is in no module: {parent} does not have it", file.path);
    }
}

/// Files that the pages for developers name between backticks, from the project's root or from `src`.
#[test]
fn pages_name_existing_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> =
        ["ARCHITECTURE.md", "HACKING.md", "GLOSSARY.md"].map(|name| root.join("docs").join(name)).into();
    for dir in ["docs/protocol", "docs/decisions"] {
        let entries = fs::read_dir(root.join(dir)).expect("readable directory");
        pages.extend(entries.map(|entry| entry.expect("readable entry").path()));
    }
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).expect("UTF-8 text");
        for name in text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")) {
            let places = [root.join(name), root.join("src").join(name), root.join("tests").join(name)];
            let exists = places.iter().any(|place| place.exists());
            assert!(exists, "{}: there is no {name}", page.display());
            count += 1;
        }
    }
    assert!(count > 60, "only {count} names were found");
}

/// The oldest compiler that the project is built with has no `let` behind `&&`. Newer ones have it in this
/// edition, and no lint speaks of it.
#[test]
fn the_oldest_compiler_reads_it() {
    let chain = concat!("&&", " let ");
    let mut paths = Vec::new();
    for dir in ["src", "tests", "benches", "capi", "qb-compat", "fuzz/fuzz_targets"] {
        rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut paths);
    }
    for path in paths {
        let text = fs::read_to_string(&path).expect("UTF-8 source");
        let line = text.lines().position(|line| line.contains(chain));
        assert_eq!(line.map(|index| index + 1), None, "{} has a let chain in this line", path.display());
    }
}

/// A rule that never fires proves nothing: each must complain about a text made to break it.
#[test]
fn crates_inherit_lints_of_workspace() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
    let workspace = read("Cargo.toml");
    for table in ["rust", "rustdoc", "clippy"] {
        assert!(workspace.contains(&format!("\n[workspace.lints.{table}]\n")), "no lints for {table}");
    }
    for manifest in ["Cargo.toml", "capi/Cargo.toml", "qb-compat/Cargo.toml"] {
        assert!(read(manifest).contains("\n[lints]\nworkspace = true\n"), "{manifest} has other lints");
    }
}

#[test]
fn every_rule_fires() {
    let long = format!("//! a\nfn f() {{\n{}}}\n", "    x();\n".repeat(FUNCTION_LINES_MAX + 1));
    let broken: [(&str, &str); 9] = [
        ("src/memdb/x.rs", "//! a\nuse std::fs;\n"),
        ("src/engine.rs", "//! a\nlet now = Instant::now();\n"),
        ("src/fs.rs", "//! a\nreturn libc::EACCES;\n"),
        ("src/fs.rs", "//! a\nlet x = unsafe { *p };\n"),
        ("src/engine.rs", "//! a\nuse rusqlite::Connection;\n"),
        ("src/memdb.rs", "//! a\nuse crate::engine::Engine;\n"),
        ("src/engine.rs", "//! a\ntodo!();\n"),
        ("src/engine.rs", "use x;\n"),
        ("src/engine.rs", &long),
    ];
    assert_eq!(broken.len(), RULES.len());
    for ((path, text), rule) in broken.iter().zip(RULES) {
        assert_eq!(rule(&Source::new(path, text)).len(), 1, "{path}: {text}");
    }
    let corner = Source::new("src/ipc/qb/x.rs", "//! a\nlet x = unsafe { *p };\n");
    assert_eq!(unsafe_is_in_corners(&corner).len(), 1, "a corner needs reasons");
    let reasoned = Source::new("src/ipc/qb/x.rs", "//! a\n// SAFETY: p is ours.\nlet x = unsafe { *p };\n");
    assert!(unsafe_is_in_corners(&reasoned).is_empty());
}
