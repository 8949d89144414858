//! What changed lately, for clients that want to hear of it. Events are numbered; a client tells the
//! number up to which it knows them, and gets those after it, or waits until there is one.
//!
//! Nothing is kept while nobody asks, and only the last events while somebody does: who comes too late
//! is told so. To keep an event is short, as it is done while the tree is locked.

use crate::clock::Clock;
use crate::memdb::{Inode, Invalidation, Name};
use crate::status::clusterlog::Entry;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Events that are kept.
const KEPT_MAX: usize = 4096;
/// A change that was among the last so many and that nobody has heard of yet is not noted again.
const REPEATS: usize = 16;
/// How long events are kept when nobody asks any more.
const LEASE: Duration = Duration::from_secs(90);
/// How long a client that waited goes on to wait for what comes along with the first event.
const GATHER: Duration = Duration::from_millis(20);
/// Numbers begin with the time, so that those of a daemon before this one are known to be of another, and
/// with the process for those of the same second. So they stay below 2^53, which every reader of JSON takes.
const NUMBERS_PER_SECOND: u64 = 1 << 21;
const NUMBERS_PER_PROCESS: u64 = 1 << 11;

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The contents of a file.
    Content(Inode),
    /// The attributes of an entry.
    Attributes(Inode),
    /// What a name in a directory means.
    Name(Inode, Name),
    /// Quorum was gained or lost.
    Quorum(bool),
    /// The node list, who is online, or an address.
    Members,
    /// A status value of a node was set or removed.
    Status { node: String, key: Vec<u8> },
    /// An entry of the cluster log.
    Logged(Entry),
}

/// The answer to who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What to ask with the next time.
    pub cursor: u64,
    /// Events between what was known and the first of these are not kept any more.
    pub lost: bool,
    /// In their order.
    pub news: Vec<News>,
}

/// The events.
#[derive(Debug)]
pub struct Changes {
    clock: Clock,
    /// The number of the first event.
    start: u64,
    /// Whether anything is kept. Only changed with the lock.
    wanted: AtomicBool,
    kept: Mutex<Kept>,
    happened: Condvar,
}

#[derive(Debug)]
struct Kept {
    /// The oldest first; the last has the number before `next`.
    news: VecDeque<News>,
    /// The number of the next event.
    next: u64,
    /// The highest number that somebody was told.
    told: u64,
    /// Who waits at this moment.
    waiting: usize,
    /// When somebody asked last.
    asked: Duration,
    closed: bool,
}

impl Kept {
    /// The number of the oldest event that is kept, or of the next.
    fn first(&self) -> u64 {
        self.next - self.news.len() as u64
    }
}

