//! Rules of the tree that random lists seldom reach, one story each: limits, locks over time, what
//! readers hold, what goes to the disk, and faults that were found once.

use pmxcfs::memdb::{
    Applied, BLOCKS, Change, ChangeError, FILES, Limits, MAX_FILE_SIZE, MemDb, NAME_BYTES_MAX, NUMBER_MAX,
    Row, Stamp, TreePath, WriteAt,
};
use std::sync::Arc;
use std::time::Duration;

const STAMP: Stamp = Stamp { writer: 1, time: 100 };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn apply(db: &mut MemDb, change: Change) -> Result<Applied, ChangeError> {
    let result = db.apply(change, STAMP, Limits::Enforced, at(0));
    db.verify().expect("holds");
    result
}

fn create(path: &str) -> Change {
    Change::Create { path: path.into() }
}

fn mkdir(path: &str) -> Change {
    Change::Mkdir { path: path.into() }
}

fn append(path: &str, data: &[u8]) -> Change {
    Change::Write { path: path.into(), at: WriteAt::End, data: data.to_vec() }
}

fn rename(from: &str, to: &str) -> Change {
    Change::Rename { from: from.into(), to: to.into() }
}

fn tree(changes: impl IntoIterator<Item = Change>) -> MemDb {
    let mut db = MemDb::new();
    for change in changes {
        apply(&mut db, change).expect("applies");
    }
    db
}

fn content<'a>(db: &'a MemDb, path: &str) -> &'a Arc<Vec<u8>> {
    db.resolve(path.as_bytes()).and_then(|entry| entry.content()).expect("a file")
}

/// Rows of a version row and `count` files that share their contents.
fn rows(count: u64, data: Option<&Arc<Vec<u8>>>) -> impl Iterator<Item = Row> {
    let row = move |inode| Row {
        inode,
        parent: 0,
        version: if inode == 0 { count } else { inode },
        writer: 0,
        mtime: 1,
        kind: 8,
        name: if inode == 0 { "__version__".to_owned() } else { format!("f{inode}") }.into_bytes().into(),
        data: data.filter(|_| inode > 0).cloned(),
    };
    (0..=count).map(row)
}

#[test]
fn a_full_directory_does_not_replace_an_empty_one() {
    let mut db = tree([mkdir("full"), create("full/file"), mkdir("empty")]);
    drop(db.take_batch());
    let before: Vec<_> = db.all_entries().cloned().collect();
    let refused = apply(&mut db, rename("full", "empty"));
    assert_eq!(refused, Err(ChangeError::NotEmpty { path: "full".into() }));
    assert!(db.all_entries().eq(&before));
    assert!(db.is_clean());
    assert_eq!(apply(&mut db, mkdir("empty")), Err(ChangeError::Exists { path: "empty".into() }));
}

#[test]
fn a_dot_in_a_path_leads_nowhere() {
    // Once, `./b` was not found as a target but made as `b`, over the entry that was there.
    let mut db = tree([create("a"), create("b")]);
    let missing = |path: &str| Err(ChangeError::NotFound { path: path.into() });
    assert_eq!(apply(&mut db, rename("a", "./b")), missing("./b"));
    assert_eq!(apply(&mut db, create("./c")), missing("./c"));
    assert!(db.resolve(b".").is_some_and(|root| root.inode == 0));
}

#[test]
fn a_rename_to_itself_changes_nothing() {
    let mut db = tree([create("a")]);
    let version = db.version();
    let applied = apply(&mut db, rename("a", "a")).expect("is fine");
    assert!(applied.invalidations.is_empty());
    assert_eq!(db.version(), version);
}

