//! Notifications to the kernel, written to the FUSE device.
//!
//! fuser has a notifier, too. It hides whether the kernel knew the name or inode of a notification, and lacks
//! [`Notification::Epoch`]. The invalidations of late replies need both; see [`LateReplies`](crate::fs::LateReplies).

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notification<'a> {
    /// Drops the attributes of an inode, and its pages from `offset` on. A length of 0 means up to the end; a
    /// negative offset drops no page.
    Inode { ino: u64, offset: i64, length: i64 },
    /// Drops a name in a directory.
    Entry { parent: u64, name: &'a [u8] },
    /// Stores bytes of a file in the page cache.
    Store { ino: u64, offset: u64, bytes: &'a [u8] },
    /// Expires all names, also those of replies to requests that the kernel sent before. Linux 6.16 and later.
    Epoch,
}

/// Replaces the sending of a notification in tests: returns `None` to send it, or its result.
pub type NotificationHook = Arc<dyn Fn(&Notification<'_>) -> Option<io::Result<()>> + Send + Sync>;

/// Sends notifications from the calling thread, which can block in the kernel.
pub(super) struct Notifier {
    device: File,
    hook: Option<NotificationHook>,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notifier")
    }
}

impl Notifier {
    /// A notifier on the device of a mount.
    pub(super) fn new(device: OwnedFd, hook: Option<NotificationHook>) -> Self {
        Self { device: device.into(), hook }
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// ENOENT if the kernel does not know the name or inode. ENODEV if the mount ended.
    pub(super) fn send(&self, notification: &Notification<'_>) -> io::Result<()> {
        if let Some(result) = self.hook.as_ref().and_then(|hook| hook(notification)) {
            return result;
        }
        let message = notification.encode();
        // The kernel takes a notification whole, or returns an error.
        (&self.device).write(&message).map(drop)
    }
}

impl Notification<'_> {
    /// Code of the kernel's interface.
    fn code(&self) -> i32 {
        match self {
            Self::Inode { .. } => 2,
            Self::Entry { .. } => 3,
            Self::Store { .. } => 4,
            Self::Epoch => 8,
        }
    }

    /// The message: a header with the total length and the code, then the body.
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Inode { ino, offset, length } => {
                body.extend(ino.to_ne_bytes());
                body.extend(offset.to_ne_bytes());
                body.extend(length.to_ne_bytes());
            }
            Self::Entry { parent, name } => {
                body.extend(parent.to_ne_bytes());
                body.extend(length_of(name));
                body.extend(0_u32.to_ne_bytes());
                body.extend_from_slice(name);
                body.push(0);
            }
            Self::Store { ino, offset, bytes } => {
                body.extend(ino.to_ne_bytes());
                body.extend(offset.to_ne_bytes());
                body.extend(length_of(bytes));
                body.extend(0_u32.to_ne_bytes());
                body.extend_from_slice(bytes);
            }
            Self::Epoch => {}
        }
        let mut message = Vec::with_capacity(HEADER + body.len());
        // Names and stored bytes are far shorter than 4 GiB.
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(self.code().to_ne_bytes());
        // No request has the number 0: this marks a notification.
        message.extend(0_u64.to_ne_bytes());
        message.append(&mut body);
        message
    }
}

/// Length of a message's header.
const HEADER: usize = 16;

fn length_of(bytes: &[u8]) -> [u8; 4] {
    (bytes.len() as u32).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::Notification;

    /// Numbers of a message, 32 bits each, and the bytes after them.
    fn words(message: &[u8], count: usize) -> (Vec<u32>, &[u8]) {
        let (words, rest) = message.split_at(4 * count);
        let word = |word: &[u8]| u32::from_ne_bytes(word.try_into().expect("four bytes"));
        (words.chunks(4).map(word).collect(), rest)
    }

    #[test]
    fn messages_are_encoded_for_the_kernel() {
        let low = usize::from(cfg!(target_endian = "big"));
        let entry = Notification::Entry { parent: 7, name: b"abc" }.encode();
        let (numbers, name) = words(&entry, 8);
        assert_eq!((numbers[0], numbers[1], numbers[4 + low], numbers[6]), (36, 3, 7, 3));
        assert_eq!(name, b"abc\0");
        let inode = Notification::Inode { ino: 7, offset: -1, length: 0 }.encode();
        let (numbers, rest) = words(&inode, 10);
        assert_eq!((numbers[0], numbers[1], numbers[4 + low], rest.len()), (40, 2, 7, 0));
        assert_eq!(numbers[6..8], [u32::MAX; 2]);
        let store = Notification::Store { ino: 7, offset: 9, bytes: b"x" }.encode();
        let (numbers, bytes) = words(&store, 10);
        assert_eq!((numbers[0], numbers[1], numbers[6 + low], numbers[8], bytes), (41, 4, 9, 1, &b"x"[..]));
        assert_eq!(words(&Notification::Epoch.encode(), 4).0[..2], [16, 8]);
    }
}
