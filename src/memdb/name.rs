//! One path component. A [`Name`] is checked when it is made and never again.

use super::NAME_BYTES_MAX;
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// One path component: any bytes but NUL and slash, at most [`NAME_BYTES_MAX`] of them, not empty, not `.` or `..`.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The name made of these bytes, if they can be one.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Self::is_valid(bytes).then(|| Self(bytes.into()))
    }

    /// As [`Name::new`], without a copy.
    pub fn from_arc(bytes: Arc<[u8]>) -> Option<Self> {
        Self::is_valid(&bytes).then_some(Self(bytes))
    }

    /// Whether these bytes can be a name.
    pub fn is_valid(bytes: &[u8]) -> bool {
        bytes.len() <= NAME_BYTES_MAX
            && !matches!(bytes, b"" | b"." | b"..")
            && !bytes.iter().any(|&byte| byte == b'/' || byte == 0)
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name's bytes, shared.
    pub fn to_arc(&self) -> Arc<[u8]> {
        Arc::clone(&self.0)
    }

    /// What stands for the name of an entry that has none it could have: another for each inode, and
    /// no name that an entry can have.
    pub(super) fn stand_in(inode: u64) -> Self {
        Self(format!("/{inode}").into_bytes().into())
    }

    /// The name of the root, the only empty one.
    pub(super) fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }
}

impl Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_readable(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Writes bytes for a human: text as it is, control characters and what is not UTF-8 as escapes.
pub(super) fn write_readable(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() {
                write!(f, "{}", char.escape_default())?;
            } else {
                write!(f, "{char}")?;
            }
        }
        write!(f, "{}", chunk.invalid().escape_ascii())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_name() {
        for good in [&b"a"[..], b"...", b".a", b"\xff\xfe", b"a b", b"-"] {
            assert!(Name::new(good).is_some(), "{good:?}");
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
            assert!(Name::new(bad).is_none(), "{bad:?}");
        }
        assert!(Name::new(&[b'x'; NAME_BYTES_MAX]).is_some());
        assert!(Name::new(&[b'x'; NAME_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn unreadable_names_are_escaped_for_humans() {
        let name = Name::new(b"\xc3\xa4\xff\n").expect("valid");
        assert_eq!(name.to_string(), "ä\\xff\\n");
    }
}