#[test]
fn guests_move_between_nodes_but_not_onto_others() {
    let mut db = tree(["nodes", "nodes/a", "nodes/b", "nodes/a/lxc", "nodes/b/lxc"].map(mkdir));
    apply(&mut db, create("nodes/a/lxc/100.conf")).expect("is free");
    let taken = apply(&mut db, create("nodes/b/lxc/100.conf")).expect_err("is taken");
    assert_eq!(taken.to_string(), "nodes/b/lxc/100.conf: guest 100 exists already as lxc on node a");
    apply(&mut db, create("nodes/b/lxc/new")).expect("is no guest");
    let onto = apply(&mut db, rename("nodes/b/lxc/new", "nodes/b/lxc/100.conf"));
    assert!(matches!(onto, Err(ChangeError::GuestExists { vmid: 100, .. })));
    apply(&mut db, rename("nodes/a/lxc/100.conf", "nodes/b/lxc/100.conf")).expect("migrates");
    assert_eq!(db.guests().get(100).map(|guest| &*guest.node), Some("b"));
    // A directory that is called like a configuration is none, and takes none with it.
    apply(&mut db, mkdir("nodes/a/lxc/100.conf")).expect("is no guest");
    apply(&mut db, Change::Delete { path: "nodes/a/lxc/100.conf".into() }).expect("is empty");
    assert!(db.guests().get(100).is_some());
}

#[test]
fn the_size_of_all_files_is_limited_for_local_callers() {
    let full = Arc::new(vec![1; MAX_FILE_SIZE as usize]);
    let mut db = MemDb::load(rows(128, Some(&full)), at(0)).expect("loads");
    assert_eq!(db.usage().blocks, BLOCKS);
    apply(&mut db, create("more")).expect("takes no space");
    let no_space = Err(ChangeError::NoSpace { path: "more".into() });
    assert_eq!(apply(&mut db, append("more", b"x")), no_space);
    assert_eq!(apply(&mut db, Change::Truncate { path: "more".into(), size: 1 }), no_space);

    // What the cluster agreed on is applied, and then what does not grow still works.
    db.apply(append("more", b"abc"), STAMP, Limits::Agreed, at(0)).expect("is agreed");
    let write = Change::Write { path: "more".into(), at: WriteAt::Offset(0), data: b"xyz".to_vec() };
    apply(&mut db, write).expect("does not grow");
    apply(&mut db, Change::Truncate { path: "more".into(), size: 1 }).expect("shrinks");
    apply(&mut db, Change::Delete { path: "f1".into() }).expect("shrinks");
    apply(&mut db, append("more", b"x")).expect("fits again");
}

#[test]
fn the_number_of_entries_is_limited_for_local_callers() {
    let mut db = MemDb::load(rows(FILES - 1, None), at(0)).expect("loads");
    assert_eq!(db.usage().entries, FILES);
    for change in [create("more"), mkdir("more")] {
        let refused = db.apply(change, STAMP, Limits::Enforced, at(0));
        assert_eq!(refused, Err(ChangeError::NoInodes { path: "more".into() }));
    }
    db.apply(create("more"), STAMP, Limits::Agreed, at(0)).expect("is agreed");
}

#[test]
fn one_file_is_limited() {
    let mut db = tree([create("a")]);
    let write = |at, len: usize| Change::Write { path: "a".into(), at, data: vec![1; len] };
    let max = MAX_FILE_SIZE as usize;
    let too_large = |end| Err(ChangeError::TooLarge { path: "a".into(), end });
    assert_eq!(apply(&mut db, write(WriteAt::Offset(1), max)), too_large(MAX_FILE_SIZE + 1));
    assert_eq!(apply(&mut db, write(WriteAt::Offset(u64::MAX), 2)), too_large(u64::MAX));
    let applied = apply(&mut db, write(WriteAt::End, max)).expect("just fits");
    assert_eq!(applied.offset, 0);
    assert_eq!(apply(&mut db, write(WriteAt::End, 1)), too_large(MAX_FILE_SIZE + 1));
}

