//! All pairs of a local operation and one of another member. The local operation is held between its request
//! and its reply; meanwhile the other one is delivered and readers fill the kernel's caches.

use crate::group::{Group, Lost};
use crate::operations::{Operation, SIZE};
use crate::scene::{Scene, Verdict};
use crate::views::size_from_the_daemon;
use pmxcfs::counts::KernelRequest;
use pmxcfs::fuse::CacheRules;
use pmxcfs::memdb::{Change, WriteAt};
use std::fs::{self, FileTimes, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

/// Order of the relevant events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The other member's change is delivered before the local one is applied.
    RemoteFirst,
    /// The local change is applied, then the other one, then the local caller gets its reply.
    BeforeReply,
    /// The local change is applied and replied to, then the other one is delivered.
    LocalFirst,
}

/// Two operations that cross.
#[derive(Debug, Clone, Copy)]
struct Pair {
    here: Operation,
    elsewhere: Operation,
    order: Order,
}

impl Pair {
    fn all() -> impl Iterator<Item = Self> {
        let orders = [Order::RemoteFirst, Order::BeforeReply, Order::LocalFirst];
        Operation::ALL.into_iter().flat_map(move |here| {
            Operation::ALL.into_iter().flat_map(move |elsewhere| {
                orders.into_iter().map(move |order| Self { here, elsewhere, order })
            })
        })
    }

    /// Runs the pair and compares all views with the tree.
    fn run(self, rules: CacheRules, lost: Lost) -> Verdict {
        let scene = Scene::new(rules);
        let call = self.here.local(&scene.tree);
        let group = Group::join(&scene.tree, lost);
        match call {
            Some(call) => self.cross(&scene, &group, call)?,
            None => {
                scene.tree.cfs.set_quorate(false);
                scene.fill();
                self.elsewhere(&scene, &group);
            }
        }
        scene.check()
    }

    fn cross(self, scene: &Scene, group: &Group<'_>, call: crate::operations::Call) -> Verdict {
        let Ok((started, held)) = group.start(call) else {
            self.elsewhere(scene, group);
            return Ok(());
        };
        scene.fill();
        match self.order {
            Order::RemoteFirst => {
                self.elsewhere(scene, group);
                self.settle(scene);
                group.deliver(held);
            }
            Order::BeforeReply => {
                let applied = group.apply_held(held);
                scene.fill();
                self.elsewhere(scene, group);
                self.settle(scene);
                group.reply(applied);
            }
            Order::LocalFirst => group.deliver(held),
        }
        let result = group.finish(started);
        if result.is_ok() && self.here.changes_content() && self.order != Order::LocalFirst {
            scene.check_content("right after the call")?;
        }
        if self.order == Order::LocalFirst {
            scene.fill();
            self.elsewhere(scene, group);
        }
        Ok(())
    }

    /// Runs the other member's operation.
    fn elsewhere(self, scene: &Scene, group: &Group<'_>) {
        match self.elsewhere.remote() {
            Some(change) => drop(group.deliver_remote(change)),
            None => scene.tree.cfs.set_quorate(false),
        }
    }

    /// Before the local operation continues: invalidates for the other member's operation, and lets a reader
    /// fill the caches again.
    fn settle(self, scene: &Scene) {
        // Invalidations of names block on the directory, which the kernel locks during the local operation.
        if !self.here.locks_directory() {
            scene.tree.drain();
        }
        scene.fill();
    }
}

/// Pairs that fail under these rules, with the difference found.
fn failures(pairs: impl Iterator<Item = Pair>, rules: CacheRules, lost: Lost) -> Vec<String> {
    let failure = |pair: Pair| Some(format!("{pair:?}: {}", pair.run(rules, lost).err()?));
    pairs.filter_map(failure).collect()
}

#[test]
fn crossing_changes_leave_caches_coherent() {
    let failures = failures(Pair::all(), CacheRules::GROUP, Lost::Nothing);
    assert!(failures.is_empty(), "{} pairs:\n{}", failures.len(), failures.join("\n"));
}

/// Asserts that the pair fails under the wrong rules, and only under them.
fn assert_noticed(here: Operation, elsewhere: Operation, order: Order, rules: CacheRules, lost: Lost) {
    let pair = Pair { here, elsewhere, order };
    assert_eq!(pair.run(CacheRules::GROUP, Lost::Nothing), Ok(()));
    assert!(pair.run(rules, lost).is_err(), "{pair:?} hides the fault");
}

/// Recent kernels invalidate the pages of a direct write themselves; older ones keep them. So this test
/// counts invalidations.
#[test]
fn write_reply_follows_the_invalidation() {
    let late = CacheRules { pages_before_reply: false, ..CacheRules::GROUP };
    for (rules, expected) in [(CacheRules::GROUP, 1), (late, 0)] {
        let scene = Scene::new(rules);
        let file = OpenOptions::new().write(true).open(scene.tree.path("d/f")).expect("opened for writing");
        let invalidations = || scene.tree.cfs.kernel.invalidations.get();
        let before = invalidations();
        file.write_all_at(b"from here", 100).expect("written");
        assert_eq!(invalidations() - before, expected, "{rules:?}");
    }
}

