//! The messages of the status group, in the bytes of stock nodes.

use crate::dfsm::{Outgoing, wire::Extension};
use crate::status::NAME_FIELD;
use crate::status::clusterlog::Entry;
use std::sync::Arc;

/// A key and its value; an empty one removes the key.
pub const VALUE: u16 = 1;
/// An entry of the cluster log.
pub const LOG: u16 = 3;

/// What this node tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Value { key: Vec<u8>, value: Vec<u8> },
    Log(Entry),
}

/// Why bytes are no key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("received short kvstore message ({0} bytes, {NAME_FIELD} are the least)")]
    Short(usize),
    #[error("received kvstore message with a key without a NUL")]
    Unterminated,
}

impl Request {
    /// Lays out the payload.
    pub fn encode(self) -> Outgoing {
        match self {
            Request::Value { key, value } => encode_value(&key, &value),
            Request::Log(entry) => outgoing(LOG, entry.as_bytes().to_vec(), None),
        }
    }
}

/// Lays out a key and its value. A key that does not fit is cut, as in stock.
pub fn encode_value(key: &[u8], value: &[u8]) -> Outgoing {
    let mut field = [0; NAME_FIELD];
    for (byte, from) in field.iter_mut().zip(key.iter().take(NAME_FIELD - 1)) {
        *byte = *from;
    }
    let body = (!value.is_empty()).then(|| Arc::new(value.to_vec()));
    outgoing(VALUE, field.to_vec(), body)
}

/// Reads a key, up to its NUL, and its value.
pub fn decode_value(payload: &[u8]) -> Result<(&[u8], &[u8]), ValueError> {
    let (field, value) = payload.split_at_checked(NAME_FIELD).ok_or(ValueError::Short(payload.len()))?;
    let end = field.iter().position(|&byte| byte == 0).ok_or(ValueError::Unterminated)?;
    Ok((field.get(..end).unwrap_or_default(), value))
}

fn outgoing(subtype: u16, head: Vec<u8>, body: Option<Arc<Vec<u8>>>) -> Outgoing {
    Outgoing { subtype, extension: Extension::default(), head, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_wire() {
        for (key, value) in [(&b"kv/k1"[..], &b"x"[..]), (b"", b""), (&[b'k'; 255], b"y\0")] {
            let out = encode_value(key, value);
            let body = out.body.as_ref().map_or(&[][..], |body| body.as_slice());
            assert_eq!(decode_value(&[&out.head, body].concat()), Ok((key, value)));
        }
        let cut = encode_value(&[b'k'; 300], b"");
        assert_eq!(decode_value(&cut.head), Ok((&[b'k'; 255][..], &b""[..])));
    }

    #[test]
    fn what_is_no_value() {
        assert_eq!(decode_value(&[0; 255]), Err(ValueError::Short(255)));
        assert_eq!(decode_value(&[b'k'; 300]), Err(ValueError::Unterminated));
        assert_eq!(decode_value(&[]), Err(ValueError::Short(0)));
    }
}
