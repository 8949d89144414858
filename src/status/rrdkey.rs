//! From an RRD key and value, in any of the formats that nodes of this or another version send, to
//! a round-robin file and the update for it. Pure text; files are made by [`crate::rrd`].

/// What is to be written to one round-robin file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RrdUpdate {
    pub schema: RrdSchema,
    /// Below the base directory: one directory per schema, then the name; two names for a storage.
    pub file: Vec<u8>,
    /// The time column, then the columns of the schema, separated by `:`.
    pub values: Vec<u8>,
}

/// Which data sources and archives a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RrdSchema {
    Node,
    Vm,
    Storage,
}

/// Why nothing can be written for a key and value. The key completes the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RrdKeyError {
    /// No kind begins like this.
    #[error("unknown/wrong key")]
    UnknownKey,
    /// The name is empty or too long, or has too many parts or one that is no file name.
    #[error("no file name in the unknown/wrong key")]
    BadName,
    #[error("too few columns in the value of key")]
    TooFewColumns,
    /// Other bytes than printable ASCII without space.
    #[error("unprintable bytes in the value of key")]
    BadValue,
}

/// How one kind of key maps to a file.
struct Kind {
    schema: RrdSchema,
    /// Prefix of the format before 9.0, with its slash.
    old: &'static [u8],
    /// Prefix of the format since 9.0, before the version.
    versioned: &'static [u8],
    /// The directory, which is also the key's first part in the present format.
    directory: &'static [u8],
    /// Live columns in front of the time column, which no file keeps.
    skipped: usize,
    /// Columns of the file.
    columns: usize,
    /// Columns of the format before 9.0.
    old_columns: usize,
    /// Names after the kind: node, VMID, or node and storage.
    names: usize,
}

const KINDS: [Kind; 3] = [
    Kind {
        schema: RrdSchema::Node,
        old: b"pve2-node/",
        versioned: b"pve-node-",
        directory: b"pve-node-9.0",
        skipped: 2,
        columns: 19,
        old_columns: 12,
        names: 1,
    },
    Kind {
        schema: RrdSchema::Vm,
        old: b"pve2.3-vm/",
        versioned: b"pve-vm-",
        directory: b"pve-vm-9.0",
        skipped: 4,
        columns: 17,
        old_columns: 10,
        names: 1,
    },
    Kind {
        schema: RrdSchema::Storage,
        old: b"pve2-storage/",
        versioned: b"pve-storage-",
        directory: b"pve-storage-9.0",
        skipped: 0,
        columns: 2,
        old_columns: 2,
        names: 2,
    },
];

/// A file name may have this many bytes.
const NAME_MAX: usize = 255;

impl RrdSchema {
    /// How many columns a file has, the time column not counted.
    pub fn columns(self) -> usize {
        let kind = KINDS.iter().find(|kind| kind.schema == self);
        kind.map_or(0, |kind| kind.columns)
    }
}

/// Maps a key (without `rrd/`) and its value (without NUL) to an update.
pub fn map_rrd(key: &[u8], value: &[u8]) -> Result<RrdUpdate, RrdKeyError> {
    let kind = KINDS.iter().find(|kind| key.starts_with(kind.old) || key.starts_with(kind.versioned));
    let kind = kind.ok_or(RrdKeyError::UnknownKey)?;
    let mut parts = key.splitn(2, |&byte| byte == b'/');
    let format = parts.next().unwrap_or_default();
    let name = parts.next().ok_or(RrdKeyError::BadName)?;
    if name.split(|&byte| byte == b'/').count() != kind.names
        || !name.split(|&byte| byte == b'/').all(is_file_name)
    {
        return Err(RrdKeyError::BadName);
    }
    let columns = after_columns(value, kind.skipped);
    if columns.is_empty() {
        return Err(RrdKeyError::TooFewColumns);
    }
    // They become a line of rrdcached's protocol.
    if !columns.iter().all(u8::is_ascii_graphic) {
        return Err(RrdKeyError::BadValue);
    }
    let file = [kind.directory, name].join(&b'/');
    Ok(RrdUpdate { schema: kind.schema, file, values: kind.fit(key, format, columns) })
}

impl Kind {
    /// The columns as the file wants them, time first.
    fn fit(&self, key: &[u8], format: &[u8], columns: &[u8]) -> Vec<u8> {
        if key.starts_with(self.old) {
            let padding = b":U".repeat(self.columns - self.old_columns);
            return [columns, &padding].concat();
        }
        if format == self.directory {
            return columns.to_vec();
        }
        // A newer version may only have appended columns.
        let known = columns.split(|&byte| byte == b':').take(1 + self.columns);
        known.collect::<Vec<_>>().join(&b':')
    }
}

/// What follows the first `count` columns and their separators; empty when there is no more.
fn after_columns(value: &[u8], count: usize) -> &[u8] {
    let mut rest = value;
    for _ in 0..count {
        match rest.iter().position(|&byte| byte == b':') {
            Some(at) => rest = rest.get(at + 1..).unwrap_or_default(),
            None => return &[],
        }
    }
    rest
}

