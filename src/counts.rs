//! Numbers that only grow: how often what happened, for whoever looks after the daemon. To count is one
//! relaxed addition; nothing is decided by these numbers, and nothing waits for them.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often something happened, or how much of it there was.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// It happened once more.
    pub fn one(&self) {
        self.many(1);
    }

    /// It happened so many more times.
    pub fn many(&self, times: u64) {
        self.0.fetch_add(times, Ordering::Relaxed);
    }

    /// How often it happened.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! kernel_requests {
    ($($variant:ident = $name:literal,)*) => {
        /// What the kernel asks the mounted tree for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum KernelRequest {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl KernelRequest {
            /// Every kind, in the order of their counts.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As in log lines and reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kernel_requests! {
    Lookup = "lookup",
    Getattr = "getattr",
    Setattr = "setattr",
    Readlink = "readlink",
    Mknod = "mknod",
    Mkdir = "mkdir",
    Unlink = "unlink",
    Rmdir = "rmdir",
    Rename = "rename",
    Create = "create",
    Open = "open",
    Read = "read",
    Write = "write",
    Flush = "flush",
    Fsync = "fsync",
    Fsyncdir = "fsyncdir",
    Release = "release",
    Opendir = "opendir",
    Readdir = "readdir",
    Readdirplus = "readdirplus",
    Releasedir = "releasedir",
    Statfs = "statfs",
    Refused = "refused",
}

/// What goes on between the kernel and the mounted tree.
#[derive(Debug, Default)]
pub struct KernelCounts {
    requests: [Count; KernelRequest::ALL.len()],
    /// Things that the kernel was told to drop from its caches.
    pub invalidations: Count,
}

impl KernelCounts {
    /// The requests of one kind.
    pub fn requests(&self, kind: KernelRequest) -> &Count {
        // Each kind has its place: the list is made of the same lines.
        &self.requests[kind as usize]
    }
}

/// How often an answer that is kept could be given as it was, and how often it had to be made.
#[derive(Debug, Default)]
pub struct CacheCounts {
    /// It was still right.
    pub hits: Count,
    /// It was made, or brought up to date.
    pub misses: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_count_of_its_own() {
        let counts = KernelCounts::default();
        for (times, &kind) in (1..).zip(KernelRequest::ALL) {
            counts.requests(kind).many(times);
        }
        for (times, &kind) in (1..).zip(KernelRequest::ALL) {
            assert_eq!(counts.requests(kind).get(), times, "{}", kind.name());
        }
        counts.invalidations.one();
        assert_eq!(counts.invalidations.get(), 1);
    }
}
