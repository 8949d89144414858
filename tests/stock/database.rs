//! One database, two daemons: what one wrote, or lost when it was killed, the other serves as it is.

use crate::daemon::Side;
use crate::exchange::{GuestList, assert_same_rows};
use crate::host::{Host, Served};
use crate::operation::{Actor, Content, Operation, Place, Time, User};
use crate::random::{Chooser, DIRECTORIES, seed};
use crate::{known, tree, with_each_stock};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Small files of each round.
const MANY: usize = 400;
/// Largest part of a write to a new file that the kernel passes to stock 7.3-3 in one request.
const PAGE: usize = 4096;
/// Written in pieces that the kernel passes on as they are, to a daemon with or without a cache.
const PIECE: usize = 64 << 10;
const FILE_SIZE_MAX: usize = 1 << 20;

/// How many databases are lost.
const CRASHES: u64 = 4;

fn place(path: &str) -> Place {
    Place::new(path.as_bytes())
}

fn replace(path: &str, length: usize) -> Operation {
    Operation::Replace { path: place(path), content: Content { seed: path.len() as u8, length } }
}

/// As PVE's tools write a file.
fn replace_whole(path: &str, length: usize) -> [Operation; 2] {
    let temporary = format!("{path}.tmp.1234");
    [replace(&temporary, length), Operation::Rename { from: place(&temporary), to: place(path) }]
}

fn mkdir(path: &str) -> Operation {
    Operation::Mkdir { path: place(path) }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename { from: place(from), to: place(to) }
}

fn unlink(path: &str) -> Operation {
    Operation::Unlink { path: place(path) }
}

/// The directories of all rounds.
fn prepare() -> Vec<Operation> {
    DIRECTORIES.iter().map(|path| Operation::Mkdir { path: Place::new(path) }).collect()
}

/// What happens in a round: each operation is one change for either daemon, or the same few.
fn operations(round: usize) -> Vec<Operation> {
    let vmid = |number: usize| 100 + 10 * round + number;
    let mut list = Vec::new();
    for number in 0..4 {
        list.extend(replace_whole(&format!("nodes/bench1/qemu-server/{}.conf", vmid(number)), 700));
        list.extend(replace_whole(&format!("nodes/n2/lxc/{}.conf", vmid(number + 4)), 300));
    }
    let moved = format!("qemu-server/{}.conf", vmid(0));
    list.push(rename(&format!("nodes/bench1/{moved}"), &format!("nodes/n2/{moved}")));
    list.push(unlink(&format!("nodes/n2/lxc/{}.conf", vmid(4))));
    list.extend(replace_whole("storage.cfg", 2000 + round));
    list.extend(replace_whole("priv/token.cfg", 100 + round));
    list.push(replace("priv/acme/plugins.cfg", 0));

    let lock = format!("priv/lock/file-{round}");
    list.push(mkdir(&lock));
    list.push(Operation::Utimens { path: place(&lock), atime: Time::Now, mtime: Time::Now });
    list.push(mkdir("priv/lock/released"));
    list.push(Operation::Rmdir { path: place("priv/lock/released") });

    let round_directory = Place::new(format!("d/r{round}").as_bytes());
    list.push(Operation::Mkdir { path: round_directory.clone() });
    for name in
        [&b"caf\xe9"[..], b"\xff\xfe\x80", b"new\nline '\"\\", b"\xe4\xb8\xad\xe6\x96\x87", &[b'n'; 1024]]
    {
        let content = Content { seed: 7, length: 50 };
        list.push(Operation::Replace { path: round_directory.below(name), content });
    }
    for number in 0..MANY {
        list.push(replace(&format!("d/r{round}/{number:04}"), number * 7 % 600));
        if number % 3 == 0 {
            list.push(unlink(&format!("d/r{round}/{:04}", number / 2)));
        }
        if number % 5 == 0 {
            list.push(rename(&format!("d/r{round}/{number:04}"), &format!("d/e/moved-{}", number / 50)));
        }
    }
    list.push(replace(&format!("d/r{round}/cut"), PAGE));
    list.push(Operation::Truncate { path: place(&format!("d/r{round}/cut")), size: 100 });
    list.push(Operation::Truncate { path: place(&format!("d/r{round}/cut")), size: 9000 });
    list.push(replace(&format!("d/r{round}/emptied"), PAGE));
    list.push(replace(&format!("d/r{round}/emptied"), 0));
    for time in [0, 1, 1_234_567_890, 4_000_000_000] {
        let path = place(&format!("d/r{round}/time-{time}"));
        list.push(Operation::Replace { path: path.clone(), content: Content { seed: 1, length: 1 } });
        list.push(Operation::Utimens { path, atime: Time::Now, mtime: Time::At(time) });
    }
    list.push(replace("large", 0));
    for at in (0..FILE_SIZE_MAX).step_by(PIECE) {
        let content = Content { seed: (at / PIECE) as u8 ^ round as u8, length: PIECE };
        list.push(Operation::Append { path: place("large"), content });
    }
    list
}

