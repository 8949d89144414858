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

/// Why nothing can be written for a key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RrdKeyError {
    #[error("unknown kind of key")]
    UnknownKey,
    #[error("the name after the kind is empty, too long, or has a part that is no file name")]
    BadName,
    #[error("the value has too few columns")]
    TooFewColumns,
    #[error("the value holds other bytes than printable ASCII without space")]
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
