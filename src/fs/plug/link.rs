//! Symbolic links to places of this node.

use crate::cfs::Cfs;
use crate::fs::attr::{Attr, Kind, Lifetime};
use crate::fs::mode;

/// A link. Its target never changes; its mode shows quorum, and the kernel is told when that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    target: String,
}

impl Link {
    pub(super) fn new(target: String) -> Self {
        Self { target }
    }

    pub(super) fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    pub(super) fn attr(&self, ino: u64, cfs: &Cfs) -> Attr {
        Attr {
            ino,
            incarnation: 0,
            kind: Kind::Symlink,
            permissions: mode::link(cfs.is_quorate()),
            links: 1,
            size: self.target.len() as u64,
            mtime: 0,
            gid: cfs.node.www_data_gid,
            lifetime: Lifetime::UntilInvalidated,
        }
    }
}
