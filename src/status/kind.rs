//! What the key of a status value says about the value, and which values are refused.

use super::{NAME_FIELD, VALUE_MAX, until_nul};

/// An address, with its NUL, is shorter than this.
const ADDRESS_LIMIT: usize = 256;
/// An RRD value, with its NUL, is shorter than this.
const RRD_LIMIT: usize = 4096;

/// A value that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("a status name of {0} bytes: the limit is {max}", max = NAME_FIELD - 1)]
    NameTooLong(usize),
    #[error("a status value of {0} bytes: the limit is {VALUE_MAX}")]
    ValueTooLong(usize),
    #[error("an address must be text with its NUL, shorter than {ADDRESS_LIMIT} bytes")]
    NotAnAddress,
    #[error("an RRD value must be text with its NUL, shorter than {RRD_LIMIT} bytes")]
    NotAnRrdValue,
}

/// What a key says about its value.
pub(super) enum Kind<'a> {
    Value,
    Address(&'a [u8]),
    Rrd { key: &'a [u8], data: &'a [u8] },
}

impl<'a> Kind<'a> {
    pub(super) fn of(key: &'a [u8], value: &'a [u8]) -> Result<Kind<'a>, SetError> {
        if key.len() >= NAME_FIELD {
            return Err(SetError::NameTooLong(key.len()));
        }
        if value.len() > VALUE_MAX {
            return Err(SetError::ValueTooLong(value.len()));
        }
        if let Some(key) = key.strip_prefix(b"rrd/") {
            let data = c_text(value, RRD_LIMIT).ok_or(SetError::NotAnRrdValue)?;
            return Ok(Kind::Rrd { key, data });
        }
        if key == b"nodeip" {
            return c_text(value, ADDRESS_LIMIT).map(Kind::Address).ok_or(SetError::NotAnAddress);
        }
        Ok(Kind::Value)
    }
}

/// The text of a value that must end in a NUL and be shorter than `limit` with it.
fn c_text(value: &[u8], limit: usize) -> Option<&[u8]> {
    match value.split_last() {
        Some((0, text)) if value.len() < limit => Some(until_nul(text)),
        _ => None,
    }
}
