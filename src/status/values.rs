//! The key/values of one node and their versions. It knows nothing of the keys' meaning.

use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct KeyValues {
    values: BTreeMap<Box<[u8]>, Value>,
}

#[derive(Debug)]
struct Value {
    data: Arc<[u8]>,
    /// 0 when first set, then one more with each later set. Removal forgets it.
    version: u32,
}

impl KeyValues {
    /// Sets a value; an empty one removes the key.
    pub(super) fn set(&mut self, key: &[u8], data: &[u8]) {
        if data.is_empty() {
            self.values.remove(key);
        } else if let Some(value) = self.values.get_mut(key) {
            value.data = data.into();
            value.version = value.version.wrapping_add(1);
        } else {
            self.values.insert(key.into(), Value { data: data.into(), version: 0 });
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        self.values.get(key).map(|value| &value.data)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<[u8]>)> {
        self.values.iter().map(|(key, value)| (&**key, &value.data))
    }

    pub(super) fn versions(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.values.iter().map(|(key, value)| (&**key, value.version))
    }
}
