//! The digests by which nodes compare their databases: the index, the checksum of the whole, and
//! that of one entry. Their bytes are protocol.

use super::{Entry, Inode, MemDb, NUMBER_MAX};
use sha2::{Digest, Sha256};

const HEADER_LEN: usize = 32;
const ENTRY_LEN: usize = 40;

/// What a node tells others of its database: the last change, and a digest of each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The database version.
    pub version: u64,
    /// The highest inode.
    pub last_inode: Inode,
    /// Who made the last change.
    pub writer: u32,
    /// When.
    pub mtime: u32,
    /// By rising inode.
    pub entries: Vec<IndexEntry>,
}

/// The digest of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    pub inode: Inode,
    pub digest: [u8; 32],
}

/// Bytes that are no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("index of {len} bytes is shorter than its header")]
    Short { len: usize },
    #[error("index of {len} bytes says it has {bytes} bytes and {size} entries")]
    Length { len: usize, bytes: u32, size: u32 },
    #[error("index lists inode {inode} out of order")]
    Order { inode: Inode },
    #[error("index says its highest inode is {last_inode}, which it is not")]
    LastInode { last_inode: Inode },
    #[error(
        "index of version {version} has an inode or a version above the highest that there can be ({NUMBER_MAX})"
    )]
    Range { version: u64 },
}

impl Index {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let len = HEADER_LEN + self.entries.len() * ENTRY_LEN;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.last_inode.to_le_bytes());
        bytes.extend_from_slice(&self.writer.to_le_bytes());
        bytes.extend_from_slice(&self.mtime.to_le_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(len as u32).to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.inode.to_le_bytes());
            bytes.extend_from_slice(&entry.digest);
        }
        bytes
    }

    /// The index in these bytes, which may be anything.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let len = bytes.len();
        let short = IndexError::Short { len };
        let (version, rest) = take_u64(bytes).ok_or(short)?;
        let (last_inode, rest) = take_u64(rest).ok_or(short)?;
        let (writer, rest) = take_u32(rest).ok_or(short)?;
        let (mtime, rest) = take_u32(rest).ok_or(short)?;
        let (size, rest) = take_u32(rest).ok_or(short)?;
        let (total, rest) = take_u32(rest).ok_or(short)?;
        let expected = HEADER_LEN as u64 + u64::from(size) * ENTRY_LEN as u64;
        if u64::from(total) != expected || len as u64 != expected {
            return Err(IndexError::Length { len, bytes: total, size });
        }
        let entries: Vec<IndexEntry> = rest.chunks_exact(ENTRY_LEN).filter_map(take_entry).collect();
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].inode >= pair[1].inode) {
            return Err(IndexError::Order { inode: pair[1].inode });
        }
        if entries.last().map_or(0, |entry| entry.inode) != last_inode {
            return Err(IndexError::LastInode { last_inode });
        }
        if version.max(last_inode) > NUMBER_MAX {
            return Err(IndexError::Range { version });
        }
        Ok(Self { version, last_inode, writer, mtime, entries })
    }
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*head), rest))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*head), rest))
}

fn take_entry(bytes: &[u8]) -> Option<IndexEntry> {
    let (inode, digest) = take_u64(bytes)?;
    Some(IndexEntry { inode, digest: digest.try_into().ok()? })
}

/// The index of a database. Digests are computed once for each state of an entry.
pub(super) fn index_of(db: &mut MemDb) -> Index {
    let all = std::iter::once(&mut db.root).chain(db.entries.values_mut());
    let entries: Vec<IndexEntry> = all
        .map(|entry| {
            let digest = match &entry.digest {
                Some(digest) => **digest,
                None => **entry.digest.insert(Box::new(index_digest(entry))),
            };
            IndexEntry { inode: entry.inode, digest }
        })
        .collect();
    Index {
        version: db.root.version,
        last_inode: entries.last().map_or(0, |entry| entry.inode),
        writer: db.root.writer,
        mtime: db.root.mtime,
        entries,
    }
}