fn is_file_name(name: &[u8]) -> bool {
    let fits = (1..=NAME_MAX).contains(&name.len());
    fits && name != b"." && name != b".." && !name.iter().any(u8::is_ascii_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(key: &str, value: &str) -> Result<(RrdSchema, String, String), RrdKeyError> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        map_rrd(key.as_bytes(), value.as_bytes())
            .map(|update| (update.schema, text(update.file), text(update.values)))
    }

    /// So many columns, numbered, behind so many live ones and the time.
    fn value(live: usize, columns: usize) -> String {
        let live = "live:".repeat(live);
        (1..=columns).fold(format!("{live}1700000000"), |value, column| format!("{value}:{column}"))
    }

    #[test]
    fn the_present_formats() {
        let cases = [
            ("pve-node-9.0/n1", 2, 19, RrdSchema::Node, "pve-node-9.0/n1"),
            ("pve-vm-9.0/100", 4, 17, RrdSchema::Vm, "pve-vm-9.0/100"),
            ("pve-storage-9.0/n1/local", 0, 2, RrdSchema::Storage, "pve-storage-9.0/n1/local"),
        ];
        for (key, live, columns, schema, file) in cases {
            let mapped = map(key, &value(live, columns)).unwrap();
            assert_eq!(mapped, (schema, file.to_owned(), value(0, columns)));
            // Too many or too few are for librrd to refuse.
            assert_eq!(map(key, &value(live, columns + 1)).unwrap().2, value(0, columns + 1));
        }
    }

    #[test]
    fn older_formats_are_filled_up() {
        let unknown = ":U".repeat(7);
        let cases = [
            ("pve2-node/n1", value(2, 12), "pve-node-9.0/n1", value(0, 12) + &unknown),
            ("pve2.3-vm/100", value(4, 10), "pve-vm-9.0/100", value(0, 10) + &unknown),
            ("pve2-storage/n1/local", value(0, 2), "pve-storage-9.0/n1/local", value(0, 2)),
        ];
        for (key, given, file, values) in cases {
            let mapped = map(key, &given).unwrap();
            assert_eq!((mapped.1.as_str(), mapped.2), (file, values));
        }
    }

    /// Also when they have not a column more: stock loses the last digit then.
    #[test]
    fn newer_formats_are_cut() {
        for more in [0, 1, 5] {
            let node = map("pve-node-9.9/n1", &value(2, 19 + more)).unwrap();
            assert_eq!((node.1.as_str(), node.2), ("pve-node-9.0/n1", value(0, 19)));
            let vm = map("pve-vm-10.0/100", &value(4, 17 + more)).unwrap();
            assert_eq!((vm.1.as_str(), vm.2), ("pve-vm-9.0/100", value(0, 17)));
            let storage = map("pve-storage-9.00/n1/s", &value(0, 2 + more)).unwrap();
            assert_eq!((storage.1.as_str(), storage.2), ("pve-storage-9.0/n1/s", value(0, 2)));
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for key in ["", "n1", "pve9-bogus/1", "pve2-vm/100", "pve2-node", "/pve-node-9.0/n1", "pve2.3-node/n"]
        {
            assert_eq!(map(key, &value(4, 19)), Err(RrdKeyError::UnknownKey), "{key}");
        }
        let long = format!("pve-node-9.0/{}", "n".repeat(256));
        let bad = [
            "pve2-node/",
            "pve-node-9.0",
            "pve-node-9.0/",
            "pve-node-9.0/..",
            "pve-node-9.0/.",
            "pve-node-9.0/a/b",
            "pve-node-/../x",
            "pve-vm-9.0/100/",
            "pve-vm-9.0//100",
            "pve-storage-9.0/n1",
            "pve-storage-9.0/n1/",
            "pve-storage-9.0//s",
            "pve-storage-9.0/../s",
            "pve-storage-9.0/n1/s/t",
            "pve-node-9.0/a\nb",
            &long,
        ];
        for key in bad {
            assert_eq!(map(key, &value(4, 19)), Err(RrdKeyError::BadName), "{key}");
        }
    }

    #[test]
    fn other_values_are_refused() {
        for bad in ["a:b:1:2\nFLUSHALL", "a:b:1:2 3", "a:b:1:\u{e4}", "a:b:1:\0"] {
            assert_eq!(map("pve-node-9.0/n1", bad), Err(RrdKeyError::BadValue), "{bad:?}");
        }
        for short in ["", "1", "1:2", "1:2:"] {
            assert_eq!(map("pve2-node/n1", short), Err(RrdKeyError::TooFewColumns), "{short}");
        }
        // What is not archived is nobody's business: names of guests may be any.
        assert_eq!(map("pve-vm-9.0/100", "1:ä b:x:0:1:2").unwrap().2, "1:2");
    }
}
