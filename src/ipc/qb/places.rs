//! Admission of connections: limits on their number and memory, by user.
//!
//! Root is limited only by the resources of the process. Some places are reserved for root, and the last ones
//! for helpers of the daemon, such as the watchdog's probe. All other users have fair shares of the rest
//! ([`Shares`]).

use super::server::Options;
use super::{own, sigbus, wire};
use crate::ipc::server::{Peer, Refused};
use crate::ipc::shares::{Share, Shares};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::io;
use std::sync::Arc;

/// Descriptors that connections leave to the rest of the process, including peers without a request yet.
const DESCRIPTORS_SPARED: u64 = 256;
/// Descriptors of a connection: its socket, and its directory or its memory.
const DESCRIPTORS_EACH: u64 = 2;
/// Last places, reserved for processes that the daemon started.
const HELPERS: usize = 4;
/// Part of the machine's memory that connections of users other than root may use.
const MEMORY_PART: u64 = 4;

/// The places of a server.
#[derive(Debug)]
pub(crate) struct Places {
    /// Most connections.
    total: usize,
    /// Number of these reserved for root while it holds fewer.
    reserved: usize,
    connections: Arc<Shares>,
    memory: Arc<Shares>,
}

/// Current connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) all: usize,
    pub(crate) of_root: usize,
}

/// Shares of an admitted connection; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Place {
    _connection: Share,
    _memory: Share,
}

impl Places {
    /// As many places as the process and the machine allow, within the options.
    ///
    /// # Errors
    /// If the limit of open files cannot be read.
    pub(crate) fn new(options: &Options) -> io::Result<Self> {
        let memory = physical_memory().map_or(options.max_memory, |memory| memory / MEMORY_PART);
        Ok(Self::of(most_connections()?, memory.min(options.max_memory), options))
    }

    fn of(total: usize, memory: u64, options: &Options) -> Self {
        let reserved = options.reserved_for_root.min(total / 2);
        let others = total.saturating_sub(reserved + HELPERS).clamp(1, options.max_connections);
        Self {
            total,
            reserved,
            connections: Shares::new(others as u64, options.max_connections_per_user as u64),
            memory: Shares::new(memory, options.max_memory_per_user),
        }
    }

    /// Takes a place for one more connection of `peer` with messages of `message_size`. `count` are the
    /// existing connections.
    ///
    /// # Errors
    /// If the user's share, or that of all users, is used up.
    pub(crate) fn take(&self, peer: Peer, message_size: u32, count: Count) -> Result<Place, Refused> {
        let kept_for_root = if peer.uid == 0 { 0 } else { self.reserved.saturating_sub(count.of_root) };
        let taken = count.all + kept_for_root;
        let has_room = taken + HELPERS < self.total || (taken < self.total && is_helper(peer));
        if !has_room {
            return Err(Refused::TooMany);
        }
        let connection = self.connections.take(peer.uid, 1).ok_or(Refused::TooMany)?;
        let memory = self.memory.take(peer.uid, memory_of(message_size)).ok_or(Refused::Memory)?;
        Ok(Place { _connection: connection, _memory: memory })
    }
}

/// Shared memory that a connection may use: the rings of both directions.
fn memory_of(message_size: u32) -> u64 {
    let short =
        wire::ring_len(message_size, super::mapping::page_size()).map_or(u64::MAX, |len| 2 * len as u64);
    short.saturating_add(own::SHORT_LEN as u64)
}

/// Whether the daemon started this process. Called only when nearly all places are taken.
fn is_helper(peer: Peer) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", peer.pid)).unwrap_or_default();
    // The name before it may contain any characters, including parentheses.
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
    parent == Some(std::process::id())
}

/// Connections for which the process has descriptors.
fn most_connections() -> io::Result<usize> {
    let (open_files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = open_files.saturating_sub(DESCRIPTORS_SPARED) / DESCRIPTORS_EACH;
    Ok(usize::try_from(most).unwrap_or(usize::MAX).clamp(1, sigbus::SLOTS))
}

fn physical_memory() -> Option<u64> {
    let value = |name| u64::try_from(sysconf(name).ok()??).ok();
    value(SysconfVar::_PHYS_PAGES)?.checked_mul(value(SysconfVar::PAGE_SIZE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 1 << 20;

    fn peer(uid: u32) -> Peer {
        // No process has this number, so it is not a helper.
        Peer { pid: i32::MAX, uid, gid: 33 }
    }

    /// Connects users until each is refused. Returns their connections by user.
    fn fill(places: &Places, uids: &[u32], count: &mut Count) -> Vec<Vec<Place>> {
        let mut held: Vec<Vec<Place>> = uids.iter().map(|_| Vec::new()).collect();
        for (place, &uid) in held.iter_mut().zip(uids) {
            while let Ok(taken) = places.take(peer(uid), SIZE, *count) {
                place.push(taken);
                count.all += 1;
                count.of_root += usize::from(uid == 0);
            }
        }
        held
    }

    #[test]
    fn root_gets_in_beside_greedy_users() {
        let places =
            Places::of(1920, 1 << 40, &Options { max_memory_per_user: 1 << 40, ..Options::default() });
        let mut count = Count { all: 0, of_root: 0 };
        let held = fill(&places, &[33, 34, 35, 36, 37, 38], &mut count);
        let lens: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(lens[..3], [256; 3]);
        assert!(count.all < 1024 && lens.iter().all(|&len| len > 30), "{lens:?}");
        let root = fill(&places, &[0], &mut count);
        assert_eq!(count.all, 1920 - HELPERS, "all others can be root's: {}", root[0].len());
        let (own, now) = (std::process::id(), count);
        let helper = Peer { pid: std::os::unix::process::parent_id() as i32, ..peer(0) };
        assert!(places.take(helper, SIZE, now).is_err(), "the parent of process {own} is no helper");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let helper = Peer { pid: child.id() as i32, ..peer(0) };
        let admitted = places.take(helper, SIZE, now);
        let full = places.take(helper, SIZE, Count { all: 1920, ..now });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(admitted.is_ok() && full.is_err());
    }

    #[test]
    fn places_of_root_are_kept_when_few_files_may_be_open() {
        let places = Places::of(100, 1 << 40, &Options::default());
        let mut count = Count { all: 0, of_root: 0 };
        let _held = fill(&places, &[33, 34, 35, 36, 37], &mut count);
        assert!(count.all <= 46, "{count:?}");
        let _root = fill(&places, &[0], &mut count);
        assert!(count.of_root >= 50, "{count:?}");
    }

    #[test]
    fn memory_is_shared_too() {
        let options = Options { max_memory_per_user: 10 * memory_of(SIZE), ..Options::default() };
        let places = Places::of(1920, 100 * memory_of(SIZE), &options);
        let mut count = Count { all: 0, of_root: 0 };
        let held = fill(&places, &[33], &mut count);
        assert_eq!(held[0].len(), 10);
        assert!(matches!(places.take(peer(33), SIZE, count), Err(Refused::Memory)));
        assert!(places.take(peer(33), 12328, count).is_err(), "no small one either");
        assert!(places.take(peer(34), SIZE, count).is_ok() && places.take(peer(0), SIZE, count).is_ok());
    }
}
