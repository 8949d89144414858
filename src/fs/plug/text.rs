//! Generated files that can only be read.

use crate::cfs::{Cfs, Generated};
use crate::fs::attr::{Attr, Kind, Lifetime};
use crate::fs::mode;
use std::sync::Arc;

/// A generated file. Its size is that of the text as it is now, so that programs which trust the
/// size before they read get all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    what: Generated,
}

impl Text {
    pub(super) fn new(what: Generated) -> Self {
        Self { what }
    }

    pub(super) fn read(&self, cfs: &Cfs) -> Arc<[u8]> {
        cfs.text(self.what)
    }

    pub(super) fn attr(&self, ino: u64, cfs: &Cfs) -> Attr {
        attr_of(ino, &self.read(cfs), mode::GENERATED, cfs)
    }
}

/// Attributes of a generated file with this text.
pub(super) fn attr_of(ino: u64, text: &[u8], permissions: u16, cfs: &Cfs) -> Attr {
    Attr {
        ino,
        incarnation: 0,
        kind: Kind::File,
        permissions,
        links: 1,
        size: text.len() as u64,
        mtime: 0,
        gid: cfs.node.www_data_gid,
        lifetime: Lifetime::Volatile,
    }
}
