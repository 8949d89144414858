//! docs/protocol/database.md: the table, load rules, index and checksums.

use crate::page::Page;
use pmxcfs::memdb::{Finding, Index, MemDb};
use pmxcfs::store::Store;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NOW: u32 = 1_700_000_000;

/// Makes the example database and executes `statement` on it.
fn database(page: &Page, dir: &Path, statement: &str) -> PathBuf {
    let path = dir.join("config.db");
    let _ = std::fs::remove_file(&path);
    let file = Connection::open(&path).expect("a file");
    let statements = [page.block("sql", "schema"), page.block("sql", "rows"), statement.to_owned()];
    for statement in statements {
        file.execute_batch(&statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    path
}

fn tree(path: &Path) -> MemDb {
    let store = Store::open(path, NOW).expect("opens");
    store.load(|rows| MemDb::load(rows, Duration::ZERO)).expect("reads").expect("loads")
}

#[test]
fn database_schema_is_that_of_page() {
    let page = Page::open("database.md");
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("config.db");
    Store::open(&path, NOW).expect("a new database").close().expect("closes");
    let file = Connection::open(&path).expect("opens");
    let mut statement = file.prepare("SELECT sql FROM sqlite_master").expect("prepares");
    let schema = statement.query_map([], |row| row.get::<_, String>(0)).expect("runs");
    assert_eq!(schema.map(Result::unwrap).collect::<Vec<_>>(), [page.block("sql", "schema")]);
}

#[test]
fn database_examples_are_its_digests() {
    let mut page = Page::open("database.md");
    let dir = tempfile::tempdir().expect("temp dir");
    let mut tree = tree(&database(&page, dir.path(), ""));
    let bytes = page.example("index");
    let index = Index::decode(&bytes).expect("an index");
    assert_eq!((index, bytes), (tree.index(), tree.index().encode()));
    let digest = Sha256::digest(page.example("entry-digest"));
    let file = tree.index().entries.into_iter().find(|entry| entry.inode == 3).expect("the file");
    assert_eq!(*digest, file.digest);
    let checksum = Sha256::digest(page.example("checksum"));
    assert_eq!(*checksum, tree.checksum());
    assert!(page.text().contains(&format!("`{checksum:x}`")), "the page has another checksum");
    page.finish();
}

#[test]
fn load_rules_refuse_their_examples() {
    let page = Page::open("database.md");
    let dir = tempfile::tempdir().expect("temp dir");
    let rules = page.text().split("\n## Load rules\n").nth(1).expect("the section");
    let rules = rules.split("\n## ").next().expect("its end");
    let mut count = 0;
    for row in rules.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (rule, rest) = row.split_once("` |").expect("a rule");
        let statement = rest.rsplit('`').nth(1).expect("a statement");
        let path = database(&page, dir.path(), statement);
        let store = Store::open(&path, NOW).expect("opens");
        let audit = store.load(|rows| MemDb::audit(rows)).expect("reads");
        let found: Vec<_> = audit.findings.iter().map(Finding::rule).collect();
        assert!(found.contains(&rule), "{statement}: {found:?}");
        let loaded = store.load(|rows| MemDb::load(rows, Duration::ZERO)).expect("reads");
        assert!(loaded.is_err(), "{statement}: the database loads");
        count += 1;
    }
    assert_eq!(count, 17);
}

#[test]
fn text_as_contents_is_accepted() {
    let page = Page::open("database.md");
    let dir = tempfile::tempdir().expect("temp dir");
    let tree = tree(&database(&page, dir.path(), "UPDATE tree SET data = 'dir: x' WHERE inode = 3"));
    let file = tree.get(3).expect("the file");
    assert_eq!(file.content().map(|content| content.as_slice()), Some(&b"dir: x"[..]));
}

/// Each rule that `pmxcfs-db check` can print is on the page.
#[test]
fn database_page_lists_all_rules() {
    let page = Page::open("database.md");
    let mut count = 0;
    for source in [include_str!("../../src/memdb/audit.rs"), include_str!("../../src/memdb/rules.rs")] {
        let rules = source.split("pub fn rule(&self)").nth(1).expect("the function");
        let rules = rules.split("\n    }\n").next().expect("its end");
        for rule in rules.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(page.text().contains(&format!("`{rule}`")), "{rule} is not on the page");
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} rules were found");
}
