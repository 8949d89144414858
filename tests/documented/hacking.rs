//! The commands of docs/HACKING.md and CONTRIBUTING.md name targets, tests, variables and files that exist.

use crate::{blocks, page};
use std::fs;
use std::path::{Path, PathBuf};

/// Programs of the system, whose arguments are not checked.
const SYSTEM: [&str; 2] = ["gdb", "cat"];
/// Names on the pages that are neither tests nor modules: a pattern, and functions of the kernel.
const FOREIGN: [&str; 4] =
    ["subject_condition_result", "fuse_dev_do_read", "fuse_wait", "request_wait_answer"];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Sources of an integration test or benchmark, as one text.
fn sources(dir: &str, name: &str) -> String {
    let mut text = String::new();
    let entry = project().join(dir).join(format!("{name}.rs"));
    text.push_str(&fs::read_to_string(entry).unwrap_or_default());
    read_all(&project().join(dir).join(name), &mut text);
    assert!(!text.is_empty(), "there is no {dir}/{name}");
    text
}

fn read_all(dir: &Path, text: &mut String) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_all(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

/// Words of a command line; quotes keep words together.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words
}

fn check_make(line: &str, words: &[String]) {
    let makefile = page("Makefile");
    for word in words {
        match word.split_once('=') {
            Some((variable, _)) => {
                assert!(makefile.contains(&format!("$({variable})")), "{line}: no variable {variable}");
            }
            None => assert!(makefile.contains(&format!("\n{word}:")), "{line}: no target {word}"),
        }
    }
}

fn check_cargo(line: &str, variables: &[&str], words: &[String]) {
    let after = |option: &str| words.iter().skip_while(|word| *word != option).nth(1);
    let (text, kind) = match (after("--test"), after("--bench")) {
        (Some(name), _) => (sources("tests", name), "--test"),
        (_, Some(name)) => (sources("benches", name), "--bench"),
        _ => (sources("", "src"), "--lib"),
    };
    for variable in variables {
        assert!(text.contains(&format!("\"{variable}\"")), "{line}: nothing reads {variable}");
    }
    let skip = if kind == "--lib" { 1 } else { 2 };
    let mut filters = words.iter().skip_while(|word| *word != kind).skip(skip);
    match filters.next().map(String::as_str) {
        None | Some("--") => {}
        Some(module) if kind == "--lib" => {
            let path = project().join("src").join(module.replace("::", "/")).with_extension("rs");
            assert!(path.exists(), "{line}: no module {module}");
        }
        Some(filter) => {
            let named = [format!("fn {filter}"), format!("scenario!({filter},")];
            assert!(named.iter().any(|name| text.contains(name)), "{line}: no test {filter}");
        }
    }
    if let Some(row) = after("--only") {
        assert!(text.contains(row.as_str()), "{line}: no row '{row}'");
    }
}

/// Checks a line; returns whether it is a command of the project.
fn check(path: &str, line: &str) -> bool {
    let words = split(line);
    let is_variable = |word: &&String| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let variables: Vec<&str> =
        words.iter().take_while(is_variable).filter_map(|word| Some(word.split_once('=')?.0)).collect();
    let command = &words[variables.len()..];
    match command[0].as_str() {
        "make" => check_make(line, &command[1..]),
        "cargo" => check_cargo(line, &variables, &command[1..]),
        "pmxcfs-ctl" => {
            let read = pmxcfs::ctl::command().try_get_matches_from(command);
            assert!(read.is_ok(), "{path}: {line}: {}", read.unwrap_err());
        }
        program => {
            assert!(SYSTEM.contains(&program), "{path}: '{line}' is no command of the project");
            return false;
        }
    }
    true
}

#[test]
fn hacking_commands_name_existing_things() {
    let path = "docs/HACKING.md";
    let lines = blocks(&page(path)).into_iter().flat_map(|(_, lines)| lines);
    let count = lines.filter(|line| check(path, line)).count();
    assert!(count > 15, "only {count} commands were found");
}

/// The pages name paths, tests and other things between backticks.
#[test]
fn hacking_paths_and_tests_exist() {
    let mut tests = String::new();
    for dir in ["tests", "capi", "src"] {
        read_all(&project().join(dir), &mut tests);
    }
    let mut count = 0;
    for path in ["docs/HACKING.md", "CONTRIBUTING.md", "docs/GLOSSARY.md"] {
        for name in page(path).split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "docs/", "benches/", "capi/tests/", "fuzz/", "crates/"];
            if is_path.iter().any(|dir| name.starts_with(dir)) {
                let stem = name.trim_end_matches(['*', '_', '/']);
                let stem = stem.trim_end_matches("/*.txt");
                let full = project().join(stem);
                let exists = full.exists() || full.with_extension("rs").exists();
                assert!(exists, "{path}: there is no {name}");
                count += 1;
            } else if name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                let module = project().join("src").join(name).with_extension("rs").exists();
                let known = module || FOREIGN.contains(&name) || tests.contains(&format!("fn {name}("));
                assert!(known, "{path}: nothing is called {name}");
                count += 1;
            }
        }
    }
    assert!(count > 30, "only {count} names were found");
}

/// All links between pages lead to files that exist.
#[test]
fn links_between_pages_lead_to_files() {
    let mut count = 0;
    let mut pages: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(PathBuf::from).into();
    for dir in ["docs", "docs/protocol", "docs/decisions"] {
        let entries = fs::read_dir(project().join(dir)).expect("pages");
        let names = entries.map(|entry| Path::new(dir).join(entry.expect("an entry").file_name()));
        pages.extend(names.filter(|name| name.extension().is_some_and(|extension| extension == "md")));
    }
    for path in pages {
        let text = page(&path.to_string_lossy());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().expect("a directory").join(file) };
            assert!(project().join(&target).exists(), "{}: {link} leads nowhere", path.display());
            let heading = |line: &str| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                line.starts_with('#') && kept.collect::<String>().replace(' ', "-") == section
            };
            let found = section.is_empty() || page(&target.to_string_lossy()).lines().any(heading);
            assert!(found, "{}: {link} names no section", path.display());
            count += 1;
        }
    }
    assert!(count > 40, "only {count} links were found");
}