/// The digest of an entry in the index. Its inode is not part of it: it stands beside it.
pub(super) fn index_digest(entry: &Entry) -> [u8; 32] {
    let mut sha = Sha256::new();
    add_fields(&mut sha, entry);
    sha.finalize().into()
}

/// The checksum of one entry, as locks use it.
pub(super) fn entry_checksum(entry: &Entry) -> [u8; 32] {
    let mut sha = Sha256::new();
    add_entry(&mut sha, entry);
    sha.finalize().into()
}

/// The checksum over all entries.
pub(super) fn database_checksum(db: &MemDb) -> [u8; 32] {
    let mut sha = Sha256::new();
    db.all_entries().for_each(|entry| add_entry(&mut sha, entry));
    sha.finalize().into()
}

pub(super) fn add_entry(sha: &mut Sha256, entry: &Entry) {
    sha.update(entry.inode.to_le_bytes());
    add_fields(sha, entry);
}

fn add_fields(sha: &mut Sha256, entry: &Entry) {
    sha.update(entry.version.to_le_bytes());
    sha.update(entry.writer.to_le_bytes());
    sha.update(entry.mtime.to_le_bytes());
    sha.update((entry.size() as u32).to_le_bytes());
    sha.update([entry.kind()]);
    sha.update(entry.parent.to_le_bytes());
    sha.update(&entry.name);
    if let Some(content) = entry.content() {
        sha.update(content.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::{Change, Limits, Stamp, TreePath, WriteAt};
    use std::time::Duration;

    fn apply(db: &mut MemDb, change: Change) {
        let stamp = Stamp { writer: 0, time: 1234 };
        db.apply(change, stamp, Limits::Enforced, Duration::ZERO).expect("applies");
    }

    #[test]
    fn check_value() {
        let mut db = MemDb::new();
        for number in 0..100 {
            let path = TreePath::from(format!("testfile{number}").as_str());
            apply(&mut db, Change::Create { path: path.clone() });
            apply(&mut db, Change::Write { path, at: WriteAt::Offset(0), data: vec![0; 32768] });
        }
        let index = db.index();
        assert_eq!((index.version, index.last_inode, index.entries.len()), (201, 200, 101));
        let bytes = index.encode();
        assert_eq!(bytes.len(), 4072);
        let expected = "913fd95015af9d93f10dd51ba2a7bb11351bcfe040be21e95fcba834adc3ec10";
        assert_eq!(format!("{:x}", Sha256::digest(&bytes)), expected);
        assert_eq!(Index::decode(&bytes), Ok(index));
    }

    #[test]
    fn digests_follow_changes() {
        let mut db = MemDb::new();
        apply(&mut db, Change::Create { path: "a".into() });
        apply(&mut db, Change::Mkdir { path: "d".into() });
        let before = db.index();
        apply(&mut db, Change::Rename { from: "a".into(), to: "d/b".into() });
        let after = db.index();
        assert_ne!(before.entries[1], after.entries[1]);
        assert_eq!(before.entries[2], after.entries[2]);
        assert_eq!(db.verify(), Ok(()));
    }

    #[test]
    fn hostile_bytes() {
        let mut db = MemDb::new();
        apply(&mut db, Change::Create { path: "a".into() });
        let good = db.index().encode();
        for len in 0..good.len() {
            assert!(Index::decode(&good[..len]).is_err(), "{len} bytes");
        }
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            Index::decode(&bad)
        };
        assert_eq!(with(8, &9u64.to_le_bytes()), Err(IndexError::LastInode { last_inode: 9 }));
        assert_eq!(with(24, &3u32.to_le_bytes()), Err(IndexError::Length { len: 112, bytes: 112, size: 3 }));
        assert_eq!(
            with(24, &u32::MAX.to_le_bytes()),
            Err(IndexError::Length { len: 112, bytes: 112, size: u32::MAX })
        );
        assert_eq!(with(28, &0u32.to_le_bytes()), Err(IndexError::Length { len: 112, bytes: 0, size: 2 }));
        assert_eq!(with(32, &2u64.to_le_bytes()), Err(IndexError::Order { inode: 2 }));
        assert!(Index::decode(&[good.as_slice(), b"x"].concat()).is_err());
    }
}
