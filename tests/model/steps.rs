//! Random lists of steps over a tiny alphabet of paths, so that they meet each other.

use crate::tree::Model;
use pmxcfs::memdb::{Change, EntryChange, Stamp, TreePath, WriteAt};
use std::sync::Arc;

/// One thing that happens to a tree.
#[derive(Debug, Clone)]
pub enum Step {
    /// A change. An unlock gets the checksum that its entry has, if `right_lock`.
    Apply { change: Change, stamp: Stamp, right_lock: bool },
    /// Somebody asks whether a lock has expired, with the checksum that it has.
    AskExpiry { path: TreePath },
    /// Seconds go by.
    Wait(u64),
    /// A batch goes out to the disk.
    Take,
    /// It has arrived.
    Commit,
    /// It was lost.
    Fail,
    /// Somebody holds the contents of a file from here on.
    Hold { path: TreePath },
    /// Somebody asks for the index, so that digests are kept.
    Index,
}

/// A generator of numbers (SplitMix64): the same seed gives the same numbers.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Directories that make the rest worth trying.
pub const SKELETON: [&str; 9] = [
    "priv",
    "priv/lock",
    "nodes",
    "nodes/n",
    "nodes/m",
    "nodes/n/qemu-server",
    "nodes/n/lxc",
    "nodes/m/qemu-server",
    "nodes/m/lxc",
];

const PATHS: [&[u8]; 36] = [
    b"a",
    b"b",
    b"a/b",
    b"a/b/c",
    b"\xff\xfe",
    b"storage.cfg",
    b"a/storage.cfg",
    b"priv/lock/x",
    b"priv/lock/x",
    b"priv/lock/y",
    b"priv/lock/x/y",
    b"priv/token.cfg",
    b"nodes/n/qemu-server/100.conf",
    b"nodes/n/qemu-server/100.conf",
    b"nodes/m/qemu-server/100.conf",
    b"nodes/n/lxc/100.conf",
    b"nodes/n/lxc/101.conf",
    b"nodes/m/lxc/101.conf",
    b"nodes/m/lxc/101.conf",
    b"nodes/n/lxc/100.conf.tmp",
    b"nodes/n/lxc/0.conf",
    b"nodes/-/lxc",
    b"nodes/-/lxc/100.conf",
    b"nodes/n/lxc/100.conf/100.conf",
    b"",
    b".",
    b"./a",
    b"a/.",
    b"b/..",
    b"a\0b",
    b"a/b/../c",
    b"priv/lock",
    b"nodes",
    b"nodes/n",
    b"nodes/n/lxc",
    b"nodes/m/qemu-server",
];

/// Makes steps, and follows them on a model so that most of them find something.
struct Maker {
    random: Random,
    model: Model,
}

impl Maker {
    fn anywhere(&mut self) -> TreePath {
        TreePath::new(self.random.pick(&PATHS))
    }

    /// Mostly where something is.
    fn made(&mut self) -> TreePath {
        let made = self.model.items.len();
        if made == 0 || self.random.below(6) == 0 {
            return self.anywhere();
        }
        let at = self.random.below(made);
        self.model.items.keys().nth(at).map_or_else(TreePath::root, |path| TreePath::new(path))
    }

    fn lock(&mut self) -> TreePath {
        self.random.pick(&["priv/lock/x", "priv/lock/x", "priv/lock/y", "priv/lock/x/y"]).into()
    }

    fn change(&mut self) -> Change {
        let change = self.change_at_path();
        if self.random.below(3) == 0 { self.bound(change) } else { change }
    }

    /// The same change of the inode that is at the path, mostly, and of one that left or never was, sometimes.
    fn bound(&mut self, change: Change) -> Change {
        let (path, change) = match change {
            Change::Write { path, at, data } => (path, EntryChange::Write { at, data: Arc::new(data) }),
            Change::Truncate { path, size } => (path, EntryChange::Truncate { size }),
            Change::SetMtime { path, mtime } => (path, EntryChange::SetMtime { mtime }),
            other => return other,
        };
        let there = self.model.items.get(path.as_bytes()).map(|item| item.inode);
        let inode = match (there, self.random.below(4)) {
            (Some(inode), 1..) => inode,
            _ => self.random.below(self.model.version as usize + 1) as u64,
        };
        let place = self.random.pick(&[true, false]).then_some(path);
        Change::Entry { inode, place, change }
    }

    fn change_at_path(&mut self) -> Change {
        match self.random.below(20) {
            0..=4 => Change::Create { path: self.anywhere() },
            5 => Change::Mkdir { path: self.anywhere() },
            6 => Change::Mkdir { path: self.lock() },
            7..=9 => self.write(),
            10 => Change::Truncate { path: self.made(), size: self.offset() },
            11..=12 => Change::Delete { path: self.made() },
            13..=16 => Change::Rename { from: self.made(), to: self.target() },
            17..=18 => Change::SetMtime { path: self.made(), mtime: self.random.pick(&[0, 1, 5, 9]) },
            _ => Change::Unlock { path: self.lock(), checksum: [7; 32] },
        }
    }

    fn write(&mut self) -> Change {
        let path = self.made();
        let at = match self.random.below(3) {
            0 => WriteAt::End,
            _ => WriteAt::Offset(self.offset()),
        };
        let fill = self.random.below(256) as u8;
        Change::Write { path, at, data: vec![fill; self.random.pick(&[0, 1, 3, 5, 9])] }
    }

    /// Seldom far out: a megabyte in a file makes all that follows slow.
    fn offset(&mut self) -> u64 {
        match self.random.below(60) {
            0 => self.random.pick(&[1048577, u64::MAX]),
            1 if self.random.below(10) == 0 => self.random.pick(&[1048570, 1048576]),
            _ => self.random.pick(&[0, 0, 1, 4, 10]),
        }
    }

    /// Where to move something: to a new place, or onto something else.
    fn target(&mut self) -> TreePath {
        if self.random.below(2) == 0 { self.anywhere() } else { self.made() }
    }

    fn follow(&mut self, change: Change, stamp: Stamp, right_lock: bool) -> Step {
        // Time does not matter for what exists.
        let _refused_or_not = self.model.apply(&change, stamp, 0, right_lock);
        Step::Apply { change, stamp, right_lock }
    }

    fn step(&mut self) -> Step {
        match self.random.below(40) {
            0 => Step::Take,
            1 => Step::Commit,
            2 => Step::Fail,
            3 => Step::Hold { path: self.made() },
            4 => Step::Index,
            5 => Step::Wait(self.random.pick(&[1, 60, 120, 121])),
            6 => Step::AskExpiry { path: self.made() },
            7 => Step::AskExpiry { path: self.lock() },
            _ => {
                let (writer, time) = (self.random.below(2) as u32, self.random.below(8) as u32);
                let (change, stamp) = (self.change(), Stamp { writer, time });
                let right_lock = self.random.below(4) > 0;
                self.follow(change, stamp, right_lock)
            }
        }
    }
}

/// The list that belongs to a seed.
pub fn steps(seed: u64) -> Vec<Step> {
    let mut maker = Maker { random: Random(seed), model: Model::new() };
    let count = 10 + maker.random.below(70);
    let mut steps = Vec::new();
    if maker.random.below(4) > 0 {
        let stamp = Stamp { writer: 0, time: 1 };
        let mut mkdir = |path: &&str| maker.follow(Change::Mkdir { path: (*path).into() }, stamp, true);
        steps.extend(SKELETON.iter().map(&mut mkdir));
    }
    steps.extend((0..count).map(|_| maker.step()));
    steps
}
