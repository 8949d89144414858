//! Random choices that can be repeated.

use crate::operation::{Content, Operation, Place, Slot, Time, User};
use nix::fcntl::{OFlag, RenameFlags};
use nix::sys::stat::SFlag;
use nix::unistd::AccessFlags;

/// Numbers that follow from a seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The seed of a run: as asked for, or another each time. It is printed, for a run that fails.
pub fn seed() -> u64 {
    let seed = number("STOCK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("STOCK_SEED={seed}");
    seed
}

/// A number from the environment.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Made at the start of a run: where things happen.
pub const DIRECTORIES: &[&[u8]] = &[
    b"d",
    b"d/e",
    b"d/e/f",
    b"ha",
    b"sdn",
    b"priv",
    b"priv/lock",
    b"priv/acme",
    b"nodes",
    b"nodes/bench1",
    b"nodes/bench1/qemu-server",
    b"nodes/bench1/lxc",
    b"nodes/bench1/priv",
    b"nodes/n2",
    b"nodes/n2/qemu-server",
    b"nodes/n2/lxc",
    b"nodes/n2/openvz",
];

/// Through links, and places that are no directories.
const ODD_DIRECTORIES: &[&[u8]] =
    &[b"", b"local", b"qemu-server", b"lxc", b"openvz", b"local/priv", b".version", b"d/a", b"missing"];

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"storage.cfg",
    b"user.cfg",
    b"resources.cfg",
    b"100.conf",
    b"101.conf",
    b"102.conf",
    b"4294967295.conf",
    b"4294967296.conf",
    b"0100.conf",
    b"100.conf.tmp.123",
    b"vps.mount",
    b"100.start",
    b"priv",
    b"lock",
    b"x y\n'\"",
    b"caf\xe9",
    b"\xff\xfe",
];

const ODD_NAMES: &[&[u8]] = &[
    b".version",
    b".debug",
    b".vmlist",
    b".members",
    b".rrd",
    b".clusterlog",
    b"local",
    b"qemu-server",
    b"openvz",
    b"lxc",
    b".",
    b"..",
    b"new/",
    &[b'l'; 256],
    &[b'l'; 1024],
    &[b'l'; 1025],
];

const LENGTHS: &[usize] = &[0, 1, 10, 100, 500, 4095, 4096, 4097, 10_000, 65_536, 100_000];
const OFFSETS: &[u64] = &[0, 0, 0, 1, 5, 100, 4000, 4096, 8192, 50_000, 1 << 20, 1 << 33];
const SIZES: &[u64] = &[0, 0, 1, 10, 4096, 5000, 100_000, 1 << 20, (1 << 20) + 1, 1 << 33];
const TIMES: &[Time] = &[
    Time::Now,
    Time::Now,
    Time::Omit,
    Time::At(0),
    Time::At(1),
    Time::At(-5),
    Time::At(1_234_567_890),
    Time::At(4_000_000_000),
    Time::At(5_000_000_000),
];
const MODES: &[u32] = &[0o640, 0o600, 0o640, 0o600, 0o644, 0o755, 0o700, 0o4640, 0o1640, 0];
const OPEN_FLAGS: &[OFlag] = &[
    OFlag::O_RDONLY,
    OFlag::O_RDONLY,
    OFlag::O_RDWR,
    OFlag::O_RDWR,
    OFlag::O_RDWR.union(OFlag::O_CREAT),
    OFlag::O_RDWR.union(OFlag::O_CREAT),
    OFlag::O_RDWR.union(OFlag::O_CREAT).union(OFlag::O_EXCL),
    OFlag::O_RDWR.union(OFlag::O_APPEND),
    OFlag::O_WRONLY,
    OFlag::O_WRONLY.union(OFlag::O_TRUNC),
    OFlag::O_RDWR.union(OFlag::O_CREAT).union(OFlag::O_TRUNC),
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY),
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW),
    OFlag::O_RDONLY.union(OFlag::O_CREAT),
    OFlag::O_RDONLY.union(OFlag::O_TRUNC),
    OFlag::O_RDWR.union(OFlag::O_DSYNC),
];
const SLOTS: Slot = 4;

/// Chooses what happens next. It remembers the paths it gave out, so that operations meet.
pub struct Chooser {
    pub random: Random,
    recent: Vec<Place>,
}

/// How many paths are remembered.
const RECENT: usize = 24;

