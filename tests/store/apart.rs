//! What takes a group long is done with a copy of the tree: nobody waits for it, and nobody sees half of it.

use crate::support::{Home, mkdir};
use pmxcfs::memdb::{Applied, Limits, MemDb, Row, Stamp};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn make(tree: &mut MemDb, path: &str) -> Applied {
    tree.apply(mkdir(path), Stamp { writer: 1, time: 10 }, Limits::Agreed, Duration::ZERO).unwrap()
}

#[test]
fn readers_and_commits_go_on_and_the_change_comes_as_one() {
    let home = Home::golden();
    let db = home.db();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    db.observe(Box::new(move |invalidations| {
        count.fetch_add(invalidations.len(), Ordering::SeqCst);
    }));
    let has = |path: &str| db.read().resolve(path.as_bytes()).is_some();
    db.apply_batch(|tree, _| make(tree, "before")).unwrap();
    db.apply_on_copy(|tree, tell| {
        for path in ["one", "two"] {
            tell(&make(tree, path).invalidations);
        }
        // Neither of these waits; and what is stored now the copy still takes for new.
        assert!(has("before") && !has("one"));
        db.commit_blocking().unwrap();
        assert_eq!(told.load(Ordering::SeqCst), 0, "of what nobody can see nobody is told");
    })
    .unwrap();
    assert!(has("before") && has("one") && has("two"));
    assert_eq!(told.load(Ordering::SeqCst), 2);

    let rows: Vec<Row> = db.read().snapshot_rows().collect();
    db.close().unwrap();
    assert_eq!(crate::support::rows(&home.store()), rows);
}

#[test]
fn a_panic_leaves_the_tree_as_it_was() {
    let home = Home::golden();
    let db = home.db();
    let version = db.read().version();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        db.apply_on_copy(|tree, _| {
            make(tree, "half");
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(db.read().version(), version);
    db.submit_wait(mkdir("whole")).unwrap();
    assert!(db.read().resolve(b"half").is_none());
}