fn run(served: &Served, operations: &[Operation]) {
    let mut actor = Actor::new(served.root());
    for operation in operations {
        // Some rename or remove what is not there; that both say the same is seen in the trees.
        let _ = actor.act(operation);
    }
}

/// How the daemons of a round end.
#[derive(Clone, Copy, Debug)]
enum End {
    InOrder,
    OursKilled,
    BothKilled,
}

#[test]
fn databases_change_hands() {
    with_each_stock(exchange_databases);
}

fn exchange_databases(binary: PathBuf) {
    let stock_side = Side::Stock(binary);
    let mut hosts = [Host::new(), Host::new()];
    for (round, end) in [End::InOrder, End::OursKilled, End::BothKilled, End::InOrder].into_iter().enumerate()
    {
        let when = format!("round {round}, {end:?}");
        let (stock, ours) = (hosts[0].start(&stock_side), hosts[1].start(&Side::Ours));
        let begin = tree::read(&stock.root());
        tree::assert_same(&format!("{when}, at start"), &begin, &tree::read(&ours.root()));
        assert_eq!(GuestList::of(&stock).read(), GuestList::of(&ours).read(), "{when}");

        let operations = if round == 0 { prepare() } else { operations(round) };
        run(&stock, &operations);
        run(&ours, &operations);
        let before = tree::read(&stock.root());
        tree::assert_same(&when, &before, &tree::read(&ours.root()));
        assert!(before.len() > begin.len(), "{when}: nothing was made");
        ours.sync();
        match end {
            End::InOrder => (stock.stop(), ours.stop()),
            End::OursKilled => (stock.stop(), ours.crash()),
            End::BothKilled => (stock.crash(), ours.crash()),
        };
        assert_same_rows(&when, &hosts[0].rows(), &hosts[1].rows());
        hosts.swap(0, 1);
    }
}

/// Makes changes until the daemon is gone.
fn change_until_killed(served: &Served, chooser: &mut Chooser, done: &AtomicUsize) {
    let mut actor = Actor::new(served.root());
    for path in DIRECTORIES {
        let _ = actor.act(&Operation::Mkdir { path: Place::new(path) });
    }
    while served.path(".version").exists() {
        let operation = chooser.operation();
        if known::avoided(&operation, &actor).is_none() {
            // Refused or not: what counts is what is there in the end.
            let _ = actor.act_as(User::Root, &operation);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// No daemon runs: a file where stock needs a directory to start.
fn keeps_stock_from_starting(host: &Host) -> bool {
    let rows = host.rows();
    let name_of = |inode: i64| rows.iter().find(|row| row.inode == inode && inode != 0);
    rows.iter().any(|row| {
        let is_kind = known::NO_FILES_AT.iter().any(|name| row.name == name.as_bytes());
        let node = name_of(row.parent);
        let nodes = node.and_then(|node| name_of(node.parent));
        is_kind && row.kind == 8 && nodes.is_some_and(|nodes| nodes.name == b"nodes" && nodes.parent == 0)
    })
}

#[test]
fn what_is_left_of_a_killed_daemon_is_the_same_for_both() {
    with_each_stock(kill_and_compare);
}

fn kill_and_compare(binary: PathBuf) {
    let stock_side = Side::Stock(binary);
    let seed = seed();
    let host = Host::new();
    for crash in 0..CRASHES {
        let mut chooser = Chooser::new(seed ^ (crash << 32));
        let ours = host.start(&Side::Ours);
        let enough = 100 + chooser.random.below(2000);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| change_until_killed(&ours, &mut chooser, &done));
            while done.load(Ordering::Relaxed) < enough {
                std::thread::yield_now();
            }
            ours.kill();
        });
        ours.stop();

        let copy = Host::copy_of(&host);
        let (for_ours, for_stock) =
            (host.start(&Side::Ours), (!keeps_stock_from_starting(&copy)).then(|| copy.start(&stock_side)));
        if let Some(for_stock) = for_stock {
            let when = format!("after {crash} crashes");
            tree::assert_same(&when, &tree::read(&for_stock.root()), &tree::read(&for_ours.root()));
            assert_eq!(GuestList::of(&for_stock).read(), GuestList::of(&for_ours).read(), "{when}");
            for_stock.stop();
        }
        for_ours.stop();
    }
}