#[test]
fn last_version_allows_no_change() {
    let mut last: Vec<Row> = rows(3, None).collect();
    last[0].version = NUMBER_MAX - 1;
    let mut db = MemDb::load(last, at(0)).expect("loads");
    apply(&mut db, create("a")).expect("one version is left");
    let refused = db.apply(create("b"), STAMP, Limits::Agreed, at(0));
    assert_eq!(refused, Err(ChangeError::LastVersion { version: NUMBER_MAX }));
}

#[test]
fn name_over_the_limit_is_refused() {
    let mut db = tree([create("a")]);
    let longest = "n".repeat(NAME_BYTES_MAX);
    apply(&mut db, mkdir(&longest)).expect("the longest name");
    let long = longest + "n";
    let refused = Err(ChangeError::NameTooLong { len: NAME_BYTES_MAX + 1 });
    for change in [create(&long), mkdir(&long), rename("a", &long)] {
        assert_eq!(db.apply(change, STAMP, Limits::Agreed, at(0)), refused);
    }
}

#[test]
fn writes_are_in_place_unless_somebody_reads() {
    let mut db = tree([create("a"), append("a", b"12")]);
    let place = Arc::as_ptr(content(&db, "a"));
    apply(&mut db, append("a", b"34")).expect("fits");
    assert_eq!(Arc::as_ptr(content(&db, "a")), place);

    let reader = Arc::clone(content(&db, "a"));
    let applied = apply(&mut db, append("a", b"56")).expect("fits");
    assert_eq!(applied.offset, 4);
    assert_eq!((&**reader, &***content(&db, "a")), (&b"1234"[..], &b"123456"[..]));
}

#[test]
fn a_batch_leaves_no_slack_behind() {
    let mut db = tree([create("a")]);
    for read_meanwhile in [false, true] {
        for _ in 0..9 {
            apply(&mut db, append("a", &[0; 1000])).expect("fits");
        }
        let reader = read_meanwhile.then(|| Arc::clone(content(&db, "a")));
        let batch = db.take_batch().expect("is dirty");
        let file = content(&db, "a");
        assert_eq!(file.capacity(), file.len());
        let stored = batch.rows.iter().find_map(|row| row.data.as_ref()).expect("a row with data");
        assert!(Arc::ptr_eq(stored, file), "contents are shared with the batch");
        drop(reader);
    }
}

#[test]
fn a_lost_batch_is_stored_with_the_next() {
    let mut db = tree([create("a"), create("b")]);
    drop(db.take_batch());
    apply(&mut db, append("a", b"x")).expect("fits");
    apply(&mut db, Change::Delete { path: "b".into() }).expect("there");
    let lost = db.take_batch().expect("is dirty");
    apply(&mut db, create("c")).expect("is free");
    apply(&mut db, Change::Delete { path: "a".into() }).expect("there");
    db.put_back(lost);
    let next = db.take_batch().expect("is dirty");
    assert_eq!(next.version, db.version());
    assert_eq!(next.deleted, [2, 3]);
    assert_eq!(next.rows.iter().map(|row| row.inode).collect::<Vec<_>>(), [0, 6]);
    assert!(db.take_batch().is_none());
}

/// A lock, and what is known of it.
struct Lock(MemDb);

impl Lock {
    const PATH: &'static str = "priv/lock/l";

    fn taken_at(seconds: u64) -> Self {
        let mut db = tree([mkdir("priv"), mkdir("priv/lock")]);
        db.apply(mkdir(Self::PATH), STAMP, Limits::Enforced, at(seconds)).expect("is free");
        Self(db)
    }

    fn checksum(&self) -> [u8; 32] {
        let lock = self.0.resolve(Self::PATH.as_bytes()).expect("there");
        self.0.entry_checksum(lock.inode).expect("there")
    }

    fn expired_at(&mut self, seconds: u64) -> bool {
        let checksum = self.checksum();
        self.0.lock_expired(&Self::PATH.into(), &checksum, at(seconds))
    }