impl Changes {
    /// Nothing has changed yet.
    pub fn new(clock: Clock) -> Self {
        let process = u64::from(std::process::id()) * NUMBERS_PER_PROCESS % NUMBERS_PER_SECOND;
        let next = u64::from(clock.unix()) * NUMBERS_PER_SECOND + process;
        let kept = Kept {
            news: VecDeque::new(),
            next,
            told: next,
            waiting: 0,
            asked: Duration::ZERO,
            closed: false,
        };
        Self {
            clock,
            start: next,
            wanted: AtomicBool::new(false),
            kept: Mutex::new(kept),
            happened: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whole after every statement.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody wants to hear of anything; if not, there is no need to call [`Changes::note`].
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Notes the invalidations of a change of the tree.
    pub fn invalidated(&self, invalidations: &[Invalidation]) {
        if !self.is_wanted() {
            return;
        }
        for invalidation in invalidations {
            match invalidation {
                Invalidation::Entry { parent, name } => self.note(News::Name(*parent, name.clone())),
                Invalidation::Content { inode, .. } => self.note(News::Content(*inode)),
                Invalidation::Attributes { inode } => self.note(News::Attributes(*inode)),
                // Its name is invalidated as well.
                Invalidation::Removed { .. } => {}
            }
        }
    }

    /// Notes that something changed.
    pub fn note(&self, news: News) {
        if !self.is_wanted() {
            return;
        }
        let mut kept = self.lock();
        let unheard = usize::try_from(kept.next - kept.told).unwrap_or(usize::MAX);
        if kept.news.iter().rev().take(unheard.min(REPEATS)).any(|other| *other == news) {
            return;
        }
        if kept.waiting == 0 && self.clock.uptime().saturating_sub(kept.asked) > LEASE {
            kept.news.clear();
            self.wanted.store(false, Ordering::Relaxed);
        } else {
            if kept.news.len() >= KEPT_MAX {
                kept.news.pop_front();
            }
            kept.news.push_back(news);
        }
        kept.next += 1;
        drop(kept);
        self.happened.notify_all();
    }

    /// What happened after `cursor`; if that is nothing, waits for it, at most for `timeout`. The cursor 0
    /// is now, and is answered at once. At most `max` events are given at a time.
    pub fn wait(&self, cursor: u64, timeout: Duration, max: usize) -> Heard {
        self.wait_unless(&AtomicBool::new(false), cursor, timeout, max)
    }

    /// As [`Changes::wait`], but stops waiting once `gone` is set. To set it, also call [`Changes::wake`].
    pub fn wait_unless(&self, gone: &AtomicBool, cursor: u64, timeout: Duration, max: usize) -> Heard {
        let mut kept = self.lock();
        if !self.is_wanted() {
            self.wanted.store(true, Ordering::Relaxed);
            // What happened before now was not kept.
            kept.news.clear();
        }
        kept.asked = self.clock.uptime();
        // Other numbers are another daemon's.
        if !(self.start..=kept.next).contains(&cursor) {
            kept.told = kept.told.max(kept.next);
            return Heard { cursor: kept.next, lost: cursor != 0, news: Vec::new() };
        }
        kept.waiting += 1;
        let goes_on = |kept: &Kept| !kept.closed && !gone.load(Ordering::Acquire);
        let nothing = |kept: &mut Kept| kept.next == cursor && goes_on(kept);
        kept = self
            .happened
            .wait_timeout_while(kept, timeout, nothing)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if kept.next != cursor && !timeout.is_zero() {
            kept = self
                .happened
                .wait_timeout_while(kept, GATHER, |kept| goes_on(kept))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        kept.waiting -= 1;
        kept.asked = self.clock.uptime();
        let first = kept.first();
        let lost = cursor < first;
        let skip = usize::try_from(cursor.max(first) - first).unwrap_or(usize::MAX);
        let news: Vec<News> = kept.news.iter().skip(skip).take(max).cloned().collect();
        let cursor = cursor.max(first) + news.len() as u64;
        kept.told = kept.told.max(cursor);
        Heard { cursor, lost, news }
    }

    /// Wakes all waiters to check their `gone` flags.
    pub fn wake(&self) {
        // Under the lock, so that no waiter is between its check and its sleep.
        drop(self.lock());
        self.happened.notify_all();
    }

    /// Ends all waiting: the daemon stops.
    pub fn close(&self) {
        self.lock().closed = true;
        self.happened.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memdb::ByteRange;
    use std::sync::Arc;

    const SOON: Duration = Duration::from_millis(1);
    const LATE: Duration = Duration::from_secs(60);

    fn content(inode: Inode) -> Invalidation {
        Invalidation::Content { inode, range: ByteRange::ALL }
    }

    fn quorum(quorate: bool) -> News {
        News::Quorum(quorate)
    }

    #[test]
    fn who_asks_hears_what_came_after_it_asked_first() {
        let changes = Changes::new(Clock::start());
        changes.note(quorum(false));
        let start = changes.wait(0, LATE, 9);
        assert_eq!((start.lost, start.news.len()), (false, 0));
        assert_eq!(changes.wait(start.cursor, SOON, 9), start);
        changes.note(quorum(true));
        changes.note(News::Members);
        let heard = changes.wait(start.cursor, LATE, 1);
        assert_eq!((heard.lost, &heard.news[..]), (false, &[quorum(true)][..]));
        let heard = changes.wait(heard.cursor, LATE, 9);
        assert_eq!(heard.news, [News::Members]);
        assert_eq!(changes.wait(start.cursor, LATE, 9).news.len(), 2, "somebody else asks");
        assert_eq!(changes.wait(heard.cursor, SOON, 9).news, []);
    }

    #[test]
    fn a_repeated_change_is_one_until_somebody_heard_of_it() {
        let changes = Changes::new(Clock::start());
        let start = changes.wait(0, LATE, 9);
        (0..100).for_each(|_| {
            changes.invalidated(&[content(5), Invalidation::Attributes { inode: 6 }]);
        });
        let heard = changes.wait(start.cursor, LATE, 9);
        assert_eq!(heard.news, [News::Content(5), News::Attributes(6)]);
        changes.invalidated(&[content(5)]);
        assert_eq!(changes.wait(heard.cursor, LATE, 9).news, [News::Content(5)]);
    }

    #[test]
    fn who_is_too_late_or_comes_from_elsewhere_is_told() {
        let changes = Changes::new(Clock::start());
        let start = changes.wait(0, LATE, 9);
        for inode in 0..2 * KEPT_MAX as u64 {
            changes.note(News::Content(inode));
        }
        let heard = changes.wait(start.cursor, LATE, 1);
        assert_eq!((heard.lost, &heard.news[..]), (true, &[News::Content(KEPT_MAX as u64)][..]));
        for cursor in [1, u64::MAX, start.cursor - 1] {
            let heard = changes.wait(cursor, LATE, 9);
            assert_eq!((heard.lost, heard.news.len()), (true, 0), "{cursor}");
            assert!(!changes.wait(heard.cursor, SOON, 9).lost);
        }
    }

    #[test]
    fn nothing_is_kept_when_nobody_has_asked_for_long() {
        let (clock, forward) = Clock::forwardable();
        let changes = Changes::new(clock);
        let start = changes.wait(0, LATE, 9);
        changes.note(quorum(true));
        forward.by_seconds(LEASE.as_secs() + 1);
        changes.note(quorum(false));
        assert!(!changes.is_wanted());
        let heard = changes.wait(start.cursor, SOON, 9);
        assert_eq!((heard.lost, heard.news.len()), (true, 0));
        assert!(heard.cursor > start.cursor, "it goes on with what comes from now on");
        changes.note(quorum(true));
        assert_eq!(changes.wait(heard.cursor, LATE, 9).news, [quorum(true)]);
    }

    #[test]
    fn who_waits_is_woken_by_news_and_by_the_end() {
        let changes = Arc::new(Changes::new(Clock::start()));
        let start = changes.wait(0, LATE, 9);
        let waiter = || {
            let changes = Arc::clone(&changes);
            std::thread::spawn(move || changes.wait(start.cursor, Duration::from_secs(600), 9))
        };
        let waiting = waiter();
        changes.note(quorum(true));
        assert_eq!(waiting.join().expect("no panic").news, [quorum(true)]);
        let heard = changes.wait(start.cursor, LATE, 9);
        let changes = Arc::clone(&changes);
        let closer = Arc::clone(&changes);
        let waiting = std::thread::spawn(move || changes.wait(heard.cursor, Duration::from_secs(600), 9));
        closer.close();
        assert_eq!(waiting.join().expect("no panic").news, []);
    }
}
