//! Who is answered when, what shares a commit, and that the file is at every moment the complete
//! state of some version.

use crate::support::{Home, NOW, Random, assert_sound, create, mkdir, rename, rows, tree, wait_until, write};
use pmxcfs::engine::{Engine, EngineError};
use pmxcfs::memdb::{Change, ChangeError, Limits, MemDb, Row, Stamp, WriteAt};
use pmxcfs::store::{BUSY_TIMEOUT, Store};
use rusqlite::Connection;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Whether the file has an entry of this name.
fn is_stored(home: &Home, name: &str) -> bool {
    let query = "SELECT EXISTS (SELECT 1 FROM tree WHERE name = ?1)";
    home.sqlite().query_row(query, [name], |row| row.get(0)).unwrap()
}

/// As long as it lives nothing can be stored: another program is at it. So whoever waits, waits for the
/// commit thread.
fn locked(home: &Home) -> Connection {
    let other = home.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// Submits and returns where the answer will come in, with the thread that gave it.
fn submit(db: &Engine, change: Change) -> mpsc::Receiver<(thread::ThreadId, Result<(), EngineError>)> {
    let (sender, receiver) = mpsc::channel();
    let done = move |result: Result<_, _>| {
        sender.send((thread::current().id(), result.map(drop))).unwrap();
    };
    db.submit(change, Box::new(done));
    receiver
}

#[test]
fn plain_changes_are_answered_at_once_and_stored_soon() {
    let home = Home::new();
    let db = home.db();
    let here = thread::current().id();
    let set_mtime = Change::SetMtime { path: "file".into(), mtime: 5 };
    let truncate = Change::Truncate { path: "file".into(), size: 3 };
    for change in [create("file"), write("file", b"text"), truncate, set_mtime] {
        assert_eq!(submit(&db, change).try_recv().unwrap(), (here, Ok(())));
    }
    assert_eq!(db.read().version(), 5);
    // Nobody waits, and still it is stored.
    wait_until("stored", || is_stored(&home, "file"));
}

#[test]
fn durable_changes_are_answered_when_they_are_stored() {
    let home = Arc::new(Home::new());
    let db = home.db();
    for is_held_up in [false, true] {
        db.submit_wait(create("file")).unwrap();
        for (change, name, is_there) in [
            (mkdir("directory"), "directory", true),
            (rename("file", "moved"), "moved", true),
            (Change::Delete { path: "moved".into() }, "moved", false),
            (Change::Delete { path: "directory".into() }, "directory", false),
        ] {
            let (sender, receiver) = mpsc::channel();
            let home = Arc::clone(&home);
            let other = is_held_up.then(|| locked(&home));
            let done = move |result: Result<_, _>| {
                assert!(result.is_ok());
                sender.send((thread::current().id(), is_stored(&home, name))).unwrap();
            };
            db.submit(change, Box::new(done));
            drop(other);
            let (thread, stored) = receiver.recv().unwrap();
            assert_eq!(stored, is_there, "{name}");
            // Who asks stores it, unless that would hold it up.
            assert_eq!(thread != thread::current().id(), is_held_up, "{name}");
        }
    }
}

#[test]
fn two_never_commit_at_once() {
    let home = Home::new();
    let db = home.db();
    thread::scope(|scope| {
        for writer in 0..4 {
            let db = &db;
            scope.spawn(move || {
                for number in 0..200 {
                    let answer = submit(db, mkdir(&format!("{writer}-{number}")));
                    assert_eq!(answer.recv().unwrap().1, Ok(()));
                }
            });
        }
    });
    let stats = db.commit_stats();
    assert_eq!(stats.failures, 0);
    assert!(stats.commits <= 800, "{stats:?}");
    // Each entry once; the version once a commit.
    assert_eq!(stats.rows, 800 + stats.commits);
    let expected: Vec<_> = db.read().snapshot_rows().collect();
    db.close().unwrap();
    assert_eq!(rows(&home.store()), expected);
}

#[test]
fn sync_is_answered_at_once_when_all_is_stored() {
    let home = Home::new();
    let db = home.db();
    let sync = || {
        let (sender, receiver) = mpsc::channel();
        db.sync(Box::new(move |result| sender.send((thread::current().id(), result)).unwrap()));
        receiver
    };
    assert_eq!(sync().try_recv().unwrap(), (thread::current().id(), Ok(())));
    assert_eq!(db.commit_stats().commits, 0);
    db.submit_wait(create("file")).unwrap();
    db.submit_wait(write("file", b"text")).unwrap();
    assert_eq!(sync().recv().unwrap().1, Ok(()));
    assert!(is_stored(&home, "file"));
    assert_eq!(sync().try_recv().unwrap(), (thread::current().id(), Ok(())));
}

#[test]
fn refused_changes_are_answered_at_once_and_change_nothing() {
    let home = Home::new();
    let db = home.db();
    let (thread, result) = submit(&db, mkdir("missing/directory")).try_recv().unwrap();
    assert_eq!(thread, thread::current().id());
    assert!(matches!(result, Err(EngineError::Change(ChangeError::NotFound { .. }))));
    assert_eq!(db.read().version(), 1);
}

#[test]
fn waiters_share_a_commit() {
    let home = Home::new();
    let db = home.db();
    let other = locked(&home);
    let answers: Vec<_> = (0..20).map(|number| submit(&db, mkdir(&format!("{number}")))).collect();
    drop(other);
    for answer in answers {
        assert_eq!(answer.recv().unwrap().1, Ok(()));
    }
    // What the commit thread took before it was held up, and all the rest.
    let stats = db.commit_stats();
    assert!(stats.commits <= 2, "{stats:?}");
    assert_eq!(stats.rows, 20 + stats.commits);
}

#[test]
fn readers_and_plain_changes_do_not_wait_for_the_disk() {
    let home = Home::new();
    let db = home.db();
    let other = locked(&home);
    let asked = Instant::now();
    let answer = submit(&db, mkdir("directory"));
    submit(&db, create("file")).try_recv().unwrap().1.unwrap();
    // It is the commit thread that waits for the other program, for as long as that.
    assert!(asked.elapsed() < BUSY_TIMEOUT / 2, "{:?}", asked.elapsed());
    assert!(db.read().resolve(b"directory").is_some());
    assert!(db.read().resolve(b"file").is_some());
    assert!(answer.try_recv().is_err());
    drop(other);
    assert_eq!(answer.recv().unwrap().1, Ok(()));
}

#[test]
fn an_answer_may_panic_or_submit() {
    let home = Home::new();
    let db = Arc::new(home.db());
    // Without the message that a panic prints.
    db.submit(mkdir("first"), Box::new(|_| std::panic::resume_unwind(Box::new(()))));
    let (sender, receiver) = mpsc::channel();
    let inner = Arc::clone(&db);
    let chain = move |_: Result<_, _>| {
        inner.submit(mkdir("third"), Box::new(move |result| sender.send(result.map(drop)).unwrap()));
    };
    db.submit(mkdir("second"), Box::new(chain));
    assert_eq!(receiver.recv().unwrap(), Ok(()));
    db.close().unwrap();
    assert_eq!(tree(&home.store()).usage().entries, db.read().usage().entries);
}

#[test]
fn the_last_owner_may_be_an_answer() {
    let home = Home::new();
    let db = Arc::new(home.db());
    let owner = Arc::clone(&db);
    let other = locked(&home);
    let (dropped, has_dropped) = mpsc::channel::<()>();
    db.submit(
        mkdir("directory"),
        Box::new(move |_| {
            // The other owner is gone when this ends.
            let _ = has_dropped.recv();
            drop(owner);
        }),
    );
    drop(db);
    drop(other);
    drop(dropped);
    wait_until("closed", || home.files() == ["config.db"]);
    assert!(tree(&home.store()).resolve(b"directory").is_some());
}

#[test]
fn close_stores_what_is_left() {
    let home = Home::new();
    let db = home.db();
    db.submit_wait(create("file")).unwrap();
    db.close().unwrap();
    assert_eq!(home.files(), ["config.db"]);
    db.close().unwrap();
    assert_eq!(db.submit_wait(create("late")), Err(EngineError::Closed));
    assert_eq!(db.submit_wait(mkdir("late")), Err(EngineError::Closed));
    assert_eq!(db.sync_wait(), Ok(()));
    assert!(db.read().resolve(b"file").is_some());
    assert!(tree(&home.store()).resolve(b"file").is_some());

    let db = home.db();
    db.submit_wait(create("other")).unwrap();
    drop(db);
    assert!(tree(&home.store()).resolve(b"other").is_some());
}

#[test]
fn what_is_stored_is_always_the_state_of_a_version() {
    let mut random = Random::new();
    let home = Home::new();
    let db = home.db();
    for writer in 0..3 {
        db.submit_wait(mkdir(&format!("{writer}"))).unwrap();
    }
    // By version, a hash of the rows. Changes are made one at a time so that it can be known.
    let known = Mutex::new(HashMap::from([(4, hash(db.read().snapshot_rows()))]));
    let is_done = AtomicBool::new(false);
    let seeds: Vec<u64> = (0..3).map(|_| random.next()).collect();
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let store = Store::open(&home.path(), NOW).unwrap();
            let mut seen = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                let rows = rows(&store);
                seen.push((rows[0].version, hash(rows)));
            }
            seen
        });
        let writers: Vec<_> = seeds
            .iter()
            .enumerate()
            .map(|(number, &seed)| {
                let (db, known) = (&db, &known);
                scope.spawn(move || write_randomly(db, &number.to_string(), Random(seed), known))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    let known = known.into_inner().unwrap();
    for (version, hash) in &seen {
        assert_eq!(known.get(version), Some(hash), "version {version}");
    }
    assert!(seen.len() > 20, "{} looks", seen.len());
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0), "the order of versions");

    let expected: Vec<_> = db.read().snapshot_rows().collect();
    db.close().unwrap();
    assert_eq!(rows(&home.store()), expected);
    assert_sound(&home.path());
}

