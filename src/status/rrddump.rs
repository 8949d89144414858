//! The last RRD value of each key, as long as it is fresh, for those who ask for all of them. The
//! files that these values also go to are not its business.

use super::rrdkey::{RrdKeyError, RrdUpdate, map_rrd};
use std::collections::BTreeMap;
use std::time::Duration;

/// A value that was not set again for longer than this is gone.
const EXPIRE: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Default)]
pub(super) struct RrdDump {
    values: BTreeMap<Box<[u8]>, Value>,
    /// When old values were last dropped.
    pruned: Duration,
}

#[derive(Debug)]
struct Value {
    data: Box<[u8]>,
    set: Duration,
}

impl RrdDump {
    /// Keeps a value and says what is to be written to a file.
    pub(super) fn set(&mut self, key: &[u8], data: &[u8], now: Duration) -> Result<RrdUpdate, RrdKeyError> {
        // Nobody may ever ask for the dump: it must not grow with every guest that ever was.
        if now.saturating_sub(self.pruned) > EXPIRE {
            self.prune(now);
        }
        self.values.insert(key.into(), Value { data: data.into(), set: now });
        map_rrd(key, data)
    }

    fn prune(&mut self, now: Duration) {
        self.values.retain(|_, value| now.saturating_sub(value.set) <= EXPIRE);
        self.pruned = now;
    }

    /// A line a key.
    pub(super) fn text(&mut self, now: Duration) -> Vec<u8> {
        self.prune(now);
        let size = self.values.iter().map(|(key, value)| key.len() + value.data.len() + 2).sum();
        let mut text = Vec::with_capacity(size);
        for (key, value) in &self.values {
            text.extend_from_slice(key);
            text.push(b':');
            text.extend_from_slice(&value.data);
            text.push(b'\n');
        }
        text
    }
}
