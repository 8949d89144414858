//! Random operations on both trees, one after the other: the same answers all the way, the same trees
//! and guests in between, the same tables in the end, and each table read by the other daemon.

use crate::daemon::Side;
use crate::exchange::{self, GuestList};
use crate::host::{Host, Row, Served};
use crate::known::{self, LATE, NO_FILES_AT};
use crate::operation::{Actor, Answer, Content, Operation, Place, User};
use crate::random::{Chooser, DIRECTORIES, number, seed};
use crate::tree::{self, Tree};
use crate::with_each_stock;
use nix::fcntl::OFlag;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::thread;

const STEPS: u64 = 4000;
/// After so many steps everything is compared.
const LOOK_EVERY: u64 = 200;
/// How many steps are told of when a run fails.
const TOLD: usize = 12;

/// The two trees.
struct Pair {
    stock: Served,
    ours: Served,
    stock_actor: Actor,
    our_actor: Actor,
    guests: (GuestList, GuestList),
    last: VecDeque<String>,
    /// How often which exception was made.
    exceptions: BTreeMap<&'static str, u64>,
}

impl Pair {
    fn start(stock: (&Host, &Side), ours: (&Host, &Side)) -> Self {
        let (stock, ours) = (stock.0.start(stock.1), ours.0.start(ours.1));
        let (stock_actor, our_actor) = (Actor::new(stock.root()), Actor::new(ours.root()));
        let guests = (GuestList::of(&stock), GuestList::of(&ours));
        Self {
            stock,
            ours,
            stock_actor,
            our_actor,
            guests,
            last: VecDeque::new(),
            exceptions: BTreeMap::new(),
        }
    }

    /// Does the same on both.
    fn act(&mut self, user: User, operation: &Operation) -> (Answer, Answer) {
        (self.stock_actor.act_as(user, operation), self.our_actor.act_as(user, operation))
    }

    fn step(&mut self, user: User, operation: &Operation) {
        if let Some(reason) = known::avoided(operation, &self.our_actor) {
            *self.exceptions.entry(reason).or_default() += 1;
            return;
        }
        let (mut stock, ours) = self.act(user, operation);
        if stock != ours && operation.only_looks() {
            thread::sleep(LATE);
            stock = self.stock_actor.act_as(user, operation);
        }
        if self.last.len() == TOLD {
            self.last.pop_front();
        }
        self.last.push_back(format!("{user:?} {operation:?}: {stock:?}"));
        if stock != ours {
            let Some(reason) = known::allowed(operation, &self.our_actor, &stock, &ours) else {
                self.fail(&format!("{user:?} {operation:?}\n  stock {stock:?}\n  ours  {ours:?}"));
            };
            *self.exceptions.entry(reason).or_default() += 1;
        }
        let (stock, ours) = (self.guests.0.read(), self.guests.1.read());
        if stock != ours {
            self.fail(&format!("{user:?} {operation:?}: guests\n  stock {stock}\n  ours  {ours}"));
        }
    }