    fn renew(&mut self, mtime: u32, writer: u32, seconds: u64) -> Result<Applied, ChangeError> {
        let stamp = Stamp { writer, time: 0 };
        self.0.apply(
            Change::SetMtime { path: Self::PATH.into(), mtime },
            stamp,
            Limits::Enforced,
            at(seconds),
        )
    }
}

#[test]
fn a_lock_is_held_for_two_minutes() {
    let mut lock = Lock::taken_at(1000);
    assert!(!lock.expired_at(1000));
    assert!(!lock.expired_at(1120));
    assert!(lock.expired_at(1121));
    assert!(!lock.0.lock_expired(&Lock::PATH.into(), &[0; 32], at(1121)));
    // A clock that is behind (it never should be) does not expire anything.
    assert!(!lock.expired_at(10));
}

#[test]
fn renewal_counts_from_then_on() {
    let mut lock = Lock::taken_at(1000);
    lock.renew(100, 1, 1100).expect("the same time renews");
    assert!(!lock.expired_at(1220));
    assert!(lock.expired_at(1221));
    lock.renew(101, 1, 1300).expect("a later time renews");
    assert!(!lock.expired_at(1420));

    let path = || TreePath::from(Lock::PATH);
    assert_eq!(lock.renew(99, 1, 1421), Err(ChangeError::LockHeld { path: path() }));
    assert_eq!(lock.renew(102, 2, 1421), Err(ChangeError::LockForeign { path: path(), holder: 1 }));
    assert!(lock.expired_at(1421), "a refused renewal renews nothing");
}

#[test]
fn a_lock_found_at_start_counts_from_then_on() {
    let lock = Lock::taken_at(0);
    let mut lock = Lock(MemDb::load(lock.0.snapshot_rows(), at(500)).expect("loads"));
    assert!(!lock.expired_at(620));
    assert!(lock.expired_at(621));
}

#[test]
fn unlock_removes_only_the_lock_that_was_meant() {
    let mut lock = Lock::taken_at(0);
    let old = lock.checksum();
    let unlock = |path: &str, checksum| Change::Unlock { path: path.into(), checksum };
    let changed = |path: &str| Err(ChangeError::LockChanged { path: path.into() });
    lock.renew(200, 1, 0).expect("renews");
    assert_eq!(apply(&mut lock.0, unlock(Lock::PATH, old)), changed(Lock::PATH));
    let priv_lock = lock.0.resolve(b"priv/lock").map(|dir| dir.inode).expect("there");
    let not_a_lock = lock.0.entry_checksum(priv_lock).expect("there");
    assert_eq!(apply(&mut lock.0, unlock("priv/lock", not_a_lock)), changed("priv/lock"));
    let right = lock.checksum();
    apply(&mut lock.0, unlock(Lock::PATH, right)).expect("is it");
    assert!(lock.0.resolve(Lock::PATH.as_bytes()).is_none());
}

#[test]
fn a_reload_counts_on() {
    let mut db = tree([mkdir("nodes"), mkdir("nodes/a"), mkdir("nodes/a/lxc")]);
    apply(&mut db, create("nodes/a/lxc/100.conf")).expect("is free");
    apply(&mut db, create("storage.cfg")).expect("is free");
    let (rows, guests) = (db.snapshot_rows().collect::<Vec<_>>(), db.guests().version());
    db.reload(rows.clone(), at(0)).expect("loads");
    assert!(db.is_clean());
    assert_eq!((db.versions().get("storage.cfg"), db.versions().get("user.cfg")), (Some(3), Some(2)));
    assert_eq!(db.guests().version(), guests + 1);
    assert_eq!(db.guests().get(100).map(|guest| guest.version), Some(2));

    let before: Vec<_> = db.all_entries().cloned().collect();
    db.reload(rows.into_iter().filter(|row| row.inode != 2), at(0)).expect_err("a parent is missing");
    assert!(db.all_entries().eq(&before));
}
