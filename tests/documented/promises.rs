//! Checks that the tests named in docs/SECURITY-MODEL.md exist.

use crate::page;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of the tests in the source files below a directory.
fn collect_tests(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_tests(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8 source");
            // Attributes may stand between `#[test]` and the function.
            let tests = text.split("#[test]").skip(1);
            let name = |rest: &str| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned());
            names.extend(tests.filter_map(name));
            // A macro makes the tests of clusters.
            let scenarios = text.split("\nscenario!(").skip(1);
            names.extend(scenarios.filter_map(|rest| Some(rest.split_once(',')?.0.trim().to_owned())));
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let mut tests = BTreeSet::new();
    for dir in ["src", "tests"] {
        collect_tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut tests);
    }
    let page = page("docs/SECURITY-MODEL.md");
    let promises = page.split("\n## Promises\n").nth(1).expect("the section");
    let promises = promises.split("\n## ").next().expect("its end");
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise "));
    let mut count = 0;
    for row in rows.filter(|row| !row.starts_with("| ---")) {
        let held_by = row.trim_end_matches(" |").rsplit(" | ").next().expect("a cell");
        let named: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "a promise without a test: {row}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}: {row}");
            count += 1;
        }
    }
    assert!(count > 40, "only {count} tests were found");
}
