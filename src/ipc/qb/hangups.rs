//! Watch on the sockets of clients with waiting requests. If a client hangs up, its request is woken and its
//! connection ends. Without the watch the connection would keep its place until the wait times out.
//!
//! The accepting thread polls the watch's descriptor beside its own; no thread is added.

use crate::ipc::server::{self, Wake};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most events handled at a time.
const BATCH: usize = 64;

/// The watched sockets of a server.
pub(crate) struct Hangups {
    epoll: Epoll,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    wakes: BTreeMap<u64, Wake>,
    next_id: u64,
}

/// A watched socket, until this is dropped.
pub(crate) struct Watch<'a> {
    hangups: &'a Hangups,
    socket: BorrowedFd<'a>,
    id: u64,
}

impl Hangups {
    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, watched: Mutex::default() })
    }

    /// Descriptor that is readable when [`Hangups::dispatch`] has work.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Calls `wake` once if the other end of `socket` hangs up or has done so. A socket is watched at most
    /// once at a time.
    ///
    /// # Errors
    /// If the kernel refuses one more watch.
    pub(crate) fn watch<'a>(&'a self, socket: BorrowedFd<'a>, wake: Wake) -> nix::Result<Watch<'a>> {
        let id = {
            let mut watched = self.lock();
            watched.next_id += 1;
            let id = watched.next_id;
            watched.wakes.insert(id, wake);
            id
        };
        // Doorbell bytes of the client make the socket readable; only a hang-up matters here.
        let events = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLONESHOT;
        let watch = Watch { hangups: self, socket, id };
        self.epoll.add(socket, EpollEvent::new(events, id))?;
        Ok(watch)
    }

    /// Wakes the requests whose clients have hung up.
    pub(crate) fn dispatch(&self) -> nix::Result<()> {
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        for event in &events[..count] {
            let wake = self.lock().wakes.remove(&event.data());
            if let Some(wake) = wake {
                wake();
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl server::Watch for Watch<'_> {}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.hangups.lock().wakes.remove(&self.id);
        // Fails only if adding the watch failed.
        let _ = self.hangups.epoll.delete(self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn counter() -> (Arc<AtomicU32>, Wake) {
        let count = Arc::<AtomicU32>::default();
        let counted = Arc::clone(&count);
        let wake = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (count, Arc::new(wake))
    }

    #[test]
    fn only_a_hangup_wakes_and_once() {
        let hangups = Hangups::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (count, wake) = counter();
        let watch = hangups.watch(ours.as_fd(), wake).unwrap();
        theirs.write_all(b"bell").unwrap();
        hangups.dispatch().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 0, "a doorbell byte is no hang-up");
        drop(theirs);
        hangups.dispatch().unwrap();
        hangups.dispatch().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(watch);
        let (again, wake) = counter();
        let watch = hangups.watch(ours.as_fd(), wake).unwrap();
        hangups.dispatch().unwrap();
        assert_eq!(again.load(Ordering::Relaxed), 1, "also one of before the watch");
        drop(watch);
        assert!(hangups.lock().wakes.is_empty());
    }

    #[test]
    fn dropped_watch_is_not_woken() {
        let hangups = Hangups::new().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (count, wake) = counter();
        drop(hangups.watch(ours.as_fd(), wake).unwrap());
        drop(theirs);
        hangups.dispatch().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
