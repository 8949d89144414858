//! `.debug`: shows whether debug lines are logged, and switches that.

use super::text::attr_of;
use crate::cfs::{Cfs, Generated};
use crate::fs::attr::Attr;
use crate::fs::error::FsError;
use crate::fs::mode;
use std::sync::Arc;

/// The node `.debug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Debug;

impl Debug {
    pub(super) fn read(self, cfs: &Cfs) -> Arc<[u8]> {
        cfs.text(Generated::Debug)
    }

    pub(super) fn attr(self, ino: u64, cfs: &Cfs) -> Attr {
        attr_of(ino, &self.read(cfs), mode::DEBUG, cfs)
    }

    pub(super) fn write(self, offset: u64, data: &[u8], cfs: &Cfs) -> Result<usize, FsError> {
        let switch = Switch::parse(offset, data).ok_or(FsError::DebugValue)?;
        cfs.set_debug(switch.on);
        Ok(Switch::LENGTH)
    }
}

/// What can be written to `.debug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch {
    on: bool,
}

impl Switch {
    /// Bytes that count; what follows them is left to another write, which is refused.
    const LENGTH: usize = 2;

    fn parse(offset: u64, data: &[u8]) -> Option<Self> {
        match data {
            _ if offset != 0 => None,
            [b'0', b'\n', ..] => Some(Self { on: false }),
            [b'1', b'\n', ..] => Some(Self { on: true }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Switch;

    #[test]
    fn only_a_digit_and_a_newline_at_the_start() {
        assert_eq!(Switch::parse(0, b"1\n"), Some(Switch { on: true }));
        assert_eq!(Switch::parse(0, b"0\n"), Some(Switch { on: false }));
        assert_eq!(Switch::parse(0, b"1\nmore"), Some(Switch { on: true }));
        for (offset, data) in [(0, &b"1"[..]), (0, b""), (0, b"2\n"), (0, b"11"), (2, b"1\n"), (0, b"\n1")] {
            assert_eq!(Switch::parse(offset, data), None, "{offset} {data:?}");
        }
    }
}
