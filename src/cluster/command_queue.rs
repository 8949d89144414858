//! Command queue of the cluster thread, with an eventfd that wakes the thread. A push never waits for corosync.

use crate::engine::Proposal;
use crate::status_group::wire::Request as StatusRequest;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// Status messages that may wait for the group. They are told again at every sync, so the oldest can
/// be dropped.
const STATUS_MAX: usize = 4096;

/// Beyond this many commands nobody's lock is asked to be removed: who wants it asks again.
const EXPIRE_MAX: usize = 4096;

/// What the thread is asked for.
pub(super) enum Command {
    /// A change of the tree, by a local caller.
    Propose(Proposal),
    /// Ask the group to remove a lock if it has expired.
    ExpireLock { path: crate::memdb::TreePath, checksum: [u8; 32] },
    /// Send a value or a log entry to the other nodes.
    Status(StatusRequest),
    /// Leave the groups and end.
    Stop,
}

/// The queue and its eventfd.
pub(super) struct CommandQueue {
    queue: Mutex<Queue>,
    wakeup: EventFd,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    status_count: usize,
    /// Nobody takes anything any more.
    closed: bool,
}

impl CommandQueue {
    pub(super) fn new() -> nix::Result<Self> {
        let wakeup = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), wakeup })
    }

    /// Leaves a command; gives it back when nobody will take it.
    pub(super) fn push(&self, command: Command) -> Result<(), Command> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(command);
        }
        if matches!(command, Command::ExpireLock { .. }) && queue.commands.len() >= EXPIRE_MAX {
            return Ok(());
        }
        if matches!(command, Command::Status(_)) {
            queue.status_count += 1;
            if queue.status_count > STATUS_MAX {
                queue.drop_oldest_status();
            }
        }
        queue.commands.push_back(command);
        drop(queue);
        self.wake();
        Ok(())
    }

    /// Takes all that was left so far.
    pub(super) fn take(&self) -> VecDeque<Command> {
        // Empty is as good as rung: the queue is looked at anyway.
        let _ = self.wakeup.read();
        let mut queue = self.lock();
        queue.status_count = 0;
        std::mem::take(&mut queue.commands)
    }

    /// Takes what is left; from now on nothing can be left.
    pub(super) fn close(&self) -> VecDeque<Command> {
        let mut queue = self.lock();
        queue.closed = true;
        std::mem::take(&mut queue.commands)
    }

    /// Wakes who takes.
    pub(super) fn wake(&self) {
        // Full means that it was rung already.
        let _ = self.wakeup.write(1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for CommandQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}

impl Queue {
    fn drop_oldest_status(&mut self) {
        let oldest = self.commands.iter().position(|command| matches!(command, Command::Status(_)));
        if let Some(oldest) = oldest {
            self.commands.remove(oldest);
            self.status_count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(number: usize) -> Command {
        Command::Status(StatusRequest::Value { key: number.to_string().into_bytes(), value: Vec::new() })
    }

    #[test]
    fn status_messages_are_bounded_and_the_oldest_go() {
        let commands = CommandQueue::new().expect("eventfd");
        assert!(commands.push(Command::Stop).is_ok());
        for number in 0..STATUS_MAX + 3 {
            assert!(commands.push(status(number)).is_ok());
        }
        let taken = commands.take();
        assert_eq!(taken.len(), STATUS_MAX + 1);
        assert!(matches!(&taken[0], Command::Stop));
        assert!(matches!(&taken[1], Command::Status(StatusRequest::Value { key, .. }) if key == b"3"));
        assert!(commands.take().is_empty());
    }

    #[test]
    fn requests_to_remove_locks_are_bounded() {
        let commands = CommandQueue::new().expect("eventfd");
        for _ in 0..EXPIRE_MAX + 3 {
            assert!(
                commands.push(Command::ExpireLock { path: "priv/lock/x".into(), checksum: [0; 32] }).is_ok()
            );
        }
        assert_eq!(commands.take().len(), EXPIRE_MAX);
    }

    #[test]
    fn a_closed_inbox_gives_back_what_is_left() {
        let commands = CommandQueue::new().expect("eventfd");
        assert!(commands.push(status(1)).is_ok());
        assert_eq!(commands.close().len(), 1);
        assert!(commands.push(status(2)).is_err());
    }
}