fn hash(rows: impl IntoIterator<Item = Row>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for row in rows {
        (row.inode, row.parent, row.version, row.mtime, row.name, row.data).hash(&mut hasher);
    }
    hasher.finish()
}

fn write_randomly(db: &Engine, dir: &str, mut random: Random, known: &Mutex<HashMap<u64, u64>>) {
    let mut answers = Vec::new();
    for _ in 0..500 {
        let change = random.change(dir);
        {
            let mut known = known.lock().unwrap();
            answers.push(submit(db, change));
            let tree = db.read();
            known.insert(tree.version(), hash(tree.snapshot_rows()));
        }
        // Sometimes many wait, sometimes one.
        if random.below(4) == 0 {
            answers.drain(..).for_each(|answer| drop(answer.recv().unwrap()));
        }
    }
}

#[test]
fn small_changes_write_one_or_two_pages() {
    let home = Home::new();
    let mut store = home.store();
    let mut tree = tree(&store);
    let commit = |tree: &mut MemDb, store: &mut Store, changes: Vec<Change>| {
        let before = store.log_bytes();
        for change in changes {
            let stamp = Stamp { writer: 0, time: NOW };
            tree.apply(change, stamp, Limits::Enforced, Duration::ZERO).unwrap();
        }
        store.commit(&tree.take_batch().unwrap()).unwrap();
        store.log_bytes() - before
    };
    // A page, with what the log says about it.
    let page = 1024 + 24;
    for number in 0..100 {
        let path = format!("file{number}");
        commit(&mut tree, &mut store, vec![create(&path), write(&path, &[1; 300])]);
    }
    assert!(commit(&mut tree, &mut store, vec![write("file50", &[2; 300])]) <= 2 * page);
    assert!(commit(&mut tree, &mut store, vec![rename("file60", "file61")]) <= 3 * page);

    // A block within a large file writes that block only.
    commit(&mut tree, &mut store, vec![create("large"), write("large", &[3; 1 << 20])]);
    let at = WriteAt::Offset(512 << 10);
    let block = Change::Write { path: "large".into(), at, data: vec![4; 4096] };
    assert!(commit(&mut tree, &mut store, vec![block]) <= 7 * page);
    // And a large file that is written anew writes its bytes once.
    let size = 1 << 20;
    let anew = commit(&mut tree, &mut store, vec![write("large", &vec![5; size])]);
    assert!(anew < size as u64 * 11 / 10, "{anew}");
}

#[test]
fn a_log_that_was_moved_starts_anew() {
    let home = Home::new();
    let mut store = home.store();
    let mut tree = tree(&store);
    let mut lengths = Vec::new();
    for step in 0..3 {
        for change in [create(&format!("{step}")), write(&format!("{step}"), &[7; 50_000])] {
            let stamp = Stamp { writer: 0, time: NOW };
            tree.apply(change, stamp, Limits::Enforced, Duration::ZERO).unwrap();
        }
        store.commit(&tree.take_batch().unwrap()).unwrap();
        lengths.push(store.log_bytes());
        if step == 1 {
            store.checkpointer().unwrap().run().unwrap();
        }
    }
    assert!(lengths[1] > 100_000 && lengths[2] < 60_000, "{lengths:?}");
}
