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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_values_are_listed() {
        let at = Duration::from_secs;
        let mut dump = RrdDump::default();
        assert_eq!(dump.text(at(0)), b"");
        assert!(dump.set(b"pve-vm-9.0/100", b"1:a:b:0:5:1", at(10)).is_ok());
        assert!(dump.set(b"bogus", b"x:y", at(20)).is_err());
        let both = b"bogus:x:y\npve-vm-9.0/100:1:a:b:0:5:1\n";
        assert_eq!(dump.text(at(20)), both);
        assert_eq!(dump.text(at(310)), both);
        assert_eq!(dump.text(at(311)), b"bogus:x:y\n");
        assert!(dump.set(b"bogus", b"z", at(300)).is_err());
        assert_eq!(dump.text(at(600)), b"bogus:z\n");
        assert_eq!(dump.text(at(601)), b"");
    }

    #[test]
    fn old_values_go_without_being_asked_for() {
        let mut dump = RrdDump::default();
        for second in 0..2000u64 {
            let _ = dump.set(format!("key/{second}").as_bytes(), b"x", Duration::from_secs(second));
        }
        assert!(dump.values.len() <= 603, "{}", dump.values.len());
    }
}
