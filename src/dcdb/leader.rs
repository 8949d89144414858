//! After a membership change: whose database counts, who has it already, and what the others lack.

use super::{Dcdb, wire};
use crate::dfsm::{Leave, Member, MemberId, Pieces, Port};
use crate::memdb::{Index, Inode, MemDb};
use std::collections::BTreeSet;

/// Bytes of entries in one update, unless a single one has more. What corosync sends at once is not
/// longer than 64 KiB.
const PACK_BYTES: usize = 60 << 10;

/// Marks who is synced; when this node leads, sends what the others lack. Returns the leader
/// and its index.
pub(super) fn process_states(
    store: &MemDb,
    members: &mut [Member],
    port: &mut Port<'_, Dcdb>,
) -> Result<(MemberId, Index), Leave> {
    let mut indexes = Vec::with_capacity(members.len());
    for member in members.iter() {
        match Index::decode(member.state.as_deref().unwrap_or_default()) {
            Ok(index) => indexes.push(index),
            Err(error) => {
                port.critical(format!("state of {}: {error}", member.id));
                return Err(Leave);
            }
        }
    }
    let leader = select_leader(&indexes).ok_or(Leave)?;
    let leader_index = indexes.swap_remove(leader);
    let leader_state = members.get(leader).and_then(|member| member.state.clone());
    let leader_id = members.get(leader).map(|member| member.id).ok_or(Leave)?;
    port.info(format!("leader is {leader_id}"));

    let mut synced = vec![leader_id.to_string()];
    for (at, member) in members.iter_mut().enumerate() {
        member.synced = member.state == leader_state;
        if member.synced && at != leader {
            synced.push(member.id.to_string());
        }
    }
    port.info(format!("synced members: {}", synced.join(", ")));
    if leader_id == port.local() {
        send_updates(store, &leader_index, &indexes, port)?;
    }
    Ok((leader_id, leader_index))
}

/// The highest version, among those the latest change, among those the first in the order of
/// members.
fn select_leader(indexes: &[Index]) -> Option<usize> {
    let rank = |index: &Index| (index.version, index.mtime);
    let mut leader: Option<(usize, &Index)> = None;
    for (at, index) in indexes.iter().enumerate() {
        if leader.is_none_or(|(_, best)| rank(index) > rank(best)) {
            leader = Some((at, index));
        }
    }
    leader.map(|(at, _)| at)
}

/// Sends every entry that any other member lacks or has differently: each in a message of its own, or
/// as many in one as fit where all members understand that.
fn send_updates(
    store: &MemDb,
    own: &Index,
    others: &[Index],
    port: &mut Port<'_, Dcdb>,
) -> Result<(), Leave> {
    let wanted: BTreeSet<Inode> = others.iter().flat_map(|other| lacking(own, other)).collect();
    let most = if port.common().has(wire::PACKED) { PACK_BYTES } else { 0 };
    port.info("start sending inode updates");
    let mut payload = Pieces::default();
    for inode in &wanted {
        let Some(entry) = store.get(*inode) else {
            port.critical(format!("inode {inode} is in our index but not in the tree"));
            return Err(Leave);
        };
        if !payload.is_empty() && payload.len() + wire::update_len(entry) > most {
            port.send_update(std::mem::take(&mut payload));
        }
        wire::encode_update(entry, &mut payload);
    }
    if !payload.is_empty() {
        port.send_update(payload);
    }
    port.info(format!("sent all ({}) updates", wanted.len()));
    port.send_update_complete();
    Ok(())
}

/// What of `own` is not the same in `other`. Both are sorted by inode.
fn lacking<'a>(own: &'a Index, other: &'a Index) -> impl Iterator<Item = Inode> + 'a {
    let mut theirs = other.entries.iter().peekable();
    own.entries.iter().filter_map(move |entry| {
        while theirs.next_if(|their| their.inode < entry.inode).is_some() {}
        let same = theirs.next_if(|their| their.inode == entry.inode).is_some_and(|their| their == entry);
        (!same).then_some(entry.inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::IndexEntry;

    fn index(version: u64, mtime: u32, entries: &[(Inode, u8)]) -> Index {
        let entries = entries.iter().map(|&(inode, digest)| IndexEntry { inode, digest: [digest; 32] });
        Index { version, last_inode: 0, writer: 1, mtime, entries: entries.collect() }
    }

    #[test]
    fn the_leader_has_the_highest_version_then_the_latest_change_then_comes_first() {
        for (ranks, leader) in [
            (&[(3, 9), (4, 1), (4, 1)][..], 1),
            (&[(4, 1), (4, 2), (3, 9)], 1),
            (&[(4, 2), (4, 2), (4, 1)], 0),
            (&[(1, 0)], 0),
        ] {
            let indexes: Vec<Index> =
                ranks.iter().map(|&(version, mtime)| index(version, mtime, &[])).collect();
            assert_eq!(select_leader(&indexes), Some(leader), "{ranks:?}");
        }
        assert_eq!(select_leader(&[]), None);
    }

    #[test]
    fn what_is_lacking() {
        let own = index(9, 0, &[(0, 1), (2, 1), (5, 1), (7, 1)]);
        let other = index(8, 0, &[(0, 9), (2, 1), (4, 1), (7, 2), (8, 1)]);
        assert_eq!(lacking(&own, &other).collect::<Vec<_>>(), [0, 5, 7]);
        assert_eq!(lacking(&own, &index(1, 0, &[])).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(lacking(&own, &own).count(), 0);
    }
}