/// The kernel adopts a larger size before it drops the old last page. A reader would rarely hit that moment,
/// so this test counts invalidations.
#[test]
fn attributes_follow_the_invalidation_of_pages() {
    let late = CacheRules { pages_before_reply: false, ..CacheRules::GROUP };
    for (rules, expected) in [(CacheRules::GROUP, 1), (late, 0)] {
        let scene = Scene::new(rules);
        let group = Group::join(&scene.tree, Lost::Nothing);
        group.apply_remote(Operation::Grow.remote().expect("a change"));
        let invalidations = || scene.tree.cfs.kernel.invalidations.get();
        let before = invalidations();
        assert_eq!(size_from_the_daemon(&scene.tree.path("d/f")), SIZE as u64 + 4700);
        assert_eq!(invalidations() - before, expected, "{rules:?}");
    }
}

/// Recent kernels drop such attributes themselves if an invalidation came meanwhile; older ones keep them. So
/// this test counts requests.
#[test]
fn setattr_reply_expires_in_a_group() {
    for (rules, expected) in [(CacheRules::GROUP, 1), (CacheRules::THIS_MOUNT, 0)] {
        let scene = Scene::new(rules);
        let path = scene.tree.path("d/f");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(99);
        let file = OpenOptions::new().write(true).open(&path).expect("opened for writing");
        file.set_times(FileTimes::new().set_modified(time).set_accessed(time)).expect("set");
        let requests = || scene.tree.cfs.kernel.requests(KernelRequest::Getattr).get();
        let before = requests();
        assert_eq!(fs::metadata(&path).expect("there").modified().ok(), Some(time));
        assert_eq!(requests() - before, expected, "{rules:?}");
    }
}

#[test]
fn lost_invalidations_are_noticed() {
    let rules = CacheRules::GROUP;
    let first = Order::LocalFirst;
    assert_noticed(Operation::Write, Operation::Write, first, rules, Lost::Contents);
    assert_noticed(Operation::Write, Operation::Utimens, first, rules, Lost::Attributes);
    assert_noticed(Operation::Write, Operation::Unlink, first, rules, Lost::Names);
    assert_noticed(Operation::Write, Operation::Create, first, rules, Lost::Names);
}

/// Runs two crossing appends and returns the final contents.
fn crossing_appends(rules: CacheRules) -> Vec<u8> {
    let scene = Scene::new(rules);
    let call = Operation::Append.local(&scene.tree).expect("a system call");
    let group = Group::join(&scene.tree, Lost::Nothing);
    // The last page is dropped and not filled again, so the kernel has no complete page at the start of the
    // record.
    let at = WriteAt::Offset(SIZE as u64 - 10);
    group.deliver_remote(Change::Write { path: "d/f".into(), at, data: b"from there".to_vec() });
    scene.tree.drain();
    let (started, held) = group.start(call).expect("submitted");
    group.deliver(held);
    // If the kernel split the record, its second part is submitted now.
    let rest = group.next_submitted();
    group.deliver_remote(Operation::Append.remote().expect("a change"));
    rest.into_iter().for_each(|held| group.deliver(held));
    group.finish(started).expect("appended");
    let tree = scene.tree.cfs.engine.read();
    tree.resolve(b"d/f").and_then(|entry| entry.content().cloned()).expect("there").to_vec()
}

/// The kernel knows the size after an append that landed after the expected offset. Reading the last byte
/// causes no request for attributes, whose reply other invalidations could make void.
#[test]
fn append_behind_another_extends_the_kernels_size() {
    let scene = Scene::new(CacheRules::GROUP);
    let call = Operation::Append.local(&scene.tree).expect("a system call");
    let group = Group::join(&scene.tree, Lost::Nothing);
    let (started, held) = group.start(call).expect("submitted");
    group.deliver_remote(Operation::Append.remote().expect("a change"));
    group.deliver(held);
    group.finish(started).expect("appended");
    scene.tree.drain();
    let requests = || scene.tree.cfs.kernel.requests(KernelRequest::Getattr).get();
    let (before, mut byte) = (requests(), [0]);
    scene.reader.read_exact_at(&mut byte, (SIZE + 9000 + 6000 - 1) as u64).expect("the last byte");
    assert_eq!((byte, requests() - before), ([b'L'], 0));
}

/// Pages without changed bytes stay in the kernel.
#[test]
fn remote_write_invalidates_only_its_pages() {
    let scene = Scene::new(CacheRules::GROUP);
    let group = Group::join(&scene.tree, Lost::Nothing);
    group.deliver_remote(Operation::Write.remote().expect("a change"));
    scene.tree.drain();
    let requests = || scene.tree.cfs.kernel.requests(KernelRequest::Read).get();
    let read = |offset| {
        let (before, mut byte) = (requests(), [0]);
        scene.reader.read_exact_at(&mut byte, offset).expect("a byte");
        requests() - before
    };
    assert_eq!((read(2 * 4096), read(4096), read(1000)), (0, 0, 1));
}

fn holds_whole_record(content: &[u8]) -> bool {
    content[SIZE..].chunk_by(|a, b| a == b).any(|run| run == [b'L'; 6000])
}

#[test]
fn append_over_a_page_boundary_lands_whole() {
    assert!(holds_whole_record(&crossing_appends(CacheRules::GROUP)));
    // With the page cache the kernel splits it: the other member's record lands in between.
    assert!(!holds_whole_record(&crossing_appends(CacheRules::THIS_MOUNT)));
}