    fn make_directories(&mut self) {
        for directory in DIRECTORIES {
            self.step(User::Root, &Operation::Mkdir { path: Place::new(directory) });
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\nthe last steps:\n  {}", Vec::from(self.last.clone()).join("\n  "));
    }

    fn trees(&self) -> (Tree, Tree) {
        (tree::read(&self.stock.root()), tree::read(&self.ours.root()))
    }

    /// Removes what only keeps stock from starting again.
    fn mend(&mut self) {
        self.stock_actor.close();
        self.our_actor.close();
        let is_bad = |path: &PathBuf| {
            let is_kind = path.file_name().is_some_and(|name| NO_FILES_AT.iter().any(|bad| name == *bad));
            is_kind && path.starts_with("nodes") && path.components().count() == 3
        };
        let (tree, _) = self.trees();
        for path in tree.into_keys().map(PathBuf::from).filter(is_bad) {
            if self.our_actor.at(&Place(path.clone())).is_file() {
                self.step(User::Root, &Operation::Unlink { path: Place(path) });
            }
        }
    }

    fn compare(&self, when: &str) {
        let (stock, ours) = self.trees();
        tree::assert_same(when, &stock, &ours);
    }

    fn stop(self) {
        let Self { stock, ours, exceptions, .. } = self;
        for (reason, count) in exceptions {
            println!("{count} times: {reason}");
        }
        stock.stop();
        ours.stop();
    }
}

/// Rows with places instead of numbers: the kernel may split a write to ours that it does not split to
/// stock, and each part is a version. What follows what must be the same.
fn ranked(rows: &[Row]) -> Vec<Row> {
    let mut numbers: Vec<i64> = rows.iter().flat_map(|row| [row.inode, row.version]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let ranks: BTreeMap<i64, i64> = numbers.into_iter().zip(0..).collect();
    let ranked = |row: &Row| {
        let rank = |number: i64| ranks[&number];
        Row { inode: rank(row.inode), parent: rank(row.parent), version: rank(row.version), ..row.clone() }
    };
    rows.iter().map(ranked).collect()
}

/// The two tables must hold the same.
fn assert_same_rows(stock: &[Row], ours: &[Row]) {
    exchange::assert_same_rows("in the end", &ranked(stock), &ranked(ours));
}

#[test]
fn random_operations_have_the_same_answers() {
    with_each_stock(compare_random_operations);
}

fn compare_random_operations(binary: PathBuf) {
    let stock = Side::Stock(binary);
    let mut chooser = Chooser::new(seed());
    let steps = number("STOCK_STEPS").unwrap_or(STEPS);
    let (stock_host, our_host) = (Host::new(), Host::new());
    let mut pair = Pair::start((&stock_host, &stock), (&our_host, &Side::Ours));
    pair.make_directories();
    for step in 1..=steps {
        let (user, operation) = (chooser.user(), chooser.operation());
        pair.step(user, &operation);
        if step % LOOK_EVERY == 0 || step == steps {
            pair.compare(&format!("after step {step}"));
        }
    }
    pair.mend();
    let (before, _) = pair.trees();
    pair.stop();
    assert_same_rows(&stock_host.rows(), &our_host.rows());

    let crossed = Pair::start((&our_host, &stock), (&stock_host, &Side::Ours));
    let (stock, ours) = crossed.trees();
    tree::assert_same("stock on our database", &stock, &before);
    tree::assert_same("ours on stock's database", &before, &ours);
    crossed.stop();
}

/// What the random operations do not try, as stock's tree then has a hidden file: only the answers are
/// compared.
#[test]
fn removed_files_are_used_on() {
    with_each_stock(use_removed_files);
}

fn use_removed_files(binary: PathBuf) {
    let (stock_host, our_host) = (Host::new(), Host::new());
    let mut pair = Pair::start((&stock_host, &Side::Stock(binary)), (&our_host, &Side::Ours));
    pair.make_directories();
    let path = Place::new(b"d/a");
    let content = |length| Content { seed: 9, length };
    let read = Operation::ReadAt { slot: 0, offset: 0, length: 10_000 };
    for removal in [
        Operation::Unlink { path: path.clone() },
        Operation::Rename { from: Place::new(b"d/b"), to: path.clone() },
    ] {
        let operations = [
            Operation::Replace { path: path.clone(), content: content(5000) },
            Operation::Replace { path: Place::new(b"d/b"), content: content(10) },
            Operation::Open { slot: 0, path: path.clone(), flags: OFlag::O_RDWR },
            Operation::Open { slot: 1, path: path.clone(), flags: OFlag::O_WRONLY | OFlag::O_APPEND },
            removal,
            read.clone(),
            Operation::WriteAt { slot: 0, offset: 100, content: content(50) },
            Operation::WriteAt { slot: 0, offset: 8000, content: content(50) },
            Operation::WriteAt { slot: 1, offset: 0, content: content(20) },
            read.clone(),
            Operation::SetLength { slot: 0, size: 6000 },
            Operation::SetLength { slot: 0, size: (1 << 20) + 1 },
            Operation::WriteAt { slot: 0, offset: 1 << 20, content: content(1) },
            Operation::Sync { slot: 0 },
            read.clone(),
            Operation::Read { path: path.clone() },
            Operation::Close { slot: 0 },
            Operation::Close { slot: 1 },
            Operation::Read { path: path.clone() },
        ];
        for operation in operations {
            let (stock, ours) = pair.act(User::Root, &operation);
            assert_eq!(stock, ours, "{operation:?}");
        }
    }
    pair.compare("in the end");
    pair.stop();
}