impl Chooser {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), recent: Vec::new() }
    }

    /// Mostly root, who alone can change things.
    pub fn user(&mut self) -> User {
        match self.random.below(20) {
            0 => User::WwwData,
            1 => User::Nobody,
            _ => User::Root,
        }
    }

    fn path(&mut self) -> Place {
        if !self.recent.is_empty() && self.random.below(5) < 3 {
            return self.random.pick(&self.recent);
        }
        let directories = if self.random.one_in(8) { ODD_DIRECTORIES } else { DIRECTORIES };
        let directory = self.random.pick(directories);
        if self.random.one_in(12) {
            return Place::new(directory);
        }
        let names = if self.random.one_in(12) { ODD_NAMES } else { NAMES };
        let path = Place::new(directory).below(self.random.pick(names));
        if self.recent.len() == RECENT {
            let at = self.random.below(RECENT);
            self.recent.swap_remove(at);
        }
        self.recent.push(path.clone());
        path
    }

    fn content(&mut self) -> Content {
        Content { seed: self.random.below(256) as u8, length: self.random.pick(LENGTHS) }
    }

    pub fn operation(&mut self) -> Operation {
        match self.random.below(100) {
            0..20 => self.change_of_content(),
            20..50 => self.change_of_names(),
            50..60 => self.change_of_attributes(),
            60..66 => self.what_is_not_supported(),
            66..82 => self.look(),
            _ => self.use_of_descriptor(),
        }
    }

    fn change_of_content(&mut self) -> Operation {
        let path = self.path();
        match self.random.below(4) {
            0 => Operation::Append { path, content: self.content() },
            1 => Operation::Truncate { path, size: self.random.pick(SIZES) as i64 },
            _ => Operation::Replace { path, content: self.content() },
        }
    }

    fn change_of_names(&mut self) -> Operation {
        let path = self.path();
        match self.random.below(8) {
            0..3 => Operation::Rename { from: path, to: self.path() },
            3..5 => Operation::Unlink { path },
            5 => Operation::Rmdir { path },
            _ => Operation::Mkdir { path },
        }
    }

    fn change_of_attributes(&mut self) -> Operation {
        let path = self.path();
        match self.random.below(4) {
            0 => Operation::Chmod { path, mode: self.random.pick(MODES) },
            1 => {
                let ids = [None, Some(0), Some(33), Some(1000)];
                Operation::Chown { path, uid: self.random.pick(&ids), gid: self.random.pick(&ids) }
            }
            _ => {
                let (atime, mtime) = (self.random.pick(TIMES), self.random.pick(TIMES));
                Operation::Utimens { path, atime, mtime }
            }
        }
    }

    fn what_is_not_supported(&mut self) -> Operation {
        let (path, other) = (self.path(), self.path());
        match self.random.below(4) {
            0 => Operation::Symlink { path, target: other },
            1 => Operation::Link { from: path, to: other },
            2 => {
                let kinds = [SFlag::S_IFREG, SFlag::S_IFIFO, SFlag::S_IFSOCK];
                Operation::Mknod { path, kind: self.random.pick(&kinds) }
            }
            _ => {
                let flags = [RenameFlags::RENAME_NOREPLACE, RenameFlags::RENAME_EXCHANGE];
                Operation::RenameWith { from: path, to: other, flags: self.random.pick(&flags) }
            }
        }
    }

    fn look(&mut self) -> Operation {
        let path = self.path();
        match self.random.below(8) {
            0..3 => Operation::Stat { path },
            3..5 => Operation::Read { path },
            5 => Operation::List { path },
            6 => {
                let modes = [AccessFlags::R_OK, AccessFlags::W_OK, AccessFlags::X_OK, AccessFlags::F_OK];
                match self.random.below(2) {
                    0 => Operation::ReadLink { path },
                    _ => Operation::Access { path, mode: self.random.pick(&modes) },
                }
            }
            _ => Operation::StatFs,
        }
    }

    fn use_of_descriptor(&mut self) -> Operation {
        let slot = self.random.below(usize::from(SLOTS)) as Slot;
        match self.random.below(10) {
            0..3 => Operation::Open { slot, path: self.path(), flags: self.random.pick(OPEN_FLAGS) },
            3 => Operation::ReadAt { slot, offset: self.random.pick(OFFSETS), length: 10_000 },
            4..7 => {
                let (offset, content) = (self.random.pick(OFFSETS), self.content());
                Operation::WriteAt { slot, offset, content }
            }
            7 => match self.random.below(2) {
                0 => Operation::SetLength { slot, size: self.random.pick(SIZES) },
                _ => Operation::Sync { slot },
            },
            8 => Operation::StatOpen { slot },
            _ => Operation::Close { slot },
        }
    }
}
